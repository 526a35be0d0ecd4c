"""The blink sweep: eyelids must follow the blink signal, lips must not move."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.evaluation.held_out import HeldOut, draw
from dgtalker.report.figures import Curves, Strip, evenly_spaced

STEPS = 11
STATES = 3  # the canonical head, then lips of frames that were spoken


def measure_blink(held: HeldOut, fixed_view: FixedView) -> dict:
    """spearman: rank correlation of blink and eye closure; lip_motion_ratio: change of the mouth against speech;
    lip_motion_px: of the lip landmarks, by the detector; eye_opening_left: eye aspect at blink 1 over that at 0."""
    levels = np.linspace(0, 1, STEPS, dtype=np.float32)
    added = held.identity.blink_coefficients(levels)
    scale = metrics.SIZE / fixed_view.camera.height
    ranks, lip_changes, lip_paths, ranges, openings = [], [], [], [], {}
    for state in range(STATES):
        a_exp, a_lip = held.rest
        if state:  # the lips of a frame spoken, with open eyes
            spoken = held.codes[held.clips[(state - 1) % len(held.clips)].name][1]
            a_lip = spoken[len(spoken) // 2]
        frames = [draw(held.identity, a_exp + b, a_lip, fixed_view.camera) for b in added]
        lip_changes += [metrics.region_change(frame, frames[0], fixed_view.lower) for frame in frames[1:]]
        points = held.faces(frames)
        seen = np.isfinite(points).all((1, 2))
        closure = np.array([metrics.eye_closure(p) if ok else np.nan for p, ok in zip(points, seen, strict=True)])
        ranks.append(metrics.spearman(levels[seen], closure[seen]) if seen.sum() > 2 else 0.0)
        ranges.append(float(closure[-1] / closure[0]))
        if seen[0]:
            lip_paths += [scale * metrics.lip_distance(p, points[0]) for p in points[1:][seen[1:]]]
        openings["at rest" if not state else f"speaking {state}"] = -closure
        if state < 2:
            picks = evenly_spaced(STEPS, 6)
            held.report_figures.add(
                "blink",
                Strip(
                    "Blink sweep, lips " + ("at rest" if not state else "of a spoken frame"),
                    {"": [frames[i] for i in picks]},
                    tuple(f"{levels[i]:.1f}" for i in picks),
                ),
            )
    held.report_figures.add("blink", Curves("Eye opening over blink", "blink", "eye aspect", levels, openings))
    return {
        "spearman": metrics.mean(ranks),
        "lip_motion_ratio": metrics.over(metrics.mean(lip_changes), fixed_view.mouth_change),
        "lip_motion_px": metrics.mean(lip_paths),
        "eye_opening_left": metrics.mean(ranges),
    }
