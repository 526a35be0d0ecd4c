"""Navigation variants that an ablation trained beside an identity, and the metrics by which they are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dgtalker import metrics
from dgtalker.errors import UserError
from dgtalker.evaluation.attached_landmarks import attach_landmarks
from dgtalker.evaluation.context import EvaluationContext, render_clip
from dgtalker.evaluation.landmark_leakage import measure_landmark_leakage
from dgtalker.evaluation.leakage import measure_leakage, sample_face_states
from dgtalker.evaluation.rest import measure_rest_aperture
from dgtalker.evaluation.self_driven import compare_frames, summarise_clips
from dgtalker.evaluation.swap import measure_swap

if TYPE_CHECKING:
    from dgtalker.evaluation.ground_truth import GroundTruth
    from dgtalker.identity import Identity

BASELINES = ("one_basis", "no_mask", "no_swap", "own_branch")  # names of variants, see training.ablation
NO_BASELINES = "no variants were given: train them with ablate, and name their folder with --baselines DIR"
LEAKAGE_KEYS = ("lip_to_upper", "exp_to_lower", "matrix", "unit")


def find_baselines(folder: Path) -> dict[str, Identity]:
    """Load the variants of BASELINES that an ablation wrote to `folder`. Raises UserError if there is none."""
    from dgtalker.identity import Identity
    from dgtalker.pretrained import CONFIG_FILE

    names = [name for name in BASELINES if (folder / name / CONFIG_FILE).is_file()]
    if not names:
        raise UserError(f"{folder} holds none of the variants {', '.join(BASELINES)}; train them with ablate.")
    return {name: Identity.from_pretrained(folder / name) for name in names}


def measure_variant(
    context: EvaluationContext,
    truths: Mapping[str, GroundTruth],
    seed: int,
    report: Callable[[str], None] = lambda message: None,
) -> dict:
    """Measure self-driven metrics, leakage in pixels and in landmarks (totals and 2x2 matrix), and swap.

    truths: by clip name. report is called with what is being measured, and may raise to stop.
    """
    rows = []
    for clip in context.clips:
        report(f"clip {clip.name}")
        truth = truths[clip.name]
        made = render_clip(context.identity, clip, *context.coefficients[clip.name])
        found = context.read_landmarks(made)
        outline = metrics.find_outline(clip.alpha.numpy())
        real = list(clip.images.numpy())
        rows.append(compare_frames(clip.name, real, made, truth.landmarks, found, truth.phones, outline))
    report("leakage")
    states, cameras = sample_face_states(context, seed)
    leaks = measure_leakage(context, states, cameras)
    attached = attach_landmarks(context.identity, context.read_landmarks)
    in_landmarks = measure_landmark_leakage(context, states, cameras, attached)
    report("swap")
    return {
        **summarise_clips(rows, truths.values(), measure_rest_aperture(context)),
        "leakage": leakage_totals(leaks),
        "leakage_landmarks": {"by": in_landmarks["by"], **leakage_totals(in_landmarks)},
        "swap": {key: value for key, value in measure_swap(context).items() if key != "baselines"},
    }


def leakage_totals(leaks: Mapping) -> dict:
    """Select the totals and the 2x2 matrix of a leakage block."""
    return {key: leaks[key] for key in LEAKAGE_KEYS}
