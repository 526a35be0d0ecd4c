"""How far an identity's two streams are apart, and how well it reconstructs: the figures by which navigation variants
are compared, and the same of variants that an ablation trained beside an identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dgtalker.errors import UserError
from dgtalker.evaluation.attached_landmarks import attach_landmarks
from dgtalker.evaluation.held_out import HeldOut, render_clip
from dgtalker.evaluation.landmark_leakage import measure_landmark_leakage
from dgtalker.evaluation.leakage import measure_leakage, sample_states
from dgtalker.evaluation.self_driven import compare, summarise
from dgtalker.evaluation.swap import measure_swap

if TYPE_CHECKING:
    from dgtalker.evaluation.ground_truth import GroundTruth
    from dgtalker.identity import Identity

BASELINES = ("one_basis", "no_mask", "no_swap", "own_branch")  # names of an ablation's variants
NO_FOLDER = "no variants were given: train them with ablate, and name their folder with --baselines DIR"
LEAKS = ("lip_to_upper", "exp_to_lower", "matrix", "unit")


def find_baselines(folder: Path) -> dict[str, Identity]:
    """The variants of BASELINES that an ablation has written to `folder`. Raises UserError if there is none."""
    from dgtalker.identity import Identity
    from dgtalker.pretrained import CONFIG_FILE

    names = [name for name in BASELINES if (folder / name / CONFIG_FILE).is_file()]
    if not names:
        raise UserError(f"{folder} holds none of the variants {', '.join(BASELINES)}; train them with ablate.")
    return {name: Identity.from_pretrained(folder / name) for name in names}


def measure_variant(
    held: HeldOut, truths: Mapping[str, GroundTruth], seed: int, report: Callable[[str], None] = lambda message: None
) -> dict:
    """self_driven.summarise's figures, leakage in pixels and in landmarks (totals and 2x2 matrix), and swap.

    truths: by clip name. report is told what is being measured, and may raise to stop.
    """
    rows = []
    for clip in held.clips:
        report(f"clip {clip.name}")
        truth = truths[clip.name]
        made = render_clip(held.identity, clip, *held.codes[clip.name])
        found = held.faces(made)
        rows.append(compare(clip.name, list(clip.images.numpy()), made, truth.landmarks, found, truth.phones))
    report("leakage")
    states, cameras = sample_states(held, seed)
    leaks = measure_leakage(held, states, cameras)
    attached = attach_landmarks(held.identity, held.faces)
    in_landmarks = measure_landmark_leakage(held, states, cameras, attached)
    report("swap")
    return {
        **summarise(rows, truths.values()),
        "leakage": short(leaks),
        "leakage_landmarks": {"by": in_landmarks["by"], **short(in_landmarks)},
        "swap": {key: value for key, value in measure_swap(held).items() if key != "baselines"},
    }


def short(leaks: Mapping) -> dict:
    """Leakage without its single coefficients."""
    return {key: leaks[key] for key in LEAKS}
