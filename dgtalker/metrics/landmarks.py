"""Metrics of the landmarks of one face, float [478,2] in pixels; NaN where no face was found.

Landmark numbers are those of MediaPipe's 478-point face mesh.
"""

from __future__ import annotations

import numpy as np

OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = OUTER_LIPS + INNER_LIPS
INNER_PAIRS = ((13, 14), (82, 87), (312, 317))  # upper and lower inner lip, middle of the mouth
EYE_OUTER_CORNERS = (33, 263)
EYES = (  # (upper, lower) lid pairs and the two corners, right and left eye
    (((159, 145), (158, 153), (160, 144)), (33, 133)),
    (((386, 374), (385, 380), (387, 373)), (263, 362)),
)
SIZE = 256  # side of the picture that reported distances in pixels refer to, whatever the data set's


def has_face(landmarks: np.ndarray) -> np.ndarray:
    """Whether a face was found: bool [...] of landmarks [...,478,2]."""
    return np.asarray(np.isfinite(landmarks).all(axis=(-2, -1)))


def mouth_box(landmarks: np.ndarray, size: int, margin: float = 0.25) -> tuple[slice, slice]:
    """(rows, columns) of the box around the lips, widened on each side by `margin` of the lips' width."""
    points = landmarks[list(LIPS)]
    low, high = points.min(0), points.max(0)
    pad = margin * (high[0] - low[0])
    x0, y0 = np.clip(np.floor(low - pad), 0, size - 2).astype(int)
    x1, y1 = np.clip(np.ceil(high + pad), 1, size).astype(int)
    return slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))


def lip_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of the 40 lip landmarks, pixels."""
    return float(np.linalg.norm(a[list(LIPS)] - b[list(LIPS)], axis=-1).mean())


def aperture(landmarks: np.ndarray) -> float:
    """Gap between the inner lips (mean of three pairs) over the distance of the outer eye corners."""
    gaps = [np.linalg.norm(landmarks[u] - landmarks[v]) for u, v in INNER_PAIRS]
    return float(np.mean(gaps) / eye_distance(landmarks))


def eye_closure(landmarks: np.ndarray) -> float:
    """Minus the eye aspect ratio (lid gap over eye width), mean of both eyes; rises as the eyes close."""
    ratios = []
    for pairs, (outer, inner) in EYES:
        width = np.linalg.norm(landmarks[outer] - landmarks[inner])
        ratios.append(np.mean([np.linalg.norm(landmarks[u] - landmarks[v]) for u, v in pairs]) / max(width, 1e-6))
    return -float(np.mean(ratios))


def eye_distance(landmarks: np.ndarray) -> float:
    """Distance of the outer eye corners, pixels; never zero."""
    a, b = EYE_OUTER_CORNERS
    return float(max(np.linalg.norm(landmarks[a] - landmarks[b]), 1e-6))
