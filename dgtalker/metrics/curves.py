"""Metrics of curves over time, float [T], and means that leave out what was not measured."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

MAX_LAG = 5  # frames


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two curves [T]; 0 if one of them is constant. Frames with a NaN in either are left out."""
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


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
