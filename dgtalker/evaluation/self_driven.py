"""The clip's own sound and blinks against its real frames: figures of one clip, and of all clips together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dgtalker import metrics
from dgtalker.audio.phones import Phone
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import Hits

if TYPE_CHECKING:
    from dgtalker.evaluation.ground_truth import GroundTruth

KINDS = {"closure": articulation.closures, "rounding": articulation.roundings}  # /p b m/ and /u o w/


def compare(
    name: str,
    real: list[np.ndarray],
    made: list[np.ndarray],
    truth: np.ndarray,
    found: np.ndarray,
    phones: Sequence[Phone] = (),
) -> dict[str, float]:
    """Figures of one clip: real and made uint8 frames [T], their landmarks truth and found [T,478,2] (NaN: no face),
    and what is said in it, as far as that is known."""
    size = real[0].shape[0]
    scale = metrics.SIZE / size
    seen = np.isfinite(truth).all((1, 2))
    both = seen & np.isfinite(found).all((1, 2))
    opening_real = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(truth, seen, strict=True)])
    opening_made = np.array([metrics.aperture(p) if ok else np.nan for p, ok in zip(found, both, strict=True)])
    boxes = [metrics.mouth_box(p, size) if ok else None for p, ok in zip(truth, seen, strict=True)]
    in_mouth = [metrics.psnr(a[b], c[b]) for a, c, b in zip(real, made, boxes, strict=True) if b is not None]
    return {
        "name": name,
        "frames": len(real),
        "psnr": metrics.mean([metrics.psnr(a, b) for a, b in zip(real, made, strict=True)]),
        "psnr_mouth": metrics.mean(in_mouth),
        "ssim": metrics.mean([metrics.ssim(a, b) for a, b in zip(real, made, strict=True)]),
        "lmd_px": metrics.mean([scale * metrics.lip_distance(truth[t], found[t]) for t in np.flatnonzero(both)]),
        "aperture_r": metrics.pearson(opening_real, opening_made),
        "faces_found": float(both.sum() / max(seen.sum(), 1)),
        "_real": opening_real,
        "_made": opening_made,
        "_hits": {
            lips: {kind: count(articulation.mouth_of_landmarks(points), phones) for kind, count in KINDS.items()}
            for lips, points in (("made", found), ("true", truth))
        },
    }


def summarise(rows: list[dict], truths: Iterable[GroundTruth] = ()) -> dict:
    """Means over clips weighted by frames (pictures) or plain (correlations); the lag that serves all clips best; the
    share of all /p b m/ and /u o w/ that are seen on the lips, NaN without phones: `truths` of the clips say why."""
    weights = np.array([row["frames"] for row in rows], np.float64)

    def over_frames(key: str) -> float:
        values = np.array([row[key] for row in rows])
        keep = np.isfinite(values)
        return float(np.average(values[keep], weights=weights[keep])) if keep.any() else float("nan")

    figures = {key: over_frames(key) for key in ("psnr", "psnr_mouth", "ssim", "lmd_px")}
    figures["aperture_r"] = metrics.mean([row["aperture_r"] for row in rows])
    figures["aperture_lag_frames"] = metrics.best_lag([r["_real"] for r in rows], [r["_made"] for r in rows])
    figures["faces_found"] = over_frames("faces_found")
    made, true = ({kind: total(rows, lips, kind) for kind in KINDS} for lips in ("made", "true"))
    figures |= {f"{kind}_hit_rate": made[kind].rate for kind in KINDS}
    figures["phones"] = {
        "closures": made["closure"].count,
        "roundings": made["rounding"].count,
        "random_times": {f"{kind}_hit_rate": made[kind].random for kind in KINDS},
        "true_lips": {f"{kind}_hit_rate": true[kind].rate for kind in KINDS},
        "note": None if made["closure"].count else next((t.note for t in truths if t.note), "no /p b m/ is spoken"),
    }
    return figures


def total(rows: list[dict], lips: str, kind: str) -> Hits:
    """Hits of all clips; lips "made" or "true"."""
    return sum((row["_hits"][lips][kind] for row in rows), Hits())
