"""The blink sweep: eyelids must follow the blink signal, lips must not move."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.report.figures import Curves, Strip, evenly_spaced

STEPS = 11
STATES = 3  # the canonical head, then lips of spoken frames


def measure_blink(context: EvaluationContext, fixed_view: FixedView) -> dict:
    """Sweep the blink signal from 0 to 1 on the canonical head and on lips of spoken frames.

    Returns:
        spearman: rank correlation of blink and eye closure. lip_motion_ratio: change of the mouth over that in speech.
        lip_motion_px: motion of the lip landmarks by the detector, pixels at 256. eye_opening_left: eye aspect ratio
        at blink 1 over that at 0.
    """
    levels = np.linspace(0, 1, STEPS, dtype=np.float32)
    added = context.identity.blink_coefficients(levels)
    scale = metrics.SIZE / fixed_view.camera.height
    ranks, lip_changes, lip_paths, ranges, openings = [], [], [], [], {}
    for state in range(STATES):
        a_exp, a_lip = context.rest
        if state:  # the lips of a frame spoken, with open eyes
            spoken = context.coefficients[context.clips[(state - 1) % len(context.clips)].name][1]
            a_lip = spoken[len(spoken) // 2]
        frames = [render_coefficients(context.identity, a_exp + b, a_lip, fixed_view.camera) for b in added]
        lip_changes += [metrics.region_change(frame, frames[0], fixed_view.lower) for frame in frames[1:]]
        points = context.read_landmarks(frames)
        seen = metrics.has_face(points)
        closure = np.array([metrics.eye_closure(p) if ok else np.nan for p, ok in zip(points, seen, strict=True)])
        ranks.append(metrics.spearman(levels[seen], closure[seen]) if seen.sum() > 2 else 0.0)
        ranges.append(float(closure[-1] / closure[0]))
        if seen[0]:
            lip_paths += [scale * metrics.lip_distance(p, points[0]) for p in points[1:][seen[1:]]]
        openings["at rest" if not state else f"speaking {state}"] = -closure
        if state < 2:
            picks = evenly_spaced(STEPS, 6)
            context.report_figures.add(
                "blink",
                Strip(
                    "Blink sweep, lips " + ("at rest" if not state else "of a spoken frame"),
                    {"": [frames[i] for i in picks]},
                    tuple(f"{levels[i]:.1f}" for i in picks),
                ),
            )
    context.report_figures.add("blink", Curves("Eye opening over blink", "blink", "eye aspect", levels, openings))
    return {
        "spearman": metrics.finite_mean(ranks),
        "lip_motion_ratio": metrics.ratio(metrics.finite_mean(lip_changes), fixed_view.mouth_change),
        "lip_motion_px": metrics.finite_mean(lip_paths),
        "eye_opening_left": metrics.finite_mean(ranges),
    }
