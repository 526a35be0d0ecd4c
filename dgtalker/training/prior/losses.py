"""Losses of the prior that need no rendering: supervision in the UV map, and regularisation."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dgtalker.head.generator import Generator
from dgtalker.training.texel_neighbours import find_texel_neighbours

MAX_SCALE = math.log(0.10)  # decimetres: larger splats are blobs
MIN_SCALE = math.log(0.002)


def uv_loss(
    generator: Generator, attributes: dict[str, Tensor], positions: Tensor, color: Tensor, opacity: Tensor
) -> dict[str, Tensor]:
    """L1 to the ground truth maps: positions [B,N,3] (world), color [B,N,3], opacity [B,N] in 0..1.

    Position and colour of transparent texels are free.
    """
    visible = (opacity > 0.1).float()[..., None]
    place = ((attributes["means"] - positions) * visible).abs().mean() * 20
    paint = ((attributes["colors"] - color) * visible).abs().mean()
    clear = F.binary_cross_entropy_with_logits(attributes["logit_opacities"], opacity) * 0.2
    small = residual_penalty(generator, attributes)
    return {"loss": place + paint + clear + small, "place": place, "paint": paint, "clear": clear}


def residual_penalty(generator: Generator, attributes: dict[str, Tensor]) -> Tensor:
    """Mean square of the residuals relative to their bounds: keeps what the convolutions add small."""
    offset = (attributes["residual_offset"] / generator.offset_bound).square().mean()
    others = sum(attributes[f"residual_{n}"].square().mean() for n in ("color", "log_scale", "axis_angle"))
    return 0.02 * offset + 0.005 * others


class TotalVariation:
    """Total variation over texels that are neighbours in the map and less than `reach` decimetres apart."""

    def __init__(self, generator: Generator, reach: float = 0.15):
        a, b = find_texel_neighbours(generator)
        positions = generator.surface.positions(generator.rest_vertices[None])[0].cpu()
        near = ((positions[a.cpu()] - positions[b.cpu()]).norm(dim=-1) < reach).to(a.device)
        self.a, self.b = a[near], b[near]

    def __call__(self, values: Tensor) -> Tensor:  # [...,N,C] -> scalar
        """Mean absolute difference between neighbours."""
        return (values[..., self.a, :] - values[..., self.b, :]).abs().mean()


def regularisation_losses(
    generator: Generator, attributes: dict[str, Tensor], variation: TotalVariation
) -> dict[str, Tensor]:
    """Regularisation of the image stage, by name and already weighted."""
    log_scales, logits = attributes["log_scales"], attributes["logit_opacities"]
    size = F.relu(log_scales - MAX_SCALE).square().mean() + F.relu(MIN_SCALE - log_scales).square().mean()
    # Splats much longer than wide show as needles from the side.
    in_plane = log_scales[..., :2]
    needle = F.relu((in_plane[..., 0] - in_plane[..., 1]).abs() - math.log(4)).square().mean()
    # The mean hair is left out: neighbours in the hair shell may lie far apart.
    own = generator.offset_mean.index_fill(0, generator.hair_texels, 0.0)
    rough = variation(own + attributes["residual_offset"]) * 0.5
    rough = rough + variation(generator.log_scale_mean + attributes["residual_log_scale"]) * 0.005
    rough = rough + variation(attributes["residual_color"]) * 0.02
    p = logits.sigmoid()
    hair = p[:, generator.hair_texels]
    undecided = (hair * (1 - hair)).mean() * 0.02
    skin = torch.ones_like(logits[0], dtype=torch.bool).index_fill(0, generator.hair_texels, False)
    hole = F.relu(2.5 - logits[:, skin]).mean() * 0.01
    return {
        "size": size + 0.1 * needle,
        "rough": rough,
        "opacity": undecided + hole,
        "small": residual_penalty(generator, attributes),
    }
