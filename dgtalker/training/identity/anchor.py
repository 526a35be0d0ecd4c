"""Refinement of the anchor: after leakage removal, w_can is fitted to all training frames.

Until then w_can was the head of a few frames at rest. Hair and light of other recording days, which no coefficient may
follow, are averaged here. The expression coordinates are not changed: the anchor stays at rest with closed lips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import ShuffledIndices


@dataclass(frozen=True)
class AnchorConfig:
    """Optimisation of w_can."""

    steps: int = 120
    batch: int = 2  # frames per step
    rate: float = 0.01  # learning rate, standard deviations
    seed: int = 11  # of the frames' order


def refine_anchor(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    coefficients: tuple[Tensor, Tensor],
    frames: DatasetFrames,
    render: Callable,
    config: AnchorConfig,
    regional: bool = True,
) -> float | None:
    """Optimise navigation.w_can in place for the squared error of all frames; returns the error's running mean.

    coefficients: a_exp [T, ke], a_lip [T, kl] of the training frames. regional: see regional_head.py.
    """
    step = torch.zeros_like(navigation.w_can, requires_grad=True)
    free = torch.ones_like(step)
    free[generator.slices["expression"]] = 0
    optimizer = torch.optim.Adam([step], lr=config.rate)
    head = RegionalHead(generator, navigation, regional)
    order = ShuffledIndices(len(frames), config.seed)
    mean: float | None = None
    for number in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.rate * (1 - number / config.steps)
        rows = order.next_indices(config.batch)
        splats = head(coefficients[0][rows], coefficients[1][rows], free * step * navigation.w_scale)
        error = torch.zeros_like(step[0])
        for k, row in enumerate(rows):
            image = render(splats[k], frames.cameras([row]))[0][0]
            error = error + (image - frames.read_images("images", [row])[0]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        value = float(error.detach()) / config.batch
        mean = value if mean is None else 0.95 * mean + 0.05 * value
    navigation.w_can += (free * step * navigation.w_scale).detach()
    return mean
