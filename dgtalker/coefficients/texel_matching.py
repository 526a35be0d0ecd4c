"""Match splats of a baked head to texels of the head template.

A baked head does not store texel numbers, but its splats are in the texels' order and have their parts, region weights
and positions. Baking drops splats that are never visible, mostly hair; the rest of each part is aligned in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from dgtalker.head.baked import BakedHead
from dgtalker.head.template import ATLAS_SIZES, Atlas, HeadTemplate

PARTS = ("skin", "eyeball_left", "eyeball_right")  # parts whose motion is visible from the front
MAX_DROPPED = 0.1  # share of a part's texels; with more, the head has another map
WEIGHT_TOLERANCE = 2e-3  # region weights are stored in half precision
MIN_AGREEMENT = 0.98  # share of splats with the region weights of their texel
ROUNDS = 3  # of alignment and removal of the smooth difference


@dataclass(frozen=True)
class MatchedTexels:
    """The UV map of a head, and its splats whose texel is known."""

    template: HeadTemplate
    atlas: Atlas
    splats: Tensor  # [M] int64 indices of the head's splats, ascending
    texels: Tensor  # [M] int64 indices into the atlas

    def interpolate(self, field: Tensor) -> Tensor:
        """Interpolate a field on the template's vertices [..., V, C] at the matched splats: [..., M, C]."""
        corners = self.template.triangles[self.atlas.texel_triangle[self.texels]].long()  # [M, 3]
        bary = self.atlas.texel_bary[self.texels]
        return reduce(torch.add, [field[..., corners[:, i], :] * bary[:, i, None] for i in range(3)])

    def find_near_landmark(self, number: int, least: int = 3) -> Tensor:
        """Positions [L] in `splats` of at least `least` splats nearest to a MediaPipe landmark, if there are any.

        Distance is measured along the mesh: closed lips touch, but they are not neighbours on the skin.
        """
        triangles = self.template.triangles.long()
        ring = torch.zeros(len(self.template.vertices), dtype=torch.bool)
        ring[triangles[self.template.landmark_triangle[number]]] = True
        of_splat = self.atlas.texel_triangle[self.texels]
        for _ in range(12):
            touched = ring[triangles].any(dim=1)
            found = touched[of_splat].nonzero()[:, 0]
            if len(found) >= least:
                return found
            ring[triangles[touched]] = True
        return torch.zeros(0, dtype=torch.int64)


def match_texels(head: BakedHead, template: HeadTemplate) -> MatchedTexels | None:
    """Match skin and eyes of `head`; None if the head does not have this template."""
    for size in ATLAS_SIZES:
        found = _match_atlas(head, template, template.atlas(size))
        if found is not None:
            return found
    return None


def _match_atlas(head: BakedHead, template: HeadTemplate, atlas: Atlas) -> MatchedTexels | None:
    of_head, of_atlas = head.part.cpu().long(), atlas.texel_part
    weights = torch.stack([head.upper_weight, head.lower_weight], dim=-1).cpu()
    means = head.get_buffer("mean_means").cpu()
    found = torch.cat([weights, means], dim=-1)
    everything = MatchedTexels(template, atlas, torch.arange(0), torch.arange(len(atlas)))
    expected = everything.interpolate(torch.stack([template.upper_weight, template.lower_weight], dim=-1).float())
    wanted = torch.cat([expected, everything.interpolate(template.vertices)], dim=-1)
    splats, texels = [], []
    for part in PARTS:
        index = template.part_index(part)
        rows, columns = ((parts == index).nonzero()[:, 0] for parts in (of_head, of_atlas))
        if not (1 - MAX_DROPPED) * len(columns) <= len(rows) <= len(columns):
            return None
        splats.append(rows)
        texels.append(columns[torch.from_numpy(_align_texels(found[rows].numpy(), wanted[columns].numpy()))])
    rows, columns = torch.cat(splats), torch.cat(texels)
    agree = (weights[rows] - expected[columns]).abs().amax(dim=-1) < WEIGHT_TOLERANCE
    if agree.float().mean() < MIN_AGREEMENT:
        return None
    order = rows.argsort()
    return MatchedTexels(template, atlas, rows[order], columns[order])


def _align_texels(kept: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Rows [M] of `full` [T, 5] that match `kept` [M, 5]; columns are two region weights and a position.

    A person's head differs from the template by a smooth deformation, which is fitted and removed between rounds.
    """
    full, places = full.copy(), _align_in_order(kept, full)
    for _ in range(ROUNDS if len(kept) < len(full) else 0):
        basis = _quadratic_basis(full[:, 2:])
        fit, *_ = np.linalg.lstsq(basis[places], kept[:, 2:] - full[places, 2:], rcond=None)
        full[:, 2:] += basis @ fit
        places = _align_in_order(kept, full)
    return places


def _quadratic_basis(points: np.ndarray) -> np.ndarray:
    """1, x, y, z and their products, [N, 10]."""
    rows, columns = np.triu_indices(3)
    return np.concatenate([np.ones((len(points), 1)), points, points[:, rows] * points[:, columns]], axis=1)


def _align_in_order(kept: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Ascending rows [M] of `full` [T, C], T >= M, with the least L1 difference to `kept` [M, C].

    Dynamic programming over the number of rows skipped so far, which never decreases.
    """
    count, skips = len(kept), len(full) - len(kept)
    cost, took = np.zeros(skips + 1), np.zeros((count, skips + 1), bool)  # took: no further skip before this row
    for row in range(count):
        least = np.minimum.accumulate(cost)
        took[row] = cost <= least
        cost = least + np.abs(full[row : row + skips + 1] - kept[row]).sum(axis=1)
    places, skipped = np.empty(count, np.int64), int(np.argmin(cost))
    for row in range(count - 1, -1, -1):
        places[row] = row + skipped
        while not took[row, skipped]:
            skipped -= 1
    return places
