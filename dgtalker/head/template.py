"""The head template: one vertex array for skin, eyes, mouth and a hair shell, with shape and expression bases.

World units: decimetres, y up, the face looks along +z, +x is the subject's left, origin at the skull's centre.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dgtalker.errors import UserError

TEMPLATE_PATH = Path(__file__).with_name("template.safetensors")
ATLAS_SIZES = (64, 128, 256)


@dataclass(frozen=True)
class Atlas:
    """The valid texels of a square UV map, row by row."""

    size: int
    texel_triangle: Tensor  # [T] int64, into HeadTemplate.triangles
    texel_bary: Tensor  # [T, 3]
    texel_rowcol: Tensor  # [T, 2] int64
    texel_part: Tensor  # [T] int64, into HeadTemplate.part_names

    def __len__(self) -> int:
        return len(self.texel_triangle)


@dataclass(frozen=True)
class HeadTemplate:
    """Mean neutral head, bases and UV atlas. `dgtalker.people.template.build` builds it, `load()` loads it."""

    vertices: Tensor  # [V, 3] mean neutral head, dm
    triangles: Tensor  # [F, 3] int32
    part: Tensor  # [V] int64, into part_names
    shape_basis: Tensor  # [Ks, V, 3]: coefficient 1 = one standard deviation
    expression_basis: Tensor  # [52, V, 3]: offsets at ARKit value 1
    uv: Tensor  # [F, 3, 2] per corner in [0,1]^2, v down (row = v * size)
    texture_uv: Tensor  # [F, 3, 2] per corner into the part's MakeHuman texture, v up; zero where there is none
    upper_weight: Tensor  # [V] soft membership of the upper face
    lower_weight: Tensor  # [V] soft membership of the lower face
    landmark_triangle: Tensor  # [478] int64; -1 where a landmark has no place on the template
    landmark_bary: Tensor  # [478, 3]
    bind_index: Tensor  # [V, 9] int64, base-mesh vertices each vertex is bound to
    bind_weight: Tensor  # [V, 9]
    bind_offset: Tensor  # [V, 3] dm, added after binding, before normalisation
    part_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    neck_y: float  # dm: the skin ends here at the front of the neck
    neck_plane: tuple[float, float, float, float]  # (n, d): the head lies where n.x + d > 0
    base_centre: tuple[float, float, float]  # dm, from the mean of `centre_vertices` to the origin
    base_size: float  # mean size of the heads before normalisation, dm
    mean_scale: float  # world units per base unit of the mean head
    centre_vertices: Tensor  # [C] int64: skin vertices that a head's origin and size are taken from

    @staticmethod
    @lru_cache(maxsize=2)
    def load(path: Path = TEMPLATE_PATH) -> HeadTemplate:
        """The packaged template (or another file with a .json beside it). Raises UserError if it is missing."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"Head template {path} is missing: build it with python -m dgtalker.people.template.build.")
        tensors = load_file(path)
        meta = json.loads(path.with_suffix(".json").read_text())
        scales = {"shape_basis": meta.pop("shape_scale"), "expression_basis": meta.pop("expression_scale")}
        fields = {}
        for name, value in tensors.items():
            fields[name] = value.float() * scales.get(name, 1.0) if value.is_floating_point() else value.long()
        fields["triangles"] = fields["triangles"].int()
        fields["part"] = fields.pop("part")
        for name in ("part_names", "expression_names", "neck_plane", "base_centre"):
            fields[name] = tuple(meta[name])
        return HeadTemplate(**fields, neck_y=meta["neck_y"], base_size=meta["base_size"], mean_scale=meta["mean_scale"])

    def geometry(self, shape: Tensor | None = None, expression: Tensor | None = None) -> Tensor:
        """Vertices [..., V, 3] for shape coefficients [..., Ks] (1 = one std) and ARKit values [..., 52] (0..1)."""
        vertices = self.vertices
        if shape is not None:
            vertices = vertices + torch.tensordot(shape, self.shape_basis[: shape.shape[-1]], dims=([-1], [0]))
        if expression is not None:
            vertices = vertices + torch.tensordot(expression, self.expression_basis, dims=([-1], [0]))
        return vertices

    def bind(self, base: np.ndarray) -> np.ndarray:
        """Template vertices [V, 3] on an hm08 base mesh [19158, 3], in base units (not normalised)."""
        corners = base[self.bind_index.numpy()]
        return (corners * self.bind_weight.numpy()[..., None]).sum(1) + self.bind_offset.numpy()

    def normalisation(self, bound: np.ndarray) -> tuple[float, np.ndarray]:
        """Scale and origin of a neutral head [V, 3] from `bind`: world = (bound - origin) * scale.

        The origin is the skull's centre; a third of the size differences between people remains.
        """
        points = bound[self.centre_vertices.numpy()]
        middle = points.mean(0)
        size = float(np.sqrt(((points - middle) ** 2).sum(1).mean()))
        return (self.base_size / size) ** 0.67, middle + np.array(self.base_centre)

    def part_index(self, name: str) -> int:
        """Index of a part by name."""
        return self.part_names.index(name)

    def atlas(self, size: int = 128) -> Atlas:
        """Texels of the `size`² UV map whose centres lie inside a triangle. Cached."""
        return _atlas(self, size)

    def landmarks(self, vertices: Tensor) -> Tensor:  # [..., V, 3] -> [..., 478, 3]
        """3D positions of the MediaPipe landmarks on a deformed head; missing ones repeat the first triangle."""
        corners = vertices[..., self.triangles[self.landmark_triangle.clamp_min(0)].long(), :]
        return (corners * self.landmark_bary[..., None]).sum(-2)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other) -> bool:
        return self is other


@lru_cache(maxsize=8)
def _atlas(template: HeadTemplate, size: int) -> Atlas:
    triangle, bary = rasterise_uv(template.uv.numpy(), size)
    row, col = np.nonzero(triangle >= 0)
    faces = torch.from_numpy(triangle[row, col])
    return Atlas(
        size,
        faces,
        torch.from_numpy(bary[row, col]).float(),
        torch.from_numpy(np.stack([row, col], 1)),
        template.part[template.triangles[faces, 0].long()],
    )


def rasterise_uv(uv: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangle index [size, size] (-1: none) and barycentric coordinates [size, size, 3] at texel centres.

    uv [F, 3, 2] in [0,1]^2, v down. Vectorised over all (triangle, texel of its bounding box) pairs.
    """
    points = uv.astype(np.float64) * size - 0.5
    low = np.clip(np.ceil(points.min(1) - 1e-6), 0, size).astype(int)
    high = np.clip(np.floor(points.max(1) + 1e-6), -1, size - 1).astype(int)
    extent = np.maximum(high - low + 1, 0)
    count = extent[:, 0] * extent[:, 1]
    face = np.repeat(np.arange(len(uv)), count)
    local = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    col = low[face, 0] + local % np.maximum(extent[face, 0], 1)
    row = low[face, 1] + local // np.maximum(extent[face, 0], 1)
    a, b, c = points[face, 0], points[face, 1], points[face, 2]
    p = np.stack([col, row], 1)

    def cross(u, v):
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    area = cross(b - a, c - a)
    safe = np.where(np.abs(area) < 1e-12, 1.0, area)
    w = np.stack([cross(b - p, c - p), cross(c - p, a - p), cross(a - p, b - p)], 1) / safe[:, None]
    inside = (w.min(1) > -1e-4) & (np.abs(area) >= 1e-12)
    triangle, bary = np.full((size, size), -1, np.int64), np.zeros((size, size, 3))
    triangle[row[inside], col[inside]] = face[inside]
    w = np.clip(w[inside], 0, 1)
    bary[row[inside], col[inside]] = w / w.sum(1, keepdims=True)
    return triangle, bary
