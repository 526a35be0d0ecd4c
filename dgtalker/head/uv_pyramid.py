"""Resampling between a fine UV map and a coarser one, on which the bases of the linear path are stored.

A 256² map has four times the texels of a 128² one; 56 colour components on it would make a checkpoint too large. People
differ smoothly; finer detail is in the mean and in the convolutions.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn

from dgtalker.head.template import Atlas, HeadTemplate


class UVPyramid(nn.Module):
    """Bilinear upsampling within each part of the head, and its adjoint, averaging."""

    index: Tensor  # [N, 4] coarse texels around each fine one
    weight: Tensor  # [N, 4]
    hair_index: Tensor  # [H, 4], among the coarse hair texels
    hair_weight: Tensor  # [H, 4]

    def __init__(self, template: HeadTemplate, size: int, fine_size: int):
        super().__init__()
        atlas, fine = template.atlas(size), template.atlas(fine_size)
        self.same_size = size == fine_size
        names, part, fine_part = list(template.part_names), atlas.texel_part, fine.texel_part
        index, weight = _bilinear(atlas, fine) if not self.same_size else (torch.zeros(0, 4).long(), torch.zeros(0, 4))
        self.texels = {None: len(part)} | {name: int((part == i).sum()) for i, name in enumerate(names)}
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        hair = names.index("hair")
        number = torch.zeros(len(part), dtype=torch.long)
        number[part == hair] = torch.arange(int((part == hair).sum()))
        mine = fine_part == hair if not self.same_size else torch.zeros(0, dtype=torch.bool)
        self.register_buffer("hair_index", number[index[mine]], persistent=False)
        self.register_buffer("hair_weight", weight[mine], persistent=False)

    def coarse_count(self, part: str | None = None) -> int:
        """Number of coarse texels of one part, or of all."""
        return self.texels[part]

    def upsample(self, values: Tensor, part: str | None = None) -> Tensor:  # [...,Nc,C] -> [...,N,C]
        """Values at coarse texels -> at fine ones; of all parts or, with part="hair", of hair alone."""
        if self.same_size:
            return values
        index, weight = (self.hair_index, self.hair_weight) if part else (self.index, self.weight)
        return reduce(torch.add, (values[..., index[:, k], :] * weight[:, k, None] for k in range(4)))

    def downsample(self, values: Tensor, part: str | None = None) -> Tensor:  # [...,N,C] -> [...,Nc,C]
        """Values at fine texels -> weighted means at coarse ones."""
        if self.same_size:
            return values
        index, weight = (self.hair_index, self.hair_weight) if part else (self.index, self.weight)
        total = values.new_zeros(*values.shape[:-2], self.coarse_count(part), values.shape[-1])
        share = values.new_zeros(self.coarse_count(part), 1)
        for k in range(4):
            total.index_add_(-2, index[:, k], values * weight[:, k, None])
            share.index_add_(0, index[:, k], weight[:, k, None])
        return total / share.clamp_min(1e-6)


def _bilinear(atlas: Atlas, fine: Atlas) -> tuple[Tensor, Tensor]:
    """Coarse neighbours [N,4] of fine texels and their weights; those of other parts get weight zero."""
    size, place = atlas.size, (fine.texel_rowcol.double() + 0.5) * atlas.size / fine.size - 0.5
    table = torch.full((size, size), -1, dtype=torch.long)
    table[atlas.texel_rowcol[:, 0], atlas.texel_rowcol[:, 1]] = torch.arange(len(atlas))
    corner = place.floor().long()
    index, weight = [], []
    for step in torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]):
        at = corner + step
        near = (1 - (place - at).abs()).clamp_min(0).prod(1)
        other = table[at[:, 0].clamp(0, size - 1), at[:, 1].clamp(0, size - 1)]
        ok = ((at >= 0) & (at < size)).all(1) & (other >= 0)
        ok &= atlas.texel_part[other.clamp_min(0)] == fine.texel_part
        index.append(other.clamp_min(0))
        weight.append(near * ok)
    index, weight = torch.stack(index, 1), torch.stack(weight, 1)
    # A texel at a chart's edge that has no such neighbour takes the nearest of its part.
    for part in fine.texel_part.unique():
        lost = ((weight.sum(1) < 1e-6) & (fine.texel_part == part)).nonzero()[:, 0]
        same = (atlas.texel_part == part).nonzero()[:, 0]
        if len(lost) and len(same):
            tree = KDTree(atlas.texel_rowcol[same].numpy())
            nearest = torch.from_numpy(np.atleast_1d(tree.query(place[lost].numpy())[1]))
            index[lost] = same[nearest][:, None]
            weight[lost] = 0.25
    weight = weight / weight.sum(1, keepdim=True)
    return index, weight.float()
