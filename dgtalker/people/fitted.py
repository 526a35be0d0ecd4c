"""MakeHuman's fitted parts (eyes, teeth, tongue, brows, lashes, hair): meshes bound to base-mesh vertices (.mhclo)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.people.morphs import read_obj


@dataclass(frozen=True)
class FittedPart:
    """One part: each vertex is a combination of three base vertices plus an offset that grows with the head."""

    index: np.ndarray  # [V, 3] base-mesh vertices
    weight: np.ndarray  # [V, 3]
    offset: np.ndarray  # [V, 3] decimetres at the size the part was made for
    scale_refs: tuple[tuple[int, int, float] | None, ...]  # per axis: two base vertices and their distance then
    triangles: np.ndarray  # [F, 3]
    uv: np.ndarray  # [F, 3, 2] per corner, v up

    def fit(self, base: np.ndarray) -> np.ndarray:
        """Vertices [V, 3] on the base mesh `base` [19158, 3]."""
        scale = np.ones(3)
        for axis, ref in enumerate(self.scale_refs):
            if ref is not None:
                scale[axis] = abs(base[ref[0], axis] - base[ref[1], axis]) / ref[2]
        return (base[self.index] * self.weight[..., None]).sum(1) + self.offset * scale

    def fit_delta(self, delta: np.ndarray) -> np.ndarray:
        """How the part's vertices move [V, 3] when the base moves by `delta` [19158, 3] (an expression)."""
        return (delta[self.index] * self.weight[..., None]).sum(1)


def read_part(clothes: Path) -> FittedPart:
    """Read a .mhclo binding and its .obj. Raises UserError if the file is missing."""
    if not clothes.is_file():
        raise UserError(f"MakeHuman part {clothes} is missing: pass the folder that holds hair/, eyes/ and teeth/.")
    axes: dict[str, tuple[int, int, float]] = {}
    rows, obj, reading = [], clothes.with_suffix(".obj"), False
    for line in clothes.read_text(errors="replace").splitlines():
        parts = line.split()
        if not parts or parts[0] == "#":
            continue
        if reading and (parts[0].isdigit()):
            rows.append([float(x) for x in parts] if len(parts) > 1 else [float(parts[0])] * 3 + [1, 0, 0, 0, 0, 0])
        elif parts[0] in ("x_scale", "y_scale", "z_scale"):
            axes[parts[0][0]] = (int(parts[1]), int(parts[2]), float(parts[3]))
        elif parts[0] == "obj_file":
            obj = clothes.parent / parts[1]
        elif parts[0] == "verts":
            reading = True
        elif reading and parts[0] == "delete_verts":
            break
    table = np.array([r if len(r) == 9 else r + [0.0] * (9 - len(r)) for r in rows])
    mesh = read_obj(obj)
    quads = np.concatenate(list(mesh.faces.values()))
    quad_uvs = np.concatenate(list(mesh.face_uvs.values()))
    # Triangulate vertex and UV indices together so that corners stay in step.
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corners = np.concatenate([quad_uvs[:, [0, 1, 2]], quad_uvs[:, [0, 2, 3]]])
    a, b, c = triangles.T
    keep = (a != b) & (b != c) & (a != c)
    return FittedPart(
        table[:, :3].astype(np.int64),
        table[:, 3:6],
        table[:, 6:9],
        tuple(axes.get(axis) for axis in "xyz"),
        triangles[keep],
        mesh.uvs[corners[keep]],
    )
