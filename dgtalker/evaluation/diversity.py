"""Diversity at fixed audio: variants of a performance must differ in the upper face, and not in the lips."""

from __future__ import annotations

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.attached_landmarks import AttachedLandmarks, project
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.report.figures import Strip, evenly_spaced

VARIANTS = 4
CLIPS = 2
STRIDE = 3  # every so many frames
COLUMNS = 8  # of the strip


def measure_diversity(context: EvaluationContext, fixed_view: FixedView, attached: AttachedLandmarks | None) -> dict:
    """Compare variants of one performance with each other.

    Returns:
        upper_px, lower_px: standard deviation of the attached landmarks across variants, pixels at 256.
        upper_motion_px: that of the upper ones over time, for comparison. upper_change, lower_change: mean difference
        in grey levels between variants under the masks. lip_motion_ratio: lower_change over that of speech.
        lip_coefficients_moved: the largest difference. All None with a reason where the data set has no sound.
    """
    clips = [clip for clip in context.clips if clip.audio_path.is_file()][:CLIPS]
    keys = ("upper_px", "lower_px", "upper_motion_px", "upper_change", "lower_change", "lip_motion_ratio")
    if not clips:
        return {**dict.fromkeys((*keys, "lip_coefficients_moved")), "reason": "the data set has no sound"}
    found: dict[str, list[float]] = {key: [] for key in (*keys, "lip_coefficients_moved")}
    for number, clip in enumerate(clips):
        variants = _variants(context, clip)
        first = variants[0]
        found["lip_coefficients_moved"] += [float(abs(v.a_lip - first.a_lip).max()) for v in variants[1:]]
        times = range(0, len(first), STRIDE)
        frames = [
            [render_coefficients(context.identity, v.a_exp[t], v.a_lip[t], fixed_view.camera) for t in times]
            for v in variants
        ]
        for made in frames[1:]:
            for a, b in zip(made, frames[0], strict=True):
                found["upper_change"].append(metrics.region_change(a, b, fixed_view.upper))
                found["lower_change"].append(metrics.region_change(a, b, fixed_view.lower))
        if attached is not None:
            moved = np.stack(
                [[_landmarks(context, attached, fixed_view, v, t) for t in times] for v in variants]
            )  # [V,T,L,2]
            upper, lower = attached.split_halves(np.moveaxis(moved, 2, 0))  # [L,V,T,2]
            for key, half in (("upper_px", upper), ("lower_px", lower)):
                found[key].append(float(np.linalg.norm(half.std(axis=1), axis=-1).mean()))
            found["upper_motion_px"].append(float(np.linalg.norm(upper.std(axis=2), axis=-1).mean()))
        if number == 0:
            picks = evenly_spaced(len(frames[0]), COLUMNS)
            rows = {f"variant {n}": [made[i] for i in picks] for n, made in enumerate(frames)}
            context.report_figures.add(
                "diversity", Strip(f"The same sound ({clip.name}), variants of the upper face", rows)
            )
    figures = {key: metrics.finite_mean(values) for key, values in found.items()}
    figures["lip_coefficients_moved"] = max(found["lip_coefficients_moved"])
    figures["lip_motion_ratio"] = metrics.ratio(figures["lower_change"], fixed_view.mouth_change)
    return {**figures, "variants": VARIANTS, "clips": len(clips)}


def _variants(context: EvaluationContext, clip) -> list:
    from dgtalker.media.audio import load_audio
    from dgtalker.performance.curves import Performance
    from dgtalker.performance.expression import ExpressionSettings

    samples = load_audio(clip.audio_path)
    return [
        Performance.from_audio(context.identity, samples, settings=ExpressionSettings(variant=variant))
        for variant in range(VARIANTS)
    ]


def _landmarks(
    context: EvaluationContext, attached: AttachedLandmarks, fixed_view: FixedView, performance, t: int
) -> np.ndarray:
    means = context.identity.frame(performance.a_exp[t], performance.a_lip[t]).means.numpy()
    return project(attached.positions(means), fixed_view.camera)[0] * metrics.SIZE / fixed_view.camera.height
