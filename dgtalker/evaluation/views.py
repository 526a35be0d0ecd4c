"""3D against the truth: a head driven by its clips' own sound, seen from aside, against true pictures of the person.

Only films of synthetic people have such pictures (video/true_views.py). A head made from films lives in coordinates
that were tracked, so that it differs from the true one by a similarity. One similarity for all clips and moments is
found from the landmarks of the upper face, triangulated on both sides; the mouth is never looked at. Figures without
it stand beside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dgtalker.audio.loading import FPS
from dgtalker.evaluation import metrics
from dgtalker.evaluation.anchors import landmark_halves
from dgtalker.evaluation.driving import HeldOut, draw
from dgtalker.evaluation.exhibits import Curves, Strip
from dgtalker.video.true_views import SUFFIX, TrueViews

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.evaluation.driving import Codes

MOMENTS = 24  # at most so many, spread over the clips
TRUSTED_YAW = 45.0  # degrees up to which landmarks help to align
NO_TRUTH = (
    "no true pictures from aside: they exist for films of synthetic people only, made with synthesize-performance "
    "--views, and are read with --truth DIR; a head's agreement with itself would not be truth"
)


@dataclass(frozen=True)
class Moment:
    """One frame of a held-out clip that was pictured from all sides."""

    clip: str
    code: Codes  # a_exp [ke], a_lip [kl]
    pictures: list[np.ndarray]  # [V] uint8
    yaws: np.ndarray  # [V] degrees
    cameras: Camera  # [V]


def measure_views(held: HeldOut, truth: Path | None) -> dict:
    """psnr, lmd_px (mouth landmarks, by the detector, pixels at 256) after alignment, and by_yaw; the same `unaligned`
    and of the `static` head. All None with a reason where there is no truth."""
    moments = find_moments(held, truth) if truth else []
    if not moments:
        reason = f"none of the clips has a *{SUFFIX} in {truth.name}: {NO_TRUTH}" if truth else NO_TRUTH
        return {"psnr": None, "lmd_px": None, "by_yaw": None, "reason": reason}
    true_points = [held.faces(moment.pictures) for moment in moments]
    drawn = [_draw(held, moment, moment.code) for moment in moments]
    points = [held.faces(pictures) for pictures in drawn]
    similarity = align(moments, points, true_points)
    unaligned = _figures(moments, drawn, points, true_points)
    aligned, made = unaligned, drawn
    if similarity is not None:
        made = [_draw(held, moment, moment.code, similarity) for moment in moments]
        aligned = _figures(moments, made, [held.faces(pictures) for pictures in made], true_points)
    still = [_draw(held, moment, held.rest, similarity) for moment in moments]
    static = _figures(moments, still, [held.faces(pictures) for pictures in still], true_points)
    _show(held, moments, made, {"driven by sound": aligned, "static": static, "unaligned": unaligned})
    return {
        **aligned,
        "moments": len(moments),
        "clips": len({moment.clip for moment in moments}),
        "alignment": None if similarity is None else similarity.figures(),
        "unaligned": unaligned,
        "baselines": {"static": static},
    }


def find_moments(held: HeldOut, truth: Path) -> list[Moment]:
    """The pictured moments that lie in the evaluated clips."""
    found = []
    for clip in held.clips:
        film, start = film_of(clip.info.source)
        path = truth / f"{Path(film).stem}{SUFFIX}"
        if not path.is_file():
            continue
        views = TrueViews.load(path)
        a_exp, a_lip = held.codes[clip.name]
        for pictures, frame in zip(views.pictures, views.frames - start, strict=True):
            if 0 <= frame < len(clip):
                code = a_exp[frame], a_lip[frame]
                found.append(Moment(clip.name, code, list(pictures), views.yaws, views.cameras))
    picks = np.linspace(0, len(found) - 1, min(MOMENTS, len(found))).round().astype(int)
    return [found[i] for i in picks]


def film_of(source: str) -> tuple[str, int]:
    """A clip's film and first frame in it: "me.mp4 at 2.40 s" -> ("me.mp4", 60)."""
    later = re.fullmatch(r"(.*) at (\d+\.\d+) s", source)
    return (later.group(1), round(float(later.group(2)) * FPS)) if later else (source, 0)


def _draw(held: HeldOut, moment: Moment, code: Codes, similarity: Similarity | None = None) -> list[np.ndarray]:
    cameras = moment.cameras if similarity is None else similarity.camera(moment.cameras)
    return [draw(held.identity, *code, cameras[v]) for v in range(len(moment.yaws))]


# -- figures ----------------------------------------------------------------------------------------------------------


def _figures(moments: list[Moment], made: list, points: list, true_points: list) -> dict:
    rows: dict[float, list[tuple[float, float, bool]]] = {}
    for moment, pictures, found, wanted in zip(moments, made, points, true_points, strict=True):
        scale = metrics.SIZE / moment.cameras.height
        for v, yaw in enumerate(moment.yaws):
            distance = scale * metrics.lip_distance(found[v], wanted[v])  # NaN where either has no face
            row = metrics.psnr(pictures[v], moment.pictures[v]), distance, bool(np.isfinite(distance))
            rows.setdefault(float(yaw), []).append(row)
    by_yaw = [
        {
            "yaw": yaw,
            "psnr": metrics.mean([row[0] for row in rows[yaw]]),
            "lmd_px": metrics.mean([row[1] for row in rows[yaw]]),
            "faces_found": float(np.mean([row[2] for row in rows[yaw]])),
        }
        for yaw in sorted(rows)
    ]
    return {key: metrics.mean([row[key] for row in by_yaw]) for key in ("psnr", "lmd_px")} | {"by_yaw": by_yaw}


def _show(held: HeldOut, moments: list[Moment], made: list, figures: dict[str, dict]) -> None:
    yaws = np.array([row["yaw"] for row in figures["static"]["by_yaw"]])
    for key, title, unit in (("psnr", "PSNR by yaw", "dB"), ("lmd_px", "Mouth landmark distance by yaw", "px")):
        lines = {name: np.array([row[key] for row in block["by_yaw"]]) for name, block in figures.items()}
        held.exhibits.show("views", Curves(title, "yaw, degrees", unit, yaws, lines))
    for i in sorted({0, len(moments) // 2}):
        rows = {"truth": moments[i].pictures, "driven by sound": made[i]}
        columns = tuple(f"{yaw:+.0f}°" for yaw in moments[i].yaws)
        held.exhibits.show("views", Strip(f"A moment of {moments[i].clip}", rows, columns))


# -- alignment --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Similarity:
    """true = scale * rotation @ made + shift."""

    scale: float
    rotation: np.ndarray  # [3, 3]
    shift: np.ndarray  # [3] decimetres

    def camera(self, camera: Camera) -> Camera:
        """The camera [...] of the true world in the head's own: pictures of the head come out aligned."""
        view = camera.world_to_camera.double()
        rotation, shift = (torch.from_numpy(x) for x in (self.rotation, self.shift))
        moved = view.clone()
        moved[..., :3, :3] = view[..., :3, :3] @ rotation
        moved[..., :3, 3] = (view[..., :3, :3] @ shift + view[..., :3, 3]) / self.scale
        return replace(camera, world_to_camera=moved.to(camera.world_to_camera))

    def figures(self) -> dict[str, float]:
        """How far the tracked coordinates were from the true ones."""
        turn = np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1) / 2, -1, 1)))
        return {
            "scale": float(self.scale),
            "degrees": float(turn),
            "millimetres": float(100 * np.linalg.norm(self.shift)),
        }


def align(moments: list[Moment], made: list, true: list) -> Similarity | None:
    """The similarity that carries the made heads' upper-face landmarks onto the true ones: landmarks [V,478,2] of each
    moment. None if too few faces were found."""
    upper, sources, targets = landmark_halves()[0], [], []
    for moment, found, wanted in zip(moments, made, true, strict=True):
        seen = np.isfinite(found).all((1, 2)) & np.isfinite(wanted).all((1, 2)) & (abs(moment.yaws) <= TRUSTED_YAW)
        if seen.sum() >= 2:
            cameras = moment.cameras[torch.from_numpy(np.flatnonzero(seen))]
            sources.append(triangulate(found[seen][:, upper], cameras))
            targets.append(triangulate(wanted[seen][:, upper], cameras))
    if not sources:
        return None
    return fit_similarity(np.concatenate(sources), np.concatenate(targets))


def triangulate(pixels: np.ndarray, cameras: Camera) -> np.ndarray:
    """Points [L, 3] nearest to their rays, from pixels [V, L, 2] in V cameras."""
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
    """Least squares over points [N, 3] (Umeyama 1991); None if they do not span a space."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, strengths, vt = np.linalg.svd(b.T @ a)
    if strengths[1] < 1e-9 * max(strengths[0], 1e-12):
        return None
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ flip @ vt
    scale = float((strengths * np.diag(flip)).sum() / (a**2).sum())
    return Similarity(scale, rotation, target.mean(0) - scale * rotation @ source.mean(0))
