"""Measure an identity on held-out clips.

    features, blink -> E_exp, E_lip -> coefficients -> splats -> rendered through the data set's cameras -> compared

Settings: self-driven (the clip's own sound and blinks), the same after an optional alignment of each frame's camera on
the upper face, and the static baseline (the canonical head, never moving). Beside them leakage, blink and silence.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.errors import UserError
from dgtalker.evaluation import metrics
from dgtalker.evaluation.leakage import States, leakage
from dgtalker.evaluation.refine import refine_camera

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Clip, Dataset

FaceReading = Callable[[Sequence[np.ndarray]], np.ndarray]  # uint8 pictures [T] -> landmarks [T,478,2], NaN = no face
SIZE = 256  # pixel figures are given at this picture size
SILENCE_SECONDS = 4.0
SPEECH_CLIPS = 4  # whose mouth motion silence and blinks are compared with
LEAKAGE_STATES = 6  # the canonical head and five met in the held-out clips
BLINK_STEPS = 11
BLINK_STATES = 3


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure."""

    clips: int = 20  # at most so many clips, spread over the data set
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None
    refine_cameras: bool = False  # also report figures after aligning each camera on the upper face
    sheets: Path | None = None  # folder for contact sheets of real and rendered frames
    seed: int = 0  # of the states leakage is measured around


def evaluate(
    identity: Identity,
    dataset: Dataset,
    config: EvaluationConfig | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    faces: FaceReading | None = None,
) -> dict:
    """The report that `dgtalker evaluate --json` prints.

    `faces` reads landmarks; None: MediaPipe. Raises UserError if the data set does not fit the identity, or MediaPipe
    or its model is missing.
    """
    config = config or EvaluationConfig()
    if faces is None:
        from dgtalker.evaluation.faces import FaceReader

        with FaceReader(config.face_landmarker) as reader:
            return evaluate(identity, dataset, config, progress, reader)
    started = time.perf_counter()
    if config.clips < 1:
        raise UserError(f"At least one clip must be evaluated, not {config.clips}.")
    picks = np.unique(np.linspace(0, len(dataset) - 1, min(config.clips, len(dataset))).round().astype(int))
    clips = [dataset.clip(int(i)) for i in picks]
    codes = {clip.name: _encode(identity, dataset, clip) for clip in clips}
    report_progress = progress or (lambda done, total, message: None)
    steps = len(clips) + 2

    settings = ["self_driven", "static"]
    settings += [f"{name}_refined" for name in settings] if config.refine_cameras else []
    rows = {name: [] for name in settings}
    for done, clip in enumerate(clips):
        report_progress(done, steps, f"clip {clip.name}")
        real = list(clip.images.numpy())
        truth = faces(real)
        for name in settings:
            moving, refined = name.startswith("self_driven"), name.endswith("_refined")
            a_exp, a_lip = codes[clip.name] if moving else (np.zeros_like(a) for a in codes[clip.name])
            made = render_clip(identity, clip, a_exp, a_lip, refined)
            rows[name].append(compare(clip.name, real, made, truth, faces(made)))
            if config.sheets and name == "self_driven":
                _write_sheet(config.sheets / f"{clip.name}.jpg", real, made)
    report_progress(len(clips), steps, "leakage")
    leaks = _leakage(identity, clips, codes, config.seed)
    report_progress(len(clips) + 1, steps, "blink and silence")
    blink, silence = _blink_and_silence(identity, clips, codes, faces)
    report_progress(steps, steps, "done")

    blocks = {name: summarise(rows[name]) for name in settings}
    report = {
        "identity": identity.name,
        "dataset": dataset.folder.name,
        "clips_total": len(dataset),
        "frames": sum(len(clip) for clip in clips),
        "self_driven": blocks["self_driven"],
        "leakage": leaks,
        "blink": blink,
        "silence": silence,
        "baselines": {"static": blocks["static"]},
        "clips": [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows["self_driven"]],
        "config": {"clips": config.clips, "refine_cameras": config.refine_cameras, "seed": config.seed},
        "hashes": {"identity": identity_hash(identity), "dataset": dataset_hash(clips)},
    }
    if config.refine_cameras:
        report["self_driven_refined"] = blocks["self_driven_refined"]
        report["baselines"]["static_refined"] = blocks["static_refined"]
    report["seconds"] = time.perf_counter() - started
    return report


# -- driving and drawing ----------------------------------------------------------------------------------------------


def _encode(identity: Identity, dataset: Dataset, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a clip from its own sound and blinks; sound is listened to afresh if the features are of
    another kind than the identity's."""
    if dataset.feature_kind == identity.feature_kind:
        features = clip.features.float().numpy()
    else:
        from dgtalker.audio.features import extract_features
        from dgtalker.audio.loading import load_audio

        features = extract_features(load_audio(clip.audio_path), identity.feature_kind)
        missing = 2 * len(clip) - len(features)
        features = np.pad(features, ((0, max(missing, 0)), (0, 0)), mode="edge")[: 2 * len(clip)]
    return identity.encode(features, clip.blink.numpy())


def draw(identity: Identity, a_exp: np.ndarray, a_lip: np.ndarray, camera: Camera) -> np.ndarray:
    """uint8 picture [H,W,3] on white of coefficients a_exp [ke], a_lip [kl] through one camera."""
    from dgtalker.render import render_frame

    return render_frame(identity.frame(a_exp, a_lip), camera)


def render_clip(
    identity: Identity, clip: Clip, a_exp: np.ndarray, a_lip: np.ndarray, refine: bool = False
) -> list[np.ndarray]:
    """Frames [T] of a_exp [T,ke], a_lip [T,kl] through the clip's cameras, aligned on the upper face if `refine`."""
    from dgtalker.render import render_frame

    frames = []
    for t in range(len(clip)):
        gaussians, camera = identity.frame(a_exp[t], a_lip[t]), clip.camera(t)
        if refine:
            mask = clip.mask_upper[t].numpy().astype(np.float32) / 255
            camera = refine_camera(lambda c, g=gaussians: render_frame(g, c), camera, clip.images[t].numpy(), mask)
        frames.append(render_frame(gaussians, camera))
    return frames


# -- self-driven ------------------------------------------------------------------------------------------------------


def compare(
    name: str, real: list[np.ndarray], made: list[np.ndarray], truth: np.ndarray, found: np.ndarray
) -> dict[str, float]:
    """Figures of one clip: real and made uint8 frames [T], their landmarks truth and found [T,478,2] (NaN: no face)."""
    size = real[0].shape[0]
    scale = SIZE / size
    seen = np.isfinite(truth).all((1, 2))
    both = seen & np.isfinite(found).all((1, 2))
    opening_real = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(truth, seen, strict=True)])
    opening_made = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(found, both, strict=True)])
    boxes = [metrics.mouth_box(p, size) if ok else None for p, ok in zip(truth, seen, strict=True)]
    in_mouth = [metrics.psnr(a[b], c[b]) for a, c, b in zip(real, made, boxes, strict=True) if b is not None]
    return {
        "name": name,
        "frames": len(real),
        "psnr": _mean([metrics.psnr(a, b) for a, b in zip(real, made, strict=True)]),
        "psnr_mouth": _mean(in_mouth),
        "ssim": _mean([metrics.ssim(a, b) for a, b in zip(real, made, strict=True)]),
        "lmd_px": _mean([scale * metrics.lip_distance(truth[t], found[t]) for t in np.flatnonzero(both)]),
        "aperture_r": metrics.pearson(opening_real, opening_made),
        "faces_found": float(both.sum() / max(seen.sum(), 1)),
        "_real": opening_real,
        "_made": opening_made,
    }


def summarise(rows: list[dict]) -> dict[str, float]:
    """Means over clips weighted by frames (pictures) or plain (correlations); the lag that serves all clips best."""
    weights = np.array([row["frames"] for row in rows], np.float64)

    def over_frames(key: str) -> float:
        values = np.array([row[key] for row in rows])
        keep = np.isfinite(values)
        return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")

    figures = {key: over_frames(key) for key in ("psnr", "psnr_mouth", "ssim", "lmd_px")}
    figures["aperture_r"] = _mean([row["aperture_r"] for row in rows])
    figures["aperture_lag_frames"] = metrics.best_lag([r["_real"] for r in rows], [r["_made"] for r in rows])
    figures["faces_found"] = over_frames("faces_found")
    return figures


# -- leakage, blink, silence ------------------------------------------------------------------------------------------


def _leakage(identity: Identity, clips: list[Clip], codes: dict, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    exp, lip, upper, lower, cameras = [], [], [], [], []
    for number in range(LEAKAGE_STATES):
        clip = clips[int(rng.integers(len(clips)))]
        t = int(rng.integers(len(clip)))
        a_exp, a_lip = codes[clip.name]
        exp.append(a_exp[t] if number else np.zeros_like(a_exp[t]))
        lip.append(a_lip[t] if number else np.zeros_like(a_lip[t]))
        upper.append(_mask(clip.mask_upper, t))
        lower.append(_mask(clip.mask_lower, t))
        cameras.append(clip.camera(t))
    states = States(*(np.stack(x) for x in (exp, lip, upper, lower)))
    picture = lambda a_exp, a_lip, s: draw(identity, a_exp, a_lip, cameras[s])  # noqa: E731
    return leakage(picture, states, identity.exp_names, identity.lip_names)


def _blink_and_silence(identity: Identity, clips: list[Clip], codes: dict, faces: FaceReading) -> tuple[dict, dict]:
    """Both against the mouth's motion in held-out speech, all through one camera that stands still."""
    from dgtalker.audio.features import extract_features

    view = clips[0]
    t = len(view) // 2
    camera, lower = view.camera(t), _mask(view.mask_lower, t)
    speech = [
        [draw(identity, e, a, camera) for e, a in zip(*codes[clip.name], strict=True)] for clip in clips[:SPEECH_CLIPS]
    ]
    rest = draw(identity, np.zeros(identity.n_exp), np.zeros(identity.n_lip), camera)
    spread = _mean([metrics.region_change(frame, rest, lower) for frames in speech for frame in frames])
    energy = _mean([metrics.motion_energy(frames, lower) for frames in speech])

    levels = np.linspace(0, 1, BLINK_STEPS, dtype=np.float32)
    added = identity.blink_coefficients(levels)
    ranks, lip_changes, ranges = [], [], []
    for state in range(BLINK_STATES):
        a_exp, a_lip = (np.zeros(n, np.float32) for n in (identity.n_exp, identity.n_lip))
        if state:  # the lips of a frame spoken, with open eyes
            spoken = codes[clips[(state - 1) % len(clips)].name][1]
            a_lip = spoken[len(spoken) // 2]
        frames = [draw(identity, a_exp + b, a_lip, camera) for b in added]
        lip_changes += [metrics.region_change(frame, frames[0], lower) for frame in frames[1:]]
        points = faces(frames)
        closure = np.array([metrics.eye_closure(p) if np.isfinite(p).all() else np.nan for p in points])
        seen = np.isfinite(closure)
        ranks.append(metrics.spearman(levels[seen], closure[seen]) if seen.sum() > 2 else 0.0)
        ranges.append(float(closure[-1] / closure[0]))
    blink = {
        "spearman": _mean(ranks),
        "lip_motion_ratio": _over(_mean(lip_changes), spread),
        "eye_opening_left": _mean(ranges),  # eye aspect at blink 1 over that at blink 0
    }

    still = np.zeros(int(SILENCE_SECONDS * 16000), np.float32)
    e, a = identity.encode(extract_features(still, identity.feature_kind))
    frames = [draw(identity, x, y, camera) for x, y in zip(e, a, strict=True)]
    silence = {
        "mouth_energy_ratio": _over(metrics.motion_energy(frames, lower), energy),
        "aperture": _median_aperture(faces(frames[:: max(len(frames) // 8, 1)])),
        "aperture_speech": _median_aperture(faces(speech[0])),
    }
    return blink, silence


def _median_aperture(points: np.ndarray) -> float:
    values = [metrics.aperture(p) for p in points if np.isfinite(p).all()]
    return float(np.median(values)) if values else float("nan")


def _mask(masks, t: int) -> np.ndarray:
    return masks[t].numpy().astype(np.float32) / 255


def _over(a: float, b: float) -> float:
    return float(a / b) if b > 1e-9 else float("nan")


def _mean(values: Sequence[float]) -> float:
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else float("nan")


# -- provenance -------------------------------------------------------------------------------------------------------


def identity_hash(identity: Identity) -> str:
    """sha256 of the identity's tensors."""
    digest = hashlib.sha256()
    for module in (identity.navigation, identity.head):
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dataset_hash(clips: list[Clip]) -> str:
    """sha256 of the evaluated clips' frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.name.encode())
        digest.update(clip.images.numpy().tobytes())
    return digest.hexdigest()


def _write_sheet(path: Path, real: list[np.ndarray], made: list[np.ndarray], columns: int = 12) -> None:
    """Real frames above, rendered ones below, `columns` moments of the clip."""
    from PIL import Image

    picks = np.linspace(0, len(real) - 1, min(columns, len(real))).round().astype(int)
    sheet = np.concatenate([np.concatenate([frames[i] for i in picks], axis=1) for frames in (real, made)], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, quality=88)
