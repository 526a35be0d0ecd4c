"""Places of MediaPipe's 478 face landmarks on the template, found on renders (run by maintainers only).

    python -m dgtalker.people.template.landmarks --makehuman DIR --landmarker face_landmarker.task

Detect on textured renders of several people from several sides, cast the pixels' rays back onto the same meshes,
average the hits as points of the mean head.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dgtalker.camera import orbit_camera
from dgtalker.head.template import TEMPLATE_PATH, HeadTemplate
from dgtalker.people.assets import PersonAssets
from dgtalker.people.capture import PersonRenderer
from dgtalker.people.person import sample_person
from dgtalker.people.rays import cast_rays
from dgtalker.video.landmarks import Landmarker, block_mediapipe_usage_reports

YAWS = (0, -40, -25, -10, 10, 25, 40)
SIZE = 512
# Iris points; MediaPipe numbers the subject's right iris 468..472 and the left 473..477.
IRIS = {"eyeball_right": range(468, 473), "eyeball_left": range(473, 478)}
# Inner edge of the lips: told apart only with the mouth open.
INNER_LIPS = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324)


def find_landmarks(assets: PersonAssets, model: str | Path, people: int = 8, seed: int = 5) -> tuple[np.ndarray, dict]:
    """Landmark points [478, 3] on the mean head, averaged over people and views, and figures about their spread."""
    template, rng = assets.template, np.random.default_rng(seed)
    part = template.part.numpy()[template.triangles[:, 0].long().numpy()]
    triangles = template.triangles.numpy()
    names = template.part_names
    visible = np.flatnonzero(part == 0)
    eyes = {name: np.flatnonzero(part == names.index(name)) for name in IRIS}
    votes = []
    others = sorted(set(range(468)) - set(INNER_LIPS))
    lips = _lip_vertices(template)
    mean = template.vertices.numpy().astype(np.float64)
    mean_normals = assets.normals(mean)
    with Landmarker(model) as landmarker:
        for _ in range(people):
            person = sample_person(rng, assets)
            while person.hair is not None and person.hair not in ("short03", "short04", "afro01"):
                person = sample_person(rng, assets)
            renderer = PersonRenderer(person)
            for yaw, jaw in ((y, j) for j in (0.0, 0.4) for y in YAWS):
                vertices = renderer.pose(np.eye(52)[template.expression_names.index("jawOpen")] * jaw)
                camera = orbit_camera(yaw, 0, SIZE, zoom=1.25, target=(0, 0, 0.2))
                found = landmarker.detect(renderer.view(camera))
                if not found:
                    if yaw == 0:  # without the frontal view there are no sides
                        break
                    continue
                if yaw == 0:  # comes first
                    side = found[0].landmarks[:, 0] - found[0].landmarks[1, 0]
                    side = side / np.abs(side).max()
                origin = camera.position.numpy().astype(np.float64)
                k, rotation = camera.intrinsics.numpy(), camera.world_to_camera[:3, :3].numpy()
                rays = (
                    np.concatenate([(found[0].landmarks - k[:2, 2]) / [k[0, 0], k[1, 1]], np.ones((478, 1))], 1)
                    @ rotation
                )
                if jaw:  # a ray past the lip's edge would go far into the mouth: take the lip vertex nearest to it
                    ids = np.array(INNER_LIPS)
                    unit = rays[ids] / np.linalg.norm(rays[ids], axis=1, keepdims=True)
                    offset = vertices[lips][None] - origin
                    beside = offset - (offset * unit[:, None]).sum(-1, keepdims=True) * unit[:, None]
                    near = np.linalg.norm(beside, axis=-1)
                    share = np.exp(-((near / 0.03) ** 2)) + 1e-9
                    place = (share / share.sum(1, keepdims=True)) @ mean[lips]
                    trust = (near.min(1) < 0.05) * np.cos(np.deg2rad(yaw)) ** 4
                    votes.append((ids, place, trust))
                for chosen, points in () if jaw else ((visible, others), *((eyes[n], IRIS[n]) for n in IRIS)):
                    ids = np.array(points)
                    distance, face, bary = cast_rays(
                        np.repeat(origin[None], len(ids), 0), rays[ids], vertices, triangles[chosen]
                    )
                    hit = face[:, 0] >= 0
                    corners = triangles[chosen][face[hit, 0]]
                    place = (mean[corners] * bary[hit, 0][..., None]).sum(1)
                    normal = (mean_normals[corners] * bary[hit, 0][..., None]).sum(1)
                    toward = (normal * -(rays[ids][hit] / np.linalg.norm(rays[ids][hit], axis=1, keepdims=True))).sum(1)
                    trust = np.clip(toward - 0.1, 0, None) ** 2  # a surface seen edge-on tells little
                    if yaw:  # landmarks of the far cheek are drawn on the outline of nose and mouth
                        trust *= np.where(side[ids[hit]] * np.sign(yaw) > -0.2, 1.0, 1e-6)
                    votes.append((ids[hit], place, trust))
    ids, places, trusts = (np.concatenate(v) for v in zip(*votes, strict=True))
    average, weight = _average(ids, places, trusts)
    near = np.linalg.norm(places - average[ids], axis=1) < 0.2
    kept, kept_weight = _average(ids, places, trusts * near)  # without votes far from the first average
    average = np.where(kept_weight[:, None] > 0, kept, average)
    found = weight > 0
    average = _symmetric(average, found)
    spread = np.linalg.norm(places - average[ids], axis=1)[trusts > 0.05]
    average[~found] = np.nan
    return average, {
        "found": int(found.sum()),
        "median_spread_mm": float(np.median(spread) * 100),
        "p90_spread_mm": float(np.percentile(spread, 90) * 100),
    }


def _average(ids: np.ndarray, places: np.ndarray, trusts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total, weight = np.zeros((478, 3)), np.zeros(478)
    np.add.at(total, ids, places * trusts[:, None])
    np.add.at(weight, ids, trusts)
    return total / np.maximum(weight, 1e-9)[:, None], weight


def _lip_vertices(template: HeadTemplate) -> np.ndarray:
    """Vertices of the lips and of the mouth cavity's edge just behind them."""
    v, part = template.vertices.numpy(), template.part.numpy()
    teeth_front = v[part == template.part_index("teeth_upper"), 2].max()
    middle = v[part == template.part_index("teeth_upper"), 1].min()
    near = (np.abs(v[:, 0]) < 0.4) & (np.abs(v[:, 1] - middle) < 0.2) & (v[:, 2] > teeth_front - 0.12)
    return np.flatnonzero(near & (part <= 1))


def _symmetric(points: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Average each point with its mirror partner: MediaPipe's mesh and the mean head are both symmetric."""
    mirrored = points * [-1, 1, 1]
    distance = np.linalg.norm(mirrored[:, None] - points[None], axis=-1)
    distance[:, ~found] = np.inf
    partner = distance.argmin(1)
    mutual = found & (partner[partner] == np.arange(len(points))) & (distance[np.arange(len(points)), partner] < 0.08)
    points[mutual] = (points[mutual] + mirrored[partner[mutual]]) / 2
    return points


def attach_to_surface(template: HeadTemplate, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangle [478] (-1 where the point is NaN) and barycentric coordinates of the nearest surface points."""
    part = template.part.numpy()[template.triangles[:, 0].long().numpy()]
    vertices, triangles = template.vertices.numpy().astype(np.float64), template.triangles.numpy()
    index, bary = np.full(478, -1, np.int64), np.zeros((478, 3))
    # An average of cheek points lies a little inside the head: never let it fall onto the walls of the mouth.
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    faces = np.flatnonzero(part <= 2)
    distance, _, _ = cast_rays(
        (a + b + c)[faces] / 3 + 0.002 * normal[faces], normal[faces], vertices, triangles[faces]
    )
    outer = np.zeros(len(triangles), bool)
    outer[faces[distance[:, 0] > 0.4]] = True
    for i, point in enumerate(points):
        if np.isnan(point).any():
            continue
        name = next((n for n, ids in IRIS.items() if i in ids), "skin")
        chosen = np.flatnonzero((part == template.part_names.index(name)) & (outer | (name != "skin")))
        if i in INNER_LIPS:  # their edge may lie on the mouth cavity's first row
            chosen = np.flatnonzero(part <= 1)
        nearest = chosen[np.argsort(((vertices[triangles[chosen]].mean(1) - point) ** 2).sum(1))[:60]]
        a, b, c = (vertices[triangles[nearest, k]] for k in range(3))
        closest, weights = _closest_on_triangles(point, a, b, c)
        best = ((closest - point) ** 2).sum(1).argmin()
        index[i], bary[i] = nearest[best], weights[best]
    return index, bary


def _closest_on_triangles(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of triangles nearest to p, and their barycentric coordinates [N, 3], by projection and clamping."""
    e0, e1, d = b - a, c - a, p - a
    d00, d01, d11 = (e0 * e0).sum(1), (e0 * e1).sum(1), (e1 * e1).sum(1)
    d20, d21 = (d * e0).sum(1), (d * e1).sum(1)
    det = np.maximum(d00 * d11 - d01**2, 1e-15)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    weights = np.clip(np.stack([1 - v - w, v, w], 1), 0, None)
    weights /= weights.sum(1, keepdims=True)
    return weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c, weights


def main() -> None:
    """Find the landmarks and write them into the template."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--makehuman", type=Path, required=True, help="folder with skins/, hair/, eyes/, teeth/")
    parser.add_argument("--landmarker", type=Path, required=True, help="face_landmarker.task")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--template", type=Path, default=TEMPLATE_PATH, help="changed in place")
    args = parser.parse_args()
    block_mediapipe_usage_reports()
    assets = PersonAssets(args.makehuman, HeadTemplate.load(args.template))
    points, figures = find_landmarks(assets, args.landmarker, args.people)
    index, bary = attach_to_surface(assets.template, points)
    tensors = load_file(args.template)
    tensors["landmark_triangle"] = torch.from_numpy(index).int()
    tensors["landmark_bary"] = torch.from_numpy(bary).float()
    save_file(tensors, args.template)
    print(figures)


if __name__ == "__main__":
    main()
