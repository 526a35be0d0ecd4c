"""Lip curves that are comparable between faces: the targets of the speech backbone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgtalker.metrics.articulation import mouth_from_landmarks
from dgtalker.video.landmarks import SCORE_NAMES

MEASURED = ("aperture", "width")  # in distances of the outer eye corners, see metrics/articulation.py
# MediaPipe's mouth scores, 0..1; those of two sides are averaged.
SCORES = (
    "mouthPucker",
    "jawOpen",
    "mouthFunnel",
    "mouthLowerDown",
    "mouthUpperUp",
    "mouthRollLower",
    "mouthRollUpper",
    "mouthPress",
    "mouthShrugUpper",
)
CHANNELS = MEASURED + SCORES
HEADLINES = ("aperture", "width", "mouthPucker")  # the curves that evaluation reports


def lip_curves(landmarks: Tensor | np.ndarray, scores: Tensor | np.ndarray) -> Tensor:
    """Landmarks [T, 478, 2] (pixels) and scores [T, 52] of a video -> lip curves [T, C], C = len(CHANNELS).

    Frames without a face (NaN) are interpolated.
    """
    mouth = mouth_from_landmarks(np.asarray(landmarks))
    columns = [mouth.aperture, mouth.width]
    scores = np.asarray(scores, np.float64)
    for name in SCORES:
        sides = [k for k, full in enumerate(SCORE_NAMES) if full in (name, f"{name}Left", f"{name}Right")]
        columns.append(scores[:, sides].mean(axis=1))
    return torch.from_numpy(_interpolate_gaps(np.stack(columns, axis=1))).float()


def _interpolate_gaps(curves: np.ndarray) -> np.ndarray:
    """Interpolate NaN rows of curves [T, C] in time."""
    known = np.isfinite(curves).all(axis=1)
    if known.all() or not known.any():
        return curves
    rows = np.arange(len(curves))
    return np.stack([np.interp(rows, rows[known], curve[known]) for curve in curves.T], axis=1)
