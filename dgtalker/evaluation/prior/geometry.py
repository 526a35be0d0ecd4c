"""Geometry error: distance of a fitted head's skin splats from the true mesh, in millimetres."""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights

MILLIMETRES = 100.0  # per world unit
FACE = 0.5  # weight of the upper or the lower face from which a texel counts as face


def skin_regions(generator: Generator) -> dict[str, Tensor]:
    """Masks [N] of the skin's texels: "face", and "rest" with ears, neck and scalp."""
    skin = generator.texel_part == list(generator.template.part_names).index("skin")
    face = torch.maximum(*region_weights(generator)) > FACE
    return {"face": skin & face, "rest": skin & ~face}


@torch.no_grad()
def geometry_error(generator: Generator, splats: Gaussians, positions: Tensor) -> dict[str, dict[str, float]]:
    """Distance of each skin splat to its own point on the true mesh, without realignment.

    Args:
        generator: of the head.
        splats: of the fitted head, one per texel.
        positions: [N,3] true positions of the texels, world units.

    Returns:
        region -> {mean, p90: of the distance; along_normal: mean of its part along the splat's normal, which changes
        the surface itself}, all in millimetres.
    """
    gap = positions - splats.means
    distance = gap.norm(dim=-1) * MILLIMETRES
    along = (gap * splat_normals(splats)).sum(dim=-1).abs() * MILLIMETRES
    return {
        name: {
            "mean": float(distance[mask].mean()),
            "p90": float(distance[mask].quantile(0.9)),
            "along_normal": float(along[mask].mean()),
        }
        for name, mask in skin_regions(generator).items()
        if bool(mask.any())
    }


def splat_normals(splats: Gaussians) -> Tensor:  # -> [N,3]
    """The third axis of each splat, which the generator aligns with the surface's normal."""
    w, x, y, z = torch.nn.functional.normalize(splats.quats, dim=-1).unbind(-1)
    return torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], dim=-1)
