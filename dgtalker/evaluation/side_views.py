"""Novel views against ground truth: a head driven by its clips' own sound, from the side, against true pictures.

Only films of synthetic people have such pictures (video/true_views.py). A head made from films has tracked coordinates
that may differ a little from the true ones. Metrics are through the true cameras, without any fitting, and again after
one similarity for all clips and moments, found from triangulated landmarks other than the lips. It cannot hide errors
of the head itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.media.clock import FPS
from dgtalker.report.figures import Curves, Strip
from dgtalker.video.true_views import SUFFIX, TrueViews

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.evaluation.context import Coefficients

MOMENTS = 12  # at most so many, spread over the clips
FACE_POINTS = 468  # landmarks of the skin; the irises' follow
TRUSTED_YAW = 45.0  # degrees up to which landmarks help to align
KEYS = ("psnr", "psnr_face", "lmd_px")
NO_TRUTH = (
    "no true pictures from aside: they exist for films of synthetic people only, made with synthesize-performance "
    "--views, and are read with --truth DIR; a head's agreement with itself would not be truth"
)


@dataclass(frozen=True)
class Moment:
    """One frame of a held-out clip that has pictures from all sides."""

    clip: str
    code: Coefficients  # a_exp [ke], a_lip [kl]
    pictures: list[np.ndarray]  # [V] uint8
    yaws: np.ndarray  # [V] degrees
    cameras: Camera  # [V]


def measure_views(context: EvaluationContext, truth: Path | None) -> dict:
    """Compare side views with ground truth.

    Returns:
        psnr, psnr_face (within the outline of the true landmarks), lmd_px (mouth landmarks by the detector, pixels at
        256); by_yaw, baselines.static and aligned: the same. All None with a reason where there is no ground truth.
    """
    moments = find_moments(context, truth) if truth else []
    if not moments:
        reason = f"none of the clips has a *{SUFFIX} in {truth.name}: {NO_TRUTH}" if truth else NO_TRUTH
        return {**dict.fromkeys((*KEYS, "by_yaw")), "reason": reason}
    true_points = [context.read_landmarks(moment.pictures) for moment in moments]

    def measure(coefficients: list[Coefficients], similarity: Similarity | None = None):
        made = [_draw(context, m, code, similarity) for m, code in zip(moments, coefficients, strict=True)]
        points = [context.read_landmarks(pictures) for pictures in made]
        return made, points, _metrics(moments, made, points, true_points)

    coefficients = [moment.code for moment in moments]
    made, points, driven = measure(coefficients)
    static = measure([context.rest] * len(moments))[2]
    figures, aligned = {"driven by sound": driven, "static": static}, None
    similarity = align_landmarks(moments, points, true_points)
    if similarity is not None:
        figures["driven, aligned"] = measure(coefficients, similarity)[2]
        aligned = {"similarity": similarity.figures(), **figures["driven, aligned"]}
    _add_figures(context, moments, made, figures)
    return {
        **driven,
        "moments": len(moments),
        "clips": len({moment.clip for moment in moments}),
        "aligned": aligned,
        "baselines": {"static": static},
    }


def find_moments(context: EvaluationContext, truth: Path) -> list[Moment]:
    """Find the moments with true pictures that lie in the evaluated clips."""
    found = []
    for clip in context.clips:
        film, start = parse_source(clip.info.source)
        path = truth / f"{Path(film).stem}{SUFFIX}"
        if not path.is_file():
            continue
        views = TrueViews.load(path)
        a_exp, a_lip = context.coefficients[clip.name]
        for pictures, frame in zip(views.pictures, views.frames - start, strict=True):
            if 0 <= frame < len(clip):
                code = a_exp[frame], a_lip[frame]
                found.append(Moment(clip.name, code, list(pictures), views.yaws, views.cameras))
    picks = np.linspace(0, len(found) - 1, min(MOMENTS, len(found))).round().astype(int)
    return [found[i] for i in picks]


def parse_source(source: str) -> tuple[str, int]:
    """Film of a clip and its first frame there: "me.mp4 at 2.40 s" -> ("me.mp4", 60)."""
    later = re.fullmatch(r"(.*) at (\d+\.\d+) s", source)
    return (later.group(1), round(float(later.group(2)) * FPS)) if later else (source, 0)


def _draw(
    context: EvaluationContext, moment: Moment, code: Coefficients, similarity: Similarity | None = None
) -> list[np.ndarray]:
    cameras = moment.cameras if similarity is None else similarity.move_camera(moment.cameras)
    return [render_coefficients(context.identity, *code, cameras[v]) for v in range(len(moment.yaws))]


# -- metrics ----------------------------------------------------------------------------------------------------------


def _metrics(moments: list[Moment], made: list, points: list, true_points: list) -> dict:
    rows: dict[float, list[tuple[float, float, float, bool]]] = {}
    for moment, pictures, found, wanted in zip(moments, made, points, true_points, strict=True):
        scale = metrics.SIZE / moment.cameras.height
        for v, yaw in enumerate(moment.yaws):
            distance = scale * metrics.lip_distance(found[v], wanted[v])  # NaN where either has no face
            true = moment.pictures[v]
            face = metrics.masked_psnr(pictures[v], true, face_mask(wanted[v], true.shape[0]))
            row = metrics.psnr(pictures[v], true), face, distance, bool(np.isfinite(distance))
            rows.setdefault(float(yaw), []).append(row)
    by_yaw = [
        {
            "yaw": yaw,
            "psnr": metrics.finite_mean([row[0] for row in rows[yaw]]),
            "psnr_face": metrics.finite_mean([row[1] for row in rows[yaw]]),
            "lmd_px": metrics.finite_mean([row[2] for row in rows[yaw]]),
            "faces_found": float(np.mean([row[3] for row in rows[yaw]])),
        }
        for yaw in sorted(rows)
    ]
    return {key: metrics.finite_mean([row[key] for row in by_yaw]) for key in KEYS} | {"by_yaw": by_yaw}


def face_mask(points: np.ndarray, size: int) -> np.ndarray:
    """Mask [size, size]: 1 within the convex hull of landmarks [478, 2], else 0; all 0 if there is no face."""
    from scipy.spatial import ConvexHull
    from skimage.draw import polygon

    mask = np.zeros((size, size), np.float32)
    if np.isfinite(points).all():
        x, y = points[ConvexHull(points).vertices].T
        mask[polygon(y - 0.5, x - 0.5, mask.shape)] = 1
    return mask


def _add_figures(context: EvaluationContext, moments: list[Moment], made: list, figures: dict[str, dict]) -> None:
    yaws = np.array([row["yaw"] for row in figures["static"]["by_yaw"]])
    plots = (
        ("psnr", "PSNR by yaw", "dB"),
        ("psnr_face", "PSNR of the face by yaw", "dB"),
        ("lmd_px", "Mouth landmark distance by yaw", "px"),
    )
    for key, title, unit in plots:
        lines = {name: np.array([row[key] for row in block["by_yaw"]]) for name, block in figures.items()}
        context.report_figures.add("views", Curves(title, "yaw, degrees", unit, yaws, lines))
    for i in sorted({0, len(moments) // 2}):
        rows = {"truth": moments[i].pictures, "driven by sound": made[i]}
        columns = tuple(f"{yaw:+.0f}°" for yaw in moments[i].yaws)
        context.report_figures.add("views", Strip(f"A moment of {moments[i].clip}", rows, columns))


# -- alignment --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Similarity:
    """true = scale * rotation @ made + shift."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3] decimetres

    def move_camera(self, camera: Camera) -> Camera:
        """Carry a camera [...] of the true coordinates over into the head's, so that its pictures are aligned."""
        view = camera.world_to_camera.double()
        rotation, shift = (torch.from_numpy(x) for x in (self.rotation, self.shift))
        moved = view.clone()
        moved[..., :3, :3] = view[..., :3, :3] @ rotation
        moved[..., :3, 3] = (view[..., :3, :3] @ shift + view[..., :3, 3]) / self.scale
        return replace(camera, world_to_camera=moved.to(camera.world_to_camera))

    def figures(self) -> dict[str, float]:
        """How far the tracked coordinates are from the true ones."""
        turn = np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1)))
        return {
            "scale": float(self.scale),
            "degrees": float(turn),
            "millimetres": float(100 * np.linalg.norm(self.shift)),
        }


def align_landmarks(moments: list[Moment], made: list, true: list) -> Similarity | None:
    """Fit the similarity that carries the rendered heads' landmarks, without the lips, onto the true ones.

    made, true: landmarks [V,478,2] of each moment. None if too few faces were found.
    """
    others = np.setdiff1d(np.arange(FACE_POINTS), metrics.LIPS)
    sources, targets = [], []
    for moment, found, wanted in zip(moments, made, true, strict=True):
        seen = metrics.has_face(found) & metrics.has_face(wanted) & (abs(moment.yaws) <= TRUSTED_YAW)
        if seen.sum() >= 2:
            cameras = moment.cameras[torch.from_numpy(np.flatnonzero(seen))]
            sources.append(triangulate(found[seen][:, others], cameras))
            targets.append(triangulate(wanted[seen][:, others], cameras))
    if not sources:
        return None
    return fit_similarity(np.concatenate(sources), np.concatenate(targets))


def triangulate(pixels: np.ndarray, cameras: Camera) -> np.ndarray:
    """Triangulate points [L, 3], nearest to their rays, from pixels [V, L, 2] in V cameras."""
    view, intrinsics = cameras.world_to_camera.double().numpy(), cameras.intrinsics.double().numpy()
    rays = np.einsum(
        "vij,vlj->vli", np.linalg.inv(intrinsics), np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1)
    )
    rays = np.einsum("vji,vlj->vli", view[:, :3, :3], rays)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # [V, L, 3, 3]
    origins = cameras.position.double().numpy()
    normal, target = across.sum(0), np.einsum("vlij,vj->li", across, origins)
    return np.linalg.solve(normal, target[..., None])[..., 0]


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity | None:
    """Fit a similarity to points [N, 3] by least squares (Umeyama 1991); None if they do not span a plane."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, strengths, vt = np.linalg.svd(b.T @ a)
    if strengths[1] < 1e-9 * max(strengths[0], 1e-12):
        return None
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = float((strengths * np.diag(flip)).sum() / (a**2).sum())
    return Similarity(scale, rotation, target.mean(0) - scale * rotation @ source.mean(0))
