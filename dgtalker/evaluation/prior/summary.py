"""From metrics per person to those of the report: means, by yaw, by group, and the group that comes off worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgtalker.evaluation.prior.held_out import ALL_VIEWS, FIT_VIEWS, SEVEN_VIEWS, UNSEEN_VIEWS

FAIR_DIVISIONS = ("tone", "tone_and_sex")  # whose groups fairness is judged by
MIN_GROUP = 3  # people; smaller groups are reported, but named neither best nor worst


def mean_over_views(values: Sequence[float], views: tuple) -> float:
    """Mean of one person's values, of ALL_VIEWS, over some views."""
    return float(np.mean([values[ALL_VIEWS.index(view)] for view in views]))


def fit_metrics(people: list[dict], stage: str) -> dict:
    """Metrics of "mean_head", "inversion" or "tuned" over people as `measure_person` saved them.

    psnr, psnr_inside (of the head without its outline) and ssim are means over UNSEEN_VIEWS. PSNR is averaged in
    decibels over people and views.
    """
    rows = [person["figures"][stage] for person in people]
    unseen = np.array([[mean_over_views(row[key], UNSEEN_VIEWS) for row in rows] for key in ("psnr", "ssim")])
    level = [view for view in ALL_VIEWS if view[1] == 0]
    return {
        "psnr": float(unseen[0].mean()),
        "psnr_std": float(unseen[0].std()),
        "psnr_worst": float(unseen[0].min()),
        "psnr_inside": float(np.nanmean([mean_over_views(row["psnr_inside"], UNSEEN_VIEWS) for row in rows])),
        "ssim": float(unseen[1].mean()),
        "psnr_seven_views": float(np.mean([mean_over_views(row["psnr"], SEVEN_VIEWS) for row in rows])),
        "psnr_fit_views": float(np.mean([mean_over_views(row["psnr"], FIT_VIEWS) for row in rows])),
        "by_yaw": {f"{yaw:g}": _view(rows, (yaw, 0.0)) for yaw, _ in sorted(level)},
        "by_pitch": {f"{yaw:g},{pitch:g}": _view(rows, (yaw, pitch)) for yaw, pitch in ALL_VIEWS if pitch},
        "by_group": {division: by_group(people, rows, division) for division in people[0]["groups"]},
    }


def _view(rows: list[dict], view: tuple[float, float]) -> dict:
    figures = {key: float(np.mean([mean_over_views(row[key], (view,)) for row in rows])) for key in ("psnr", "ssim")}
    return {**figures, "fitted": view in FIT_VIEWS}


def by_group(people: list[dict], rows: list[dict], division: str) -> dict[str, dict]:
    """Per group of a division: psnr, psnr_error (standard error), psnr_inside, ssim over UNSEEN_VIEWS, and n people."""
    groups = sorted({person["groups"][division] for person in people})
    out = {}
    for group in groups:
        mine = [row for row, person in zip(rows, people, strict=True) if person["groups"][division] == group]
        psnr = np.array([mean_over_views(row["psnr"], UNSEEN_VIEWS) for row in mine])
        out[group] = {
            "psnr": float(psnr.mean()),
            "psnr_error": float(psnr.std(ddof=1) / len(psnr) ** 0.5) if len(psnr) > 1 else float("nan"),
            "psnr_inside": float(np.nanmean([mean_over_views(row["psnr_inside"], UNSEEN_VIEWS) for row in mine])),
            "ssim": float(np.mean([mean_over_views(row["ssim"], UNSEEN_VIEWS) for row in mine])),
            "n": len(mine),
        }
    return out


def compare_groups(figures: dict) -> dict:
    """The group furthest behind the best of its division, over FAIR_DIVISIONS; None without two groups to compare."""
    worst = {"worst_group": None, "gap_db": float("nan"), "best_group": None, "behind_mean_db": float("nan")}
    for division in FAIR_DIVISIONS:
        groups = {g: v["psnr"] for g, v in figures["by_group"].get(division, {}).items() if v["n"] >= MIN_GROUP}
        if len(groups) < 2:
            continue
        low, high = min(groups, key=lambda g: groups[g]), max(groups, key=lambda g: groups[g])
        gap = groups[high] - groups[low]
        if not worst["gap_db"] > gap:
            worst = {
                "worst_group": low, "gap_db": gap, "best_group": high, "behind_mean_db": figures["psnr"] - groups[low],
            }  # fmt: skip
    return worst


def mean_geometry(people: list[dict], stage: str) -> dict:
    """Means over people of `geometry_error`, region by region, millimetres."""
    rows = [person["figures"][stage]["geometry_mm"] for person in people]
    return {
        region: {key: float(np.mean([row[region][key] for row in rows])) for key in rows[0][region]}
        for region in rows[0]
    }


def mean_detail(people: list[dict]) -> dict:
    """Means over people of `compare_close_ups`: head -> crop -> {psnr, ssim}."""
    rows = [person["detail"] for person in people]
    return {
        head: {
            crop: {key: float(np.mean([row[head][crop][key] for row in rows])) for key in figures}
            for crop, figures in crops.items()
        }
        for head, crops in rows[0].items()
    }
