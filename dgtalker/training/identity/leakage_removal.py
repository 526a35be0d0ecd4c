"""The last step of navigation: take out of each direction what it still does to the other region's picture.

Training on one picture pair a step leaves faint traces: a lip direction that touches the hair's rim by a fraction of a
grey level. The picture's answer to every coordinate of w is measured under the data set's own masks, and the bases are
moved as little as possible in what they do to their own region until the trace is gone; they stay one QR factor.
A plain cheek can slide without a trace in the picture, so the motion of the splats counts as well.
Hair belongs to nobody: it differs between the days of a recording, and speech must not comb it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.head.generator import Generator
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.warm_start import Response
from dgtalker.training.identity.frames import Frames

POOL = 4  # pixels: the answers are compared at a quarter of the resolution


@dataclass(frozen=True)
class LeakageRemovalConfig:
    """Cleaning the bases with the measured answer of pictures."""

    states: int = 4  # heads around which the answer is measured: the anchor and heads met in training
    steps: int = 2500
    rate: float = 2e-3
    other: float = 6.0  # weight of what a direction does to the other region, against changes in its own
    motion: float = 0.5  # weight of the splats' answer beside the picture's
    stay: float = 0.01  # weight of the change of the directions themselves
    probe: float = 0.5  # standard deviations of the finite differences


def remove_leakage(
    navigation: Navigation,
    generator: Generator,
    coefficients: tuple[Tensor, Tensor],
    frames: Frames,
    render: Callable,
    config: LeakageRemovalConfig,
    response: Response,
) -> dict[str, float]:
    """Move the directions of `navigation` in place; coefficients (a_exp [T,ke], a_lip [T,kl]) say how they are used,
    response how the splats of upper and lower face answer to steps.

    Returns the squared leakage before and after: what directions do to the other region over what they do to their own.
    """
    blendshapes = navigation.blendshapes
    upper, lower, hair = picture_response(navigation, generator, coefficients, frames, render, config)
    spread = torch.cat([a.std(dim=0) for a in coefficients])  # [K]
    start = (blendshapes.directions() * blendshapes.scales * spread).detach()
    n_exp = blendshapes.n_exp

    def energy(metric: Tensor, steps: Tensor) -> Tensor:
        return (steps * (metric @ steps)).sum()

    # In units of what each branch does to its own region.
    own = energy(upper, start[:, :n_exp]), energy(lower, start[:, n_exp:])
    moves = energy(response.upper, start[:, :n_exp]), energy(response.lower, start[:, n_exp:])
    upper_own = upper / own[0] + config.motion * response.upper / moves[0]
    lower_own = lower / own[1] + config.motion * response.lower / moves[1]
    exp_leak = (lower + hair) / own[0] + config.motion * response.lower / moves[0]
    lip_leak = (upper + hair) / own[1] + config.motion * response.upper / moves[1]

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
        loss = kept + config.other * sum(leaks(b)) + config.stay * change.square().sum() / size
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


@torch.no_grad()
def picture_response(
    navigation: Navigation,
    generator: Generator,
    coefficients: tuple[Tensor, Tensor],
    frames: Frames,
    render: Callable,
    config: LeakageRemovalConfig,
) -> tuple[Tensor, Tensor, Tensor]:
    """M_up, M_low, M_hair [W, W]: squared change of the pooled picture in the upper face, the lower face and the hair
    for whitened steps, mean over states."""
    a_exp, a_lip = coefficients
    rows = torch.linspace(0, len(a_exp) - 1, config.states + 1)[1:].long().tolist()
    total = [0.0, 0.0, 0.0]
    for number, row in enumerate(rows):
        w = navigation.latent(a_exp[[row]], a_lip[[row]])[0] if number else navigation.w_can
        camera: Camera = frames.camera([row])
        splats = generator(w[None])[0]
        base = render(splats, camera)[0][0]
        bare = torch.ones_like(splats.colors).index_fill(0, generator.hair_texels, 0.0)
        hair = 1 - render(replace(splats, colors=bare), camera)[0][0][..., :1]  # [H, W, 1], on white
        up, low = (frames.read(key, [row])[0] for key in ("mask_upper", "mask_lower"))  # [H, W, 1]
        masks = (up * (1 - hair), low * (1 - hair), hair)
        answers: list[list[Tensor]] = [[], [], []]
        for chunk in torch.arange(len(w), device=w.device).split(8):
            steps = torch.zeros(len(chunk), len(w), device=w.device)
            steps[torch.arange(len(chunk)), chunk] = config.probe
            moved = generator(w + navigation.w_scale * steps)
            for one in range(len(chunk)):
                change = (render(moved[one], camera)[0][0] - base) / config.probe
                for answer, mask in zip(answers, masks, strict=True):
                    masked = (change * mask).permute(2, 0, 1)
                    answer.append(torch.nn.functional.avg_pool2d(masked, POOL).flatten())
        for region, answer in enumerate(answers):
            columns = torch.stack(answer)  # [W, pixels]
            total[region] = total[region] + columns @ columns.T / len(rows)
    return tuple(total)
