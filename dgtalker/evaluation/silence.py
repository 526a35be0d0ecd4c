"""Silence: a head that hears nothing must keep its mouth still and shut."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.evaluation.held_out import HeldOut, draw

SECONDS = 4.0


def measure_silence(held: HeldOut, fixed_view: FixedView) -> dict:
    """mouth_energy_ratio: motion energy of the mouth in silence over that in speech; median apertures in both."""
    from dgtalker.audio.features import extract_features

    still = np.zeros(int(SECONDS * 16000), np.float32)
    e, a = held.identity.encode(extract_features(still, held.identity.feature_kind))
    frames = [draw(held.identity, x, y, fixed_view.camera) for x, y in zip(e, a, strict=True)]
    return {
        "mouth_energy_ratio": metrics.over(metrics.motion_energy(frames, fixed_view.lower), fixed_view.mouth_energy),
        "aperture": _median_aperture(held.faces(frames[:: max(len(frames) // 8, 1)])),
        "aperture_speech": _median_aperture(held.faces(fixed_view.speech[0])),
    }


def _median_aperture(points: np.ndarray) -> float:
    values = [metrics.aperture(p) for p in points if np.isfinite(p).all()]
    return float(np.median(values)) if values else float("nan")
