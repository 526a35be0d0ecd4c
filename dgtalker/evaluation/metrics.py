"""Figures about pictures and landmark curves, in plain numpy.

Pictures are uint8 [H,W,3], landmarks float [478,2] in pixels.
Landmark numbers are those of MediaPipe's 478-point face mesh.
"""

from __future__ import annotations

from collections.abc import Sequence

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
SIZE = 256  # distances are given in pixels of a picture of this size, whatever the data set's
PSNR_CEILING = 100.0  # of identical pictures, so that means stay finite
MAX_LAG = 5  # frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures of one shape, at most 100."""
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return float(min(PSNR_CEILING, 10 * np.log10(255.0**2 / max(error, 1e-12))))


def masked_psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """psnr of what lies under a soft mask [H,W] in [0,1]; NaN if nothing does."""
    weight = float(mask.sum())
    if weight < 1e-6:
        return float("nan")
    error = (((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(-1) * mask).sum() / weight
    return float(min(PSNR_CEILING, 10 * np.log10(255.0**2 / max(float(error), 1e-12))))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5) of the luminances of two pictures."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            luminance(a), luminance(b), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def luminance(image: np.ndarray) -> np.ndarray:
    """Rec. 601 luma [H,W] in [0,1] of a uint8 picture."""
    return (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)) / 255.0


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
    return float(np.mean(gaps) / _eye_distance(landmarks))


def eye_closure(landmarks: np.ndarray) -> float:
    """Minus the eye aspect ratio (lid gap over eye width), mean of both eyes: rises as the eyes close."""
    ratios = []
    for pairs, (outer, inner) in EYES:
        width = np.linalg.norm(landmarks[outer] - landmarks[inner])
        ratios.append(np.mean([np.linalg.norm(landmarks[u] - landmarks[v]) for u, v in pairs]) / max(width, 1e-6))
    return -float(np.mean(ratios))


def _eye_distance(landmarks: np.ndarray) -> float:
    a, b = EYE_OUTER_CORNERS
    return float(max(np.linalg.norm(landmarks[a] - landmarks[b]), 1e-6))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two curves [T]; 0 if one of them does not vary. NaNs (missed frames) are left out in pairs."""
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(real: list[np.ndarray], made: list[np.ndarray], limit: int = MAX_LAG) -> int:
    """The shift in frames, -limit..limit, at which the curves of all clips correlate best; > 0: `made` comes late."""
    scores = {}
    for lag in sorted(range(-limit, limit + 1), key=abs):  # ties go to the smaller shift
        values = []
        for a, b in zip(real, made, strict=True):
            n = min(len(a), len(b)) - abs(lag)
            if n >= 3:
                values.append(pearson(a[max(-lag, 0) :][:n], b[max(lag, 0) :][:n]))
        scores[lag] = np.mean(values) if values else -1.0
    return max(scores, key=scores.get)


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two curves [T]; 0 if one of them does not vary."""
    from scipy.stats import rankdata

    return pearson(rankdata(a).astype(np.float64), rankdata(b).astype(np.float64))


def region_change(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference, grey levels 0..255, of two pictures under a soft mask [H,W] in [0,1]."""
    difference = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(-1)
    return float((difference * mask).sum() / max(float(mask.sum()), 1e-6))


def motion_energy(frames: list[np.ndarray], mask: np.ndarray) -> float:
    """Mean squared change from frame to frame, grey levels squared, under a soft mask [H,W] in [0,1]."""
    weight = max(float(mask.sum()), 1e-6)
    energies = [
        (((b.astype(np.float32) - a.astype(np.float32)) ** 2).mean(-1) * mask).sum() / weight
        for a, b in zip(frames[:-1], frames[1:], strict=True)
    ]
    return float(np.mean(energies)) if energies else 0.0


def mean(values: Sequence[float]) -> float:
    """Mean of what is finite; NaN if nothing is."""
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else float("nan")


def over(a: float, b: float) -> float:
    """a / b; NaN where b is nothing."""
    return float(a / b) if b > 1e-9 else float("nan")
