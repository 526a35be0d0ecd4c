"""Swap consistency on held-out clips: the expression of clip A with the lips of clip B, seen by A's cameras.

If the two streams are disentangled, the upper half is that of A driven by itself and the mouth that of B driven by
itself, both through A's cameras. Two baselines bound the metrics: a head that never moves, and one whose streams are
entangled (joint), which shows all of B (wrong above) or all of A (wrong below).
"""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients, soft_mask
from dgtalker.report.figures import Strip, evenly_spaced

PAIRS = 4
STRIDE = 3  # every so many frames
COLUMNS = 8  # of the strip


def measure_swap(context: EvaluationContext) -> dict:
    """Swap expression and lips between neighbouring clips.

    Returns:
        psnr_upper: dB under the upper mask against A driven by itself. lmd_lower: mouth landmark distance by the
        detector, pixels at 256, to B driven by itself through A's cameras. baselines: the same of static and joint.
    """
    identity, rows = context.identity, []
    for number, (a, b, shift) in enumerate(pair_clips(context)):
        (exp_a, lip_a), (exp_b, lip_b) = context.coefficients[a.name], context.coefficients[b.name]
        times = np.arange(0, min(len(a), len(b) - shift), STRIDE)
        coefficients = {
            "swapped": [(exp_a[t], lip_b[t + shift]) for t in times],
            "a": [(exp_a[t], lip_a[t]) for t in times],
            "b": [(exp_b[t + shift], lip_b[t + shift]) for t in times],
            "static": [context.rest] * len(times),
        }
        cameras = [a.camera(int(t)) for t in times]
        frames = {
            name: [render_coefficients(identity, *code, camera) for code, camera in zip(row, cameras, strict=True)]
            for name, row in coefficients.items()
        }
        points = {name: context.read_landmarks(row) for name, row in frames.items()}
        masks = [soft_mask(a.mask_upper, int(t)) for t in times]
        scale = metrics.SIZE / a.size

        def above(one: str, other: str, frames=frames, masks=masks) -> list[float]:
            return [metrics.masked_psnr(*x) for x in zip(frames[one], frames[other], masks, strict=True)]

        def below(one: str, other: str, points=points, scale=scale) -> list[float]:
            return [scale * metrics.lip_distance(*x) for x in zip(points[one], points[other], strict=True)]

        rows.append(
            {
                "psnr_upper": above("swapped", "a"),
                "lmd_lower": below("swapped", "b"),
                "static_psnr_upper": above("static", "a"),
                "static_lmd_lower": below("static", "b"),
                "joint_psnr_upper": above("b", "a"),
                "joint_lmd_lower": below("a", "b"),
            }
        )
        if number == 0:
            picks = evenly_spaced(len(times), COLUMNS)
            titles = {"a": f"A: {a.name}", "b": f"B: {b.name}, A's cameras", "swapped": "expression of A, lips of B"}
            context.report_figures.add(
                "swap", Strip("Swap", {text: [frames[name][i] for i in picks] for name, text in titles.items()})
            )
    figures = {key: metrics.finite_mean([v for row in rows for v in row[key]]) for key in rows[0]}
    baselines = {
        name: {key: figures.pop(f"{name}_{key}") for key in ("psnr_upper", "lmd_lower")} for name in ("static", "joint")
    }
    return {
        **figures,
        "pairs": len(rows),
        "frames": sum(len(row["psnr_upper"]) for row in rows),
        "baselines": baselines,
    }


def pair_clips(context: EvaluationContext) -> list[tuple]:
    """(A, B, shift) of neighbouring clips, B's frames taken `shift` later.

    A single clip is paired with its own later half.
    """
    clips = context.clips
    if len(clips) == 1:
        return [(clips[0], clips[0], len(clips[0]) // 2)]
    return [(clips[i], clips[(i + 1) % len(clips)], 0) for i in range(min(PAIRS, len(clips)))]
