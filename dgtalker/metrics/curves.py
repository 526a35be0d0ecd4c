"""Metrics of curves over time, float [T], and means that leave out what was not measured."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MAX_LAG = 5  # frames
ROBUST_POINTS = 2000  # at most so many, evenly spaced: all pairs of them are compared


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two curves [T]; 0 if one of them is constant. Frames with a NaN in either are left out."""
    a, b = _both_finite(a, b)
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of the least-squares line of y [T] over x [T]; NaN if x is constant. Frames with a NaN are left out."""
    x, y = _both_finite(x, y)
    if len(x) < 3 or x.std() < 1e-9:
        return float("nan")
    return float(((x - x.mean()) * (y - y.mean())).mean() / x.var())


def robust_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Median slope of the lines through any two points of y [T] over x [T] (Theil 1950, Sen 1968).

    A few wild frames do not turn it. NaN if x is constant; frames with a NaN are left out.
    """
    x, y = _both_finite(x, y)
    if len(x) > ROBUST_POINTS:
        picks = np.linspace(0, len(x) - 1, ROBUST_POINTS).round().astype(int)
        x, y = x[picks], y[picks]
    i, j = np.triu_indices(len(x), 1)
    across, up = x[j] - x[i], y[j] - y[i]
    apart = np.abs(across) > 1e-9
    return float(np.median(up[apart] / across[apart])) if apart.any() else float("nan")


def binned_medians(x: np.ndarray, y: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Medians of x [T] and of y [T] in bins of rising x with equally many frames: [B] and [B], B <= bins."""
    x, y = _both_finite(x, y)
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), bins) if len(part)]
    return np.array([np.median(x[part]) for part in parts]), np.array([np.median(y[part]) for part in parts])


def best_lag(real: list[np.ndarray], made: list[np.ndarray], limit: int = MAX_LAG) -> int:
    """The shift in frames, -limit..limit, at which the curves of all clips correlate best; positive: `made` is late."""
    scores = {}
    for lag in sorted(range(-limit, limit + 1), key=abs):  # ties go to the smaller shift
        values = []
        for a, b in zip(real, made, strict=True):
            n = min(len(a), len(b)) - abs(lag)
            if n >= 3:
                values.append(pearson(a[max(-lag, 0) :][:n], b[max(lag, 0) :][:n]))
        scores[lag] = np.mean(values) if values else -1.0
    return max(scores, key=lambda lag: scores[lag])


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of two curves [T]; 0 if one of them is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(a).astype(np.float64), rankdata(b).astype(np.float64))


def finite_mean(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def ratio(a: float, b: float) -> float:
    """Divide a by b; NaN where b is not positive."""
    return float(a / b) if b > 1e-9 else float("nan")


def _both_finite(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keep = np.isfinite(a) & np.isfinite(b)
    return a[keep], b[keep]
