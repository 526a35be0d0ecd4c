"""The parts inside the template's head, from MakeHuman's fitted meshes: eyeballs, teeth, tongue."""

from __future__ import annotations

import numpy as np

from dgtalker.people.fitted import FittedPart
from dgtalker.people.rays import cast_rays
from dgtalker.people.template.parts import (
    PART_NAMES,
    Parts,
    boundary_corners,
    connected_labels,
    grid_triangles,
    smooth_bump,
    turn_outwards,
    unwrap_part,
)
from dgtalker.people.template.uv_unwrap import boundary_loop


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
        four = boundary_corners(position, boundary_loop(faces))
        density = 1 + 2.5 * smooth_bump(
            position[faces].mean(1), (centre[0], centre[1], position[:, 2].max()), (0.09, 0.09, 0.2)
        )
        uv = unwrap_part(position, faces, four, name, density)
        offset = position - (mean[eyes.index[used]] * eyes.weight[used][..., None]).sum(1)
        parts.add(
            eyes.index[used], eyes.weight[used], offset, PART_NAMES.index(name), faces, name, uv[faces], eyes.uv[chosen]
        )


def add_teeth(parts: Parts, teeth: FittedPart, mean: np.ndarray, columns: int = 41, rows: int = 9) -> None:
    """One band per jaw, wrapped around MakeHuman's teeth and gums by rays towards the middle of the arch."""
    vertices = teeth.fit(mean)
    upper_vertex = teeth.index[:, 0] >= 15060
    crown = np.zeros(len(vertices), bool)
    labels = connected_labels(teeth.triangles, len(vertices))
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
        index, weight = _bind_to_base(teeth, faces[face], bary)
        # Even out the gaps between teeth so that the band is smooth, then fold the biting edge inwards.
        radius = (1 - distance).reshape(rows, columns)
        radius = np.stack([np.convolve(np.pad(r, 1, mode="edge"), [0.25, 0.5, 0.25], "valid") for r in radius])
        radius[0] -= 0.07
        target = (origin + ray * radius[..., None]).reshape(-1, 3)
        offset = target - (mean[index] * weight[..., None]).sum(1)
        order = np.arange(rows)[::-1] if upper else np.arange(rows)  # biting edge at the bottom of the upper chart
        ids = np.arange(rows * columns).reshape(rows, columns)[order].ravel()
        triangles = grid_triangles(rows, columns)
        uv = np.stack(np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), -1).reshape(-1, 2)
        triangles = turn_outwards(target[ids], triangles, np.array([0, target[:, 1].mean(), 1.0]))
        parts.add(index[ids], weight[ids], offset[ids], PART_NAMES.index(name), triangles, name, uv[triangles])


def _bind_to_base(part: FittedPart, triangles: np.ndarray, bary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bind points on a part's triangles (corner ids [P, 3], bary [P, 3]) to base vertices: [P, 9] each."""
    index = part.index[triangles].reshape(len(triangles), 9)
    return index, (part.weight[triangles] * bary[..., None]).reshape(len(triangles), 9)


def add_tongue(parts: Parts, tongue: FittedPart, mean: np.ndarray) -> None:
    """The tongue without its root: a bowl whose bottom is the tip."""
    vertices = tongue.fit(mean)
    chosen = vertices[tongue.triangles, 2].max(1) > 0.98
    used, faces = np.unique(tongue.triangles[chosen], return_inverse=True)
    faces, texture = faces.reshape(-1, 3), tongue.uv[chosen]
    position = vertices[used]
    four = boundary_corners(position, boundary_loop(faces))
    uv = unwrap_part(position, faces, four, "tongue")
    offset = position - (mean[tongue.index[used]] * tongue.weight[used][..., None]).sum(1)
    parts.add(
        tongue.index[used], tongue.weight[used], offset, PART_NAMES.index("tongue"), faces, "tongue", uv[faces], texture
    )
