"""Silence: without sound the mouth must stay still and closed."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.evaluation.fixed_view import FixedView

SECONDS = 4.0


def measure_silence(context: EvaluationContext, fixed_view: FixedView) -> dict:
    """Measure mouth_energy_ratio, motion energy of the mouth in silence over that in speech, and median apertures."""
    from dgtalker.audio.features import extract_features

    still = np.zeros(int(SECONDS * 16000), np.float32)
    e, a = context.identity.encode(extract_features(still, context.identity.feature_kind))
    frames = [render_coefficients(context.identity, x, y, fixed_view.camera) for x, y in zip(e, a, strict=True)]
    return {
        "mouth_energy_ratio": metrics.ratio(metrics.motion_energy(frames, fixed_view.lower), fixed_view.mouth_energy),
        "aperture": _median_aperture(context.read_landmarks(frames[:: max(len(frames) // 8, 1)])),
        "aperture_speech": _median_aperture(context.read_landmarks(fixed_view.speech[0])),
    }


def _median_aperture(points: np.ndarray) -> float:
    values = [metrics.aperture(p) for p in points if np.isfinite(p).all()]
    return float(np.median(values)) if values else float("nan")
