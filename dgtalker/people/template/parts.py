"""The template under construction: its parts, the UV rectangle of each, and mesh helpers that they share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from dgtalker.people.template.uv_unwrap import boundary_loop, flatten_patch

PART_NAMES = (
    "skin",
    "mouth_cavity",
    "eye_socket",
    "eyeball_left",
    "eyeball_right",
    "teeth_upper",
    "teeth_lower",
    "tongue",
    "hair",
)
# Chart rectangles in a 128 x 128 map: left, top, width, height; a gutter of one texel lies between them.
CHARTS = {
    "skin": (0, 0, 128, 71),
    "hair": (0, 72, 76, 56),
    "teeth_upper": (77, 72, 51, 9),
    "teeth_lower": (77, 82, 51, 9),
    "eyeball_left": (77, 92, 25, 20),
    "eyeball_right": (103, 92, 25, 20),
    "tongue": (77, 113, 40, 15),
}


@dataclass
class Parts:
    """Vertices as bindings to base vertices, and triangles with their chart and texture coordinates."""

    index: list[np.ndarray] = field(default_factory=list)
    weight: list[np.ndarray] = field(default_factory=list)
    offset: list[np.ndarray] = field(default_factory=list)
    part: list[np.ndarray] = field(default_factory=list)
    triangles: list[np.ndarray] = field(default_factory=list)
    uv: list[np.ndarray] = field(default_factory=list)
    texture_uv: list[np.ndarray] = field(default_factory=list)

    def add(
        self,
        index: np.ndarray,  # [V, <=9] base vertices
        weight: np.ndarray,  # [V, <=9]
        offset: np.ndarray,  # [V, 3]
        part: int | np.ndarray,  # index, or one for each vertex
        triangles: np.ndarray,  # [F, 3]
        chart: str,
        uv: np.ndarray,  # [F, 3, 2] within the chart, in [0,1]^2
        texture_uv: np.ndarray | None = None,  # [F, 3, 2]
    ) -> None:
        """Append vertices, bound to those of the base mesh, and triangles."""
        start = sum(len(p) for p in self.part)
        pad = 9 - index.shape[1]
        self.index.append(np.pad(index, ((0, 0), (0, pad))))
        self.weight.append(np.pad(weight, ((0, 0), (0, pad))))
        self.offset.append(offset)
        self.part.append(np.broadcast_to(part, len(index)).copy())
        self.triangles.append(triangles + start)
        left, top, width, height = CHARTS[chart]
        self.uv.append((uv * [width, height] + [left, top]) / 128)
        self.texture_uv.append(np.zeros_like(uv) if texture_uv is None else texture_uv)


def grid_triangles(rows: int, cols: int) -> np.ndarray:
    """Triangles of a grid of rows x cols vertices."""
    a = (np.arange(rows - 1)[:, None] * cols + np.arange(cols - 1)).ravel()
    quads = np.stack([a, a + 1, a + cols + 1, a + cols], 1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _face_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def connected_labels(triangles: np.ndarray, count: int) -> np.ndarray:  # [F, 3] -> [count]
    """Number of the connected component that each vertex belongs to."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    return connected_components(sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count)))[1]


def largest_component(triangles: np.ndarray, count: int) -> np.ndarray:  # [F, 3] -> [F] bool
    """Mask of the triangles in the largest connected component."""
    labels = connected_labels(triangles, count)[triangles[:, 0]]
    return labels == np.bincount(labels).argmax()


def turn_outwards(position: np.ndarray, triangles: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The triangles, turned over if their normals point towards the centre on the whole."""
    facing = (_face_normals(position, triangles) * (position[triangles].mean(1) - centre)).sum()
    return triangles if facing > 0 else triangles[:, ::-1]


def unwrap_part(
    position: np.ndarray,  # [V, 3]
    triangles: np.ndarray,  # [F, 3]
    corners: list[int],  # boundary vertices: top left, top right, bottom right, bottom left
    chart: str,
    density: np.ndarray | None = None,  # [F] wanted texels per area
) -> np.ndarray:  # [V, 2] in [0,1]^2
    """Flatten a disc-shaped part onto the rectangle of its chart."""
    _, _, width, height = CHARTS[chart]
    aspect = width / height
    loop = boundary_loop(triangles)
    loop = np.roll(loop, -int(np.flatnonzero(loop == corners[0])[0]))
    where = [int(np.flatnonzero(loop == c)[0]) for c in corners]
    if where != sorted(where):
        # The loop runs the other way round: flip the triangles (an image's v axis points down).
        return flatten_patch(position, triangles[:, ::-1], corners, aspect, density)
    return flatten_patch(position, triangles, corners, aspect, density)


def boundary_corners(position: np.ndarray, loop: np.ndarray) -> list[int]:
    """The boundary vertices at the top left, top right, bottom right and bottom left, seen from the front."""
    x, y = (position[loop] - position[loop].mean(0))[:, :2].T
    angle = np.arctan2(y, x)
    return [int(loop[np.argmin(np.abs(np.angle(np.exp(1j * (angle - a)))))]) for a in np.deg2rad([135, 45, -45, -135])]


def smooth_bump(
    points: np.ndarray, centre: tuple[float, ...], radius: tuple[float, ...]
) -> np.ndarray:  # [N, 3] -> [N]
    """1 at the centre, falling to 0 smoothly at about twice the radius (per axis)."""
    return np.exp(-(((((points - np.array(centre)) / np.array(radius)) ** 2).sum(-1)) ** 2))
