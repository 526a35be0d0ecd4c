"""Figures about curves over time, float [T], and means that leave out what was not measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_LAG = 5  # frames


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


def mean(values: Sequence[float]) -> float:
    """Mean of what is finite; NaN if nothing is."""
    values = [v for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else float("nan")


def over(a: float, b: float) -> float:
    """a / b; NaN where b is nothing."""
    return float(a / b) if b > 1e-9 else float("nan")
