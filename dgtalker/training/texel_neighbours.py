"""Neighbouring texels of the UV map, for smoothness losses of prior and identity training."""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.head.generator import Generator


def find_texel_neighbours(generator: Generator) -> tuple[Tensor, Tensor]:
    """Pairs of splats of one part whose texels are neighbours in the UV map: two index tensors [M]."""
    size = generator.config.map_size
    table = torch.full((size * size,), -1, dtype=torch.long, device=generator.texel_index.device)
    table[generator.texel_index] = torch.arange(len(generator.texel_index), device=table.device)
    table = table.reshape(size, size)
    pairs = torch.cat(
        [
            torch.stack([table[:, :-1].flatten(), table[:, 1:].flatten()]),
            torch.stack([table[:-1].flatten(), table[1:].flatten()]),
        ],
        dim=1,
    )
    pairs = pairs[:, (pairs >= 0).all(dim=0)]
    pairs = pairs[:, generator.texel_part[pairs[0]] == generator.texel_part[pairs[1]]]
    return pairs[0], pairs[1]
