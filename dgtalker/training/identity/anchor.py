"""After purification: the anchor settles on all training frames, driven by their own sound and blinks.

Until then w_can was the head of a few frames at rest; hair and light of the other days, which no coefficient may
follow, have to be met half-way. The expression's coordinates stay: the anchor remains at rest, its lips closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.navigation.model import Navigation
from dgtalker.training.identity.frames import Frames
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import Shuffle


@dataclass(frozen=True)
class AnchorConfig:
    """Refinement of w_can."""

    steps: int = 240
    batch: int = 3  # frames a step
    rate: float = 0.01  # standard deviations
    seed: int = 11  # of the frames' order


def refine_anchor(
    navigation: Navigation,
    generator: Generator,
    coefficients: tuple[Tensor, Tensor],
    frames: Frames,
    render: Callable,
    config: AnchorConfig,
    regional: bool = True,
) -> float:
    """Move navigation.w_can in place to the least mean square error of all frames' pictures; the last error's mean.

    coefficients: a_exp [T, ke], a_lip [T, kl] of the training frames. regional: see driven.py.
    """
    step = torch.zeros_like(navigation.w_can, requires_grad=True)
    free = torch.ones_like(step)
    free[generator.slices["expression"]] = 0
    optimizer = torch.optim.Adam([step], lr=config.rate)
    driven = RegionalHead(generator, navigation, regional)
    order, mean = Shuffle(len(frames), config.seed), None
    for number in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.rate * (1 - number / config.steps)
        rows = order.next_indices(config.batch)
        splats = driven(coefficients[0][rows], coefficients[1][rows], free * step * navigation.w_scale)
        error = sum(
            (render(splats[k], frames.camera([row]))[0][0] - frames.read("images", [row])[0]).square().mean()
            for k, row in enumerate(rows)
        )
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        value = float(error.detach()) / config.batch
        mean = value if mean is None else 0.95 * mean + 0.05 * value
    navigation.w_can += (free * step * navigation.w_scale).detach()
    return mean
