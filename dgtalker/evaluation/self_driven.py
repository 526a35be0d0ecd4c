"""Clips driven by their own sound and blinks, against their real frames: metrics of one clip and of all clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dgtalker import metrics
from dgtalker.audio.phone_alignment import Phone
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import PhoneHits

if TYPE_CHECKING:
    from dgtalker.evaluation.ground_truth import GroundTruth

KINDS = {"closure": articulation.count_closures, "rounding": articulation.count_roundings}  # /p b m/ and /u o w/


def compare_frames(
    name: str,
    real: list[np.ndarray],
    made: list[np.ndarray],
    truth: np.ndarray,
    found: np.ndarray,
    phones: Sequence[Phone] = (),
) -> dict[str, Any]:
    """Metrics of one clip.

    Args:
        name: of the clip.
        real: uint8 frames [T].
        made: uint8 frames [T] of the same size.
        truth: landmarks [T,478,2] of the real frames, NaN where no face was found.
        found: those of the made ones.
        phones: what is said, if known.
    """
    size = real[0].shape[0]
    scale = metrics.SIZE / size
    seen = metrics.has_face(truth)
    both = seen & metrics.has_face(found)
    opening_real = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(truth, seen, strict=True)])
    opening_made = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(found, both, strict=True)])
    boxes = [metrics.mouth_box(p, size) if ok else None for p, ok in zip(truth, seen, strict=True)]
    in_mouth = [metrics.psnr(a[b], c[b]) for a, c, b in zip(real, made, boxes, strict=True) if b is not None]
    return {
        "name": name,
        "frames": len(real),
        "psnr": metrics.finite_mean([metrics.psnr(a, b) for a, b in zip(real, made, strict=True)]),
        "psnr_mouth": metrics.finite_mean(in_mouth),
        "ssim": metrics.finite_mean([metrics.ssim(a, b) for a, b in zip(real, made, strict=True)]),
        "lmd_px": metrics.finite_mean([scale * metrics.lip_distance(truth[t], found[t]) for t in np.flatnonzero(both)]),
        "aperture_r": metrics.pearson(opening_real, opening_made),
        "faces_found": float(both.sum() / max(seen.sum(), 1)),
        "_real": opening_real,
        "_made": opening_made,
        "_hits": {
            lips: {kind: count(articulation.mouth_from_landmarks(points), phones) for kind, count in KINDS.items()}
            for lips, points in (("made", found), ("true", truth))
        },
    }


def summarise_clips(rows: list[dict], truths: Iterable[GroundTruth] = ()) -> dict:
    """Summarise clips: means weighted by frames (pictures) or plain (correlations), and one lag for all clips.

    Also the shares of all /p b m/ and /u o w/ that are seen on the lips: NaN without phones, and `truths` say why.
    """
    weights = np.array([row["frames"] for row in rows], np.float64)

    def over_frames(key: str) -> float:
        values = np.array([row[key] for row in rows])
        keep = np.isfinite(values)
        return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")

    figures: dict[str, Any] = {key: over_frames(key) for key in ("psnr", "psnr_mouth", "ssim", "lmd_px")}
    figures["aperture_r"] = metrics.finite_mean([row["aperture_r"] for row in rows])
    figures["aperture_lag_frames"] = metrics.best_lag([r["_real"] for r in rows], [r["_made"] for r in rows])
    figures["faces_found"] = over_frames("faces_found")
    made, true = ({kind: total_hits(rows, lips, kind) for kind in KINDS} for lips in ("made", "true"))
    figures |= {f"{kind}_hit_rate": made[kind].rate for kind in KINDS}
    figures["phones"] = {
        "closures": made["closure"].count,
        "roundings": made["rounding"].count,
        "random_times": {f"{kind}_hit_rate": made[kind].random for kind in KINDS},
        "true_lips": {f"{kind}_hit_rate": true[kind].rate for kind in KINDS},
        "note": None if made["closure"].count else next((t.note for t in truths if t.note), "no /p b m/ is spoken"),
    }
    return figures


def total_hits(rows: list[dict], lips: str, kind: str) -> PhoneHits:
    """Sum the hits of all clips; lips: "made" or "true"."""
    return sum((row["_hits"][lips][kind] for row in rows), PhoneHits())
