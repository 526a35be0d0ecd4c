"""A first speaking head, minutes after the start: from the generator early in its tuning, without training on pictures.

Lips and lids are the linear solution for the tracked expressions (steps 1 to 3 of navigation.py) with few coefficients,
and the head is baked from few samples. It shows whether the right person with the right mouth is on the way.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from dgtalker.head.baked import BakedHead
from dgtalker.head.generator import Generator
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.speech_backbone import SpeechBackbone
from dgtalker.training.identity.articulation import ArticulationConfig
from dgtalker.training.identity.baking import BakingConfig, bake_head
from dgtalker.training.identity.coefficient_axes import training_coefficients
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.inversion import Pivots, tracked_deviation
from dgtalker.training.identity.navigation import finish_navigation, train_navigation
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.identity.response import measure_splat_response
from dgtalker.training.stage import Stage

STEPS = 150  # of the warm start
COEFFICIENTS = 4, 6  # of expression and lips, at most
SAMPLES, HELD_OUT = 160, 4  # of baking


def make_preview(
    generator: Generator,
    pivots: Pivots,
    frames: DatasetFrames,
    silence: Tensor,
    config: NavigationTrainingConfig,
    baking: BakingConfig,
    backbone: SpeechBackbone | None,
    stage: Stage,
) -> tuple[BakedHead, Navigation, dict, Tensor]:
    """The baked head, its navigation, the figures of baking, and the coefficients [T, K] of the training frames.

    Generator and pivots are not changed. config, baking: those of the run; the preview takes less of everything.
    """
    generator = copy.deepcopy(generator).requires_grad_(False)
    w_can, deviations = pivots.w_can.detach(), tracked_deviation(generator, frames, torch.arange(len(frames)))
    config = replace(
        config, n_exp=min(COEFFICIENTS[0], config.n_exp), n_lip=min(COEFFICIENTS[1], config.n_lip), w_plus=False,
        warm_steps=min(STEPS, config.warm_steps), image_steps=0, leakage_removal=None, anchor=None,
        articulation=ArticulationConfig(frames=48),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):  # the run goes on as if there had been no preview
        response = measure_splat_response(generator, w_can, torch.ones(len(generator.texel_part)).to(w_can), deviations)
        navigation = train_navigation(
            generator, w_can, deviations, response, frames, silence, config, stage.substage(0.0, 0.6), backbone
        )
        navigation = finish_navigation(navigation, generator, response, frames, config, stage)
        coefficients = torch.cat(training_coefficients(navigation, frames), dim=-1)
        head = RegionalHead(generator, navigation, regional=True)
        smaller = replace(baking, samples=min(SAMPLES, baking.samples), held_out=min(HELD_OUT, baking.held_out))
        baked, figures = bake_head(head, coefficients, smaller, stage.substage(0.6, 1.0))
    return baked, navigation, figures, coefficients
