"""Clips driven by their own sound and blinks, against their real frames: metrics of one clip and of all clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgtalker import metrics
from dgtalker.audio.phone_alignment import Phone
from dgtalker.errors import UserError
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import PhoneHits
from dgtalker.report.figures import evenly_spaced

if TYPE_CHECKING:
    from dgtalker.evaluation.ground_truth import GroundTruth

KINDS = {"closure": articulation.count_closures, "rounding": articulation.count_roundings}  # /p b m/ and /u o w/
PERCEPTUAL_FRAMES = 6  # of a clip, evenly spaced: one costs as much as all other metrics of ten frames
PICTURE_KEYS = ("psnr", "psnr_inside", "psnr_rim", "rim_error", "psnr_mouth", "ssim", "st_lpips", "lmd_px")
CLOSED_PERCENTILE, OPEN_PERCENTILE = 5, 95  # of true apertures; the first where no phones are known


def compare_frames(
    name: str,
    real: list[np.ndarray],
    made: list[np.ndarray],
    truth: np.ndarray,
    found: np.ndarray,
    phones: Sequence[Phone] = (),
    outline: metrics.Outline | None = None,
) -> dict[str, Any]:
    """Metrics of one clip.

    Args:
        name: of the clip.
        real: uint8 frames [T].
        made: uint8 frames [T] of the same size.
        truth: landmarks [T,478,2] of the real frames, NaN where no face was found.
        found: those of the made ones.
        phones: what is said, if known.
        outline: of the real head, if known.
    """
    size = real[0].shape[0]
    scale = metrics.SIZE / size
    seen = metrics.has_face(truth)
    both = seen & metrics.has_face(found)
    opening_real = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(truth, seen, strict=True)])
    opening_made = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(found, both, strict=True)])
    boxes = [metrics.mouth_box(p, size) if ok else None for p, ok in zip(truth, seen, strict=True)]
    in_mouth = [metrics.psnr(a[b], c[b]) for a, c, b in zip(real, made, boxes, strict=True) if b is not None]
    distance, note = _perceptual_distance(real, made)
    return {
        "name": name,
        "frames": len(real),
        "psnr": metrics.finite_mean([metrics.psnr(a, b) for a, b in zip(real, made, strict=True)]),
        "psnr_inside": _mean_psnr(real, made, outline.inside if outline else None),
        "psnr_rim": _mean_psnr(real, made, outline.rim if outline else None),
        "rim_error": metrics.error_share(np.stack(real), np.stack(made), outline.rim) if outline else float("nan"),
        "psnr_mouth": metrics.finite_mean(in_mouth),
        "ssim": metrics.finite_mean([metrics.ssim(a, b) for a, b in zip(real, made, strict=True)]),
        "st_lpips": distance,
        "lmd_px": metrics.finite_mean([scale * metrics.lip_distance(truth[t], found[t]) for t in np.flatnonzero(both)]),
        "aperture_r": metrics.pearson(opening_real, opening_made),
        "faces_found": float(both.sum() / max(seen.sum(), 1)),
        "_real": opening_real,
        "_made": opening_made,
        "_st_lpips_note": note,
        "_closures": {
            lips: articulation.closure_gaps(articulation.mouth_from_landmarks(points), phones)
            for lips, points in (("made", found), ("true", truth))
        },
        "_hits": {
            lips: {kind: count(articulation.mouth_from_landmarks(points), phones) for kind, count in KINDS.items()}
            for lips, points in (("made", found), ("true", truth))
        },
    }


def _mean_psnr(real: list[np.ndarray], made: list[np.ndarray], where: np.ndarray | None) -> float:
    """Mean PSNR of the pixels `where`, bool [T,H,W]; frames without any are left out."""
    if where is None:
        return float("nan")
    return metrics.finite_mean(
        [metrics.psnr(a[mask], b[mask]) for a, b, mask in zip(real, made, where, strict=True) if mask.any()]
    )


def _perceptual_distance(real: list[np.ndarray], made: list[np.ndarray]) -> tuple[float, str | None]:
    """Mean ST-LPIPS of PERCEPTUAL_FRAMES frames, or NaN and why it is not measured."""
    import torch

    from dgtalker.metrics.perceptual import load_perceptual_distance

    try:
        network = load_perceptual_distance()
    except UserError as error:
        return float("nan"), str(error)
    values = []
    with torch.no_grad():
        for t in evenly_spaced(len(real), PERCEPTUAL_FRAMES):
            a, b = (torch.from_numpy(frames[t])[None].float() / 255 for frames in (real, made))
            values.append(float(network(a, b)))
    return float(np.mean(values)), None


def summarise_clips(
    rows: list[dict], truths: Iterable[GroundTruth] = (), aperture_rest: float = float("nan")
) -> dict[str, Any]:
    """Summarise clips: means weighted by frames (pictures) or plain (correlations), and one lag for all clips.

    Slopes are of the rendered aperture over the true one, over all frames of all clips. Also the shares of all /p b m/
    and /u o w/ that are seen on the lips: NaN without phones, and `truths` say why. opening_at_rest is where
    `aperture_rest`, of the head at rest, lies between the true closed lips (0) and the true wide ones (1).
    """
    weights = np.array([row["frames"] for row in rows], np.float64)

    def over_frames(key: str) -> float:
        values = np.array([row[key] for row in rows])
        keep = np.isfinite(values)
        return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")

    figures: dict[str, Any] = {key: over_frames(key) for key in PICTURE_KEYS}
    figures["aperture_r"] = metrics.finite_mean([row["aperture_r"] for row in rows])
    figures["aperture_lag_frames"] = metrics.best_lag([r["_real"] for r in rows], [r["_made"] for r in rows])
    apertures = [np.concatenate([row[lips] for row in rows]) for lips in ("_real", "_made")]
    figures["aperture_slope"] = metrics.slope(*apertures)
    figures["aperture_slope_robust"] = metrics.robust_slope(*apertures)
    closures = {lips: [gap for row in rows for gap in row["_closures"][lips]] for lips in ("made", "true")}
    closed = _median(closures["true"]) if closures["true"] else _percentile(apertures[0], CLOSED_PERCENTILE)
    figures["aperture_closures"] = _median(closures["made"])
    figures["aperture_rest"] = aperture_rest
    wide = _percentile(apertures[0], OPEN_PERCENTILE)
    figures["opening_at_rest"] = (aperture_rest - closed) / (wide - closed) if wide > closed else float("nan")
    figures["faces_found"] = over_frames("faces_found")
    made, true = ({kind: total_hits(rows, lips, kind) for kind in KINDS} for lips in ("made", "true"))
    figures |= {f"{kind}_hit_rate": made[kind].rate for kind in KINDS}
    figures["phones"] = {
        "closures": made["closure"].count,
        "roundings": made["rounding"].count,
        "random_times": {f"{kind}_hit_rate": made[kind].random for kind in KINDS},
        "true_lips": {f"{kind}_hit_rate": true[kind].rate for kind in KINDS} | {"aperture_closures": closed},
        "closed_by": "p, b and m" if closures["true"] else f"the lowest {CLOSED_PERCENTILE} % of the true apertures",
        "note": None if made["closure"].count else next((t.note for t in truths if t.note), "no /p b m/ is spoken"),
    }
    figures["st_lpips_note"] = next((row["_st_lpips_note"] for row in rows if row["_st_lpips_note"]), None)
    return figures


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def _percentile(curve: np.ndarray, percent: float) -> float:
    finite = curve[np.isfinite(curve)]
    return float(np.percentile(finite, percent)) if len(finite) else float("nan")


def total_hits(rows: list[dict], lips: str, kind: str) -> PhoneHits:
    """Sum the hits of all clips; lips: "made" or "true"."""
    return sum((row["_hits"][lips][kind] for row in rows), PhoneHits())
