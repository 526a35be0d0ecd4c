"""Rest: how far the lips stand apart while the head is still, all coefficients zero."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.report.figures import evenly_spaced

FRAMES = 8  # whose cameras it is seen through


def measure_rest_aperture(context: EvaluationContext) -> float:
    """Median aperture of the canonical head through cameras of the held-out clips; NaN if no face is found."""
    moments = [(clip, t) for clip in context.clips for t in range(len(clip))]
    cameras = [moments[i][0].camera(moments[i][1]) for i in evenly_spaced(len(moments), FRAMES)]
    found = context.read_landmarks([render_coefficients(context.identity, *context.rest, camera) for camera in cameras])
    apertures = [metrics.aperture(points) for points in found[metrics.has_face(found)]]
    return float(np.median(apertures)) if apertures else float("nan")
