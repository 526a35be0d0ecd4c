"""Losses of the prior that need no pictures: supervision in the UV map, and regularisers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dgtalker.head.generator import Generator

MAX_SCALE = math.log(0.10)  # decimetres: larger splats are blobs
MIN_SCALE = math.log(0.002)


def uv_loss(
    generator: Generator, attributes: dict[str, Tensor], positions: Tensor, color: Tensor, opacity: Tensor
) -> dict[str, Tensor]:
    """Distance to the true maps: positions [B,N,3] (world), color [B,N,3], opacity [B,N] in 0..1.

    Where there is nothing to see (opacity 0) place and colour are free.
    """
    seen = (opacity > 0.1).float()[..., None]
    place = ((attributes["means"] - positions) * seen).abs().mean() * 20
    paint = ((attributes["colors"] - color) * seen).abs().mean()
    clear = F.binary_cross_entropy_with_logits(attributes["logit_opacities"], opacity) * 0.2
    small = residual_penalty(generator, attributes)
    return {"loss": place + paint + clear + small, "place": place, "paint": paint, "clear": clear}


def residual_penalty(generator: Generator, attributes: dict[str, Tensor]) -> Tensor:
    """Mean square of the residuals relative to their bounds: the convolutions add only what they must."""
    offset = (attributes["residual_offset"] / generator.offset_bound).square().mean()
    others = sum(attributes[f"residual_{n}"].square().mean() for n in ("color", "log_scale", "axis_angle"))
    return 0.02 * offset + 0.005 * others


class TotalVariation:
    """Texels that are neighbours in the map and on the surface, for total variation."""

    def __init__(self, generator: Generator, reach: float = 0.15):
        index, part = generator.texel_index.cpu(), generator.texel_part.cpu()
        size = generator.config.map_size
        table = torch.full((size * size,), -1, dtype=torch.long)
        table[index] = torch.arange(len(index))
        table = table.reshape(size, size)
        pairs = torch.cat(
            [
                torch.stack([table[:, :-1].flatten(), table[:, 1:].flatten()], 1),
                torch.stack([table[:-1].flatten(), table[1:].flatten()], 1),
            ]
        )
        pairs = pairs[(pairs >= 0).all(1)]
        a, b = pairs.unbind(1)
        place = generator.surface.positions(generator.rest_vertices[None])[0].cpu()
        near = (part[a] == part[b]) & ((place[a] - place[b]).norm(dim=-1) < reach)
        self.a, self.b = a[near].to(generator.texel_index.device), b[near].to(generator.texel_index.device)

    def variation(self, values: Tensor) -> Tensor:  # [...,N,C] -> scalar
        """Mean absolute difference of neighbours."""
        return (values[..., self.a, :] - values[..., self.b, :]).abs().mean()


def regularisation_losses(
    generator: Generator, attributes: dict[str, Tensor], pairs: TotalVariation
) -> dict[str, Tensor]:
    """Terms of the image stage, already weighted."""
    log_scales, logits = attributes["log_scales"], attributes["logit_opacities"]
    size = F.relu(log_scales - MAX_SCALE).square().mean() + F.relu(MIN_SCALE - log_scales).square().mean()
    # Splats much longer than wide show as needles from the side.
    in_plane = log_scales[..., :2]
    needle = F.relu((in_plane[..., 0] - in_plane[..., 1]).abs() - math.log(4)).square().mean()
    # The mean hair hangs where it hangs: neighbours in the shell may lie far apart in it.
    own = generator.offset_mean.index_fill(0, generator.hair_texels, 0.0)
    rough = pairs.variation(own + attributes["residual_offset"]) * 0.5
    rough = rough + pairs.variation(generator.log_scale_mean + attributes["residual_log_scale"]) * 0.005
    rough = rough + pairs.variation(attributes["residual_color"]) * 0.02
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
