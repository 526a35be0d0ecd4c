"""Leakage removal: take out of each direction what it still does to the other region's picture.

Training on one picture pair a step leaves faint traces: a lip direction may change the rim of the hair by a fraction of
a grey level. The pictures' response to each coordinate of W is measured under the data set's masks. The bases are then
moved until these traces are gone, with as little change as possible in their own region; they stay one QR factor.
A plain cheek can slide without a trace in the picture, so the motion of the splats counts as well.
Hair belongs to neither region: it differs between the days of a recording, and speech must not move it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.warm_start import Response
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.response import measure_picture_response


@dataclass(frozen=True)
class LeakageRemovalConfig:
    """Optimisation of the bases against the measured response of pictures and splats."""

    states: int = 4  # heads around which the response is measured: the anchor and heads of training frames
    steps: int = 2500
    rate: float = 2e-3
    leakage_weight: float = 6.0  # of what a direction does to the other region, against changes in its own
    motion_weight: float = 0.5  # of the splats' response beside the picture's
    change_weight: float = 0.01  # of the change of the directions themselves
    probe: float = 0.5  # standard deviations of the finite differences


def remove_leakage(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    coefficients: tuple[Tensor, Tensor],
    frames: DatasetFrames,
    render: Callable,
    config: LeakageRemovalConfig,
    response: Response,
) -> dict[str, float]:
    """Move the directions of `navigation` in place.

    coefficients (a_exp [T, ke], a_lip [T, kl]) of the training frames say how far each direction is used; response is
    that of the splats of upper and lower face.

    Returns the squared leakage before and after: change of the other region over change of a direction's own.
    """
    blendshapes = navigation.blendshapes
    upper, lower, hair = measure_picture_response(
        navigation, generator, coefficients, frames, render, config.states, config.probe
    )
    spread = torch.cat([a.std(dim=0) for a in coefficients])  # [K]
    start = (blendshapes.directions() * blendshapes.scales * spread).detach()
    n_exp = blendshapes.n_exp

    def energy(metric: Tensor, steps: Tensor) -> Tensor:
        return (steps * (metric @ steps)).sum()

    # Everything is in units of what each branch does to its own region.
    own = energy(upper, start[:, :n_exp]), energy(lower, start[:, n_exp:])
    moves = energy(response.upper, start[:, :n_exp]), energy(response.lower, start[:, n_exp:])
    upper_own = upper / own[0] + config.motion_weight * response.upper / moves[0]
    lower_own = lower / own[1] + config.motion_weight * response.lower / moves[1]
    exp_leak = (lower + hair) / own[0] + config.motion_weight * response.lower / moves[0]
    lip_leak = (upper + hair) / own[1] + config.motion_weight * response.upper / moves[1]

    def leaks(b: Tensor) -> tuple[Tensor, Tensor]:
        return energy(exp_leak, b[:, :n_exp]), energy(lip_leak, b[:, n_exp:])

    before = [float(x) for x in leaks(start)]
    blendshapes.raw.requires_grad_(True)
    optimizer = torch.optim.Adam([blendshapes.raw], lr=config.rate)
    size = start.square().sum()
    for number in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.rate * (1 - number / config.steps)
        b = blendshapes.directions() * blendshapes.scales * spread
        change = b - start
        kept = energy(upper_own, change[:, :n_exp]) + energy(lower_own, change[:, n_exp:])
        loss = kept + config.leakage_weight * sum(leaks(b)) + config.change_weight * change.square().sum() / size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    blendshapes.raw.requires_grad_(False)
    with torch.no_grad():
        after = [float(x) for x in leaks(blendshapes.directions() * blendshapes.scales * spread)]
    return {
        "exp_to_lower_before": before[0], "exp_to_lower": after[0],
        "lip_to_upper_before": before[1], "lip_to_upper": after[1], "kept": float(kept.detach()),
    }  # fmt: skip
