"""Measure an identity on held-out clips.

    features, blink -> E_exp, E_lip -> coefficients -> splats -> rendered through the data set's cameras -> compared

Each block of the report has a file of its own: self_driven (the clip's own sound and blinks, optionally after aligning
each frame's camera on the upper face), leakage, landmark_leakage, swap, blink, silence, diversity, side_views (against
ground truth, if given), other_voices (if given) and baselines: the canonical head, which never moves, and variants of
the navigation that an ablation trained, if given.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dgtalker import metrics
from dgtalker.errors import UserError
from dgtalker.evaluation.attached_landmarks import attach_landmarks
from dgtalker.evaluation.baselines import BASELINES, NO_BASELINES, find_baselines, measure_variant
from dgtalker.evaluation.blink import measure_blink
from dgtalker.evaluation.context import EvaluationContext, ReadLandmarks, render_clip
from dgtalker.evaluation.diversity import measure_diversity
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.evaluation.ground_truth import GroundTruth
from dgtalker.evaluation.landmark_leakage import measure_landmark_leakage
from dgtalker.evaluation.leakage import measure_leakage, sample_face_states
from dgtalker.evaluation.other_voices import HEADLINES, OtherVoicesConfig, find_recordings, measure_other_voices
from dgtalker.evaluation.rest import measure_rest_aperture
from dgtalker.evaluation.self_driven import compare_frames, summarise_clips
from dgtalker.evaluation.side_views import measure_views
from dgtalker.evaluation.silence import measure_silence
from dgtalker.evaluation.swap import measure_swap
from dgtalker.report.contact_sheets.grid import save_rows
from dgtalker.report.figures import Curves, ReportFigures, Strip, evenly_spaced

if TYPE_CHECKING:
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Clip, Dataset

SHEET_COLUMNS = 12
STRIP_COLUMNS = 8
STRIPS = 3  # clips whose frames are shown


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure."""

    clips: int = 20  # at most so many clips, spread over the data set
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None
    refine_cameras: bool = False  # also report figures after aligning each camera on the upper face
    truth: Path | None = None  # folder with true side views beside the films of a synthetic person
    voices: tuple[Path, ...] = ()  # folders of recordings of other people
    baselines: Path | None = None  # folder of variants that ablate wrote
    sheets: Path | None = None  # folder for contact sheets of real and rendered frames, and of lips at the phones
    seed: int = 0  # of the states that leakage is measured around


def evaluate(
    identity: Identity,
    dataset: Dataset,
    config: EvaluationConfig | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    read_landmarks: ReadLandmarks | None = None,
    report_figures: ReportFigures | None = None,
) -> dict:
    """The report that `dgtalker evaluate --json` prints.

    Args:
        identity: what is measured.
        dataset: clips that it was not trained on.
        config: what to measure.
        progress: called with (done, total, message); may raise to stop.
        read_landmarks: None: MediaPipe.
        report_figures: filled with strips of frames and curves for a page.

    Raises:
        UserError: the data set does not fit the identity, a given folder is missing or empty, or MediaPipe or its model
            is missing.
    """
    config = config or EvaluationConfig()
    if read_landmarks is None:
        from dgtalker.evaluation.landmark_reader import LandmarkReader

        with LandmarkReader(config.face_landmarker) as reader:
            return evaluate(identity, dataset, config, progress, reader, report_figures)
    started = time.perf_counter()
    if config.clips < 1:
        raise UserError(f"At least one clip must be evaluated, not {config.clips}.")
    if config.truth and not Path(config.truth).is_dir():
        raise UserError(f"The folder of true pictures {config.truth} does not exist.")
    sheets = config.sheets and Path(config.sheets, "phones")
    voices_config = OtherVoicesConfig(face_landmarker=config.face_landmarker, seed=config.seed, sheets=sheets)
    if config.voices:  # report problems with them before the work
        find_recordings(config.voices, voices_config.recordings)
    variants = find_baselines(Path(config.baselines)) if config.baselines else {}
    picks = np.unique(np.linspace(0, len(dataset) - 1, min(config.clips, len(dataset))).round().astype(int))
    clips = [dataset.clip(int(i)) for i in picks]
    context = EvaluationContext.from_clips(identity, dataset, clips, read_landmarks, report_figures or ReportFigures())
    done, steps = 0, len(clips) + 6 + len(variants) * (len(clips) + 2)

    def begin(message: str) -> None:
        nonlocal done
        if progress:
            progress(done, steps, message)
        done += 1

    settings = ["self_driven", "static"]
    settings += [f"{name}_refined" for name in settings] if config.refine_cameras else []
    rows, truths = {name: [] for name in settings}, {}
    for clip in clips:
        begin(f"clip {clip.name}")
        truths[clip.name] = GroundTruth.from_clip(clip, read_landmarks)
        for name, row in _compare_clip(context, clip, truths[clip.name], settings, config.sheets).items():
            rows[name].append(row)
    aperture_rest = measure_rest_aperture(context)
    blocks = {name: summarise_clips(rows[name], truths.values(), aperture_rest) for name in settings}
    _add_aperture_curve(context.report_figures, rows["self_driven"])

    begin("leakage")
    attached = attach_landmarks(identity, read_landmarks)
    states, cameras = sample_face_states(context, config.seed)
    leaks = measure_leakage(context, states, cameras)
    landmark_leaks = measure_landmark_leakage(context, states, cameras, attached)
    begin("swap")
    swap = measure_swap(context)
    begin("blink and silence")
    fixed_view = FixedView.from_clips(context)
    blink, silence = measure_blink(context, fixed_view), measure_silence(context, fixed_view)
    begin("diversity")
    diversity = measure_diversity(context, fixed_view, attached)
    begin("views")
    views = measure_views(context, Path(config.truth) if config.truth else None)
    begin("voices")
    if config.voices:
        unseen = measure_other_voices(
            identity, config.voices, voices_config, read_landmarks=read_landmarks, report_figures=context.report_figures
        )
    else:
        unseen = {**dict.fromkeys(HEADLINES), "reason": "no recordings of other people were given: --voices DIR"}
    missing = f"{config.baselines} has no variant of this name" if config.baselines else NO_BASELINES
    baselines = {"static": blocks["static"]} | {name: {"reason": missing} for name in BASELINES}
    for name, variant in variants.items():
        beside = EvaluationContext.from_clips(variant, dataset, clips, read_landmarks, ReportFigures())
        baselines[name] = measure_variant(beside, truths, config.seed, lambda what, name=name: begin(f"{name}: {what}"))
    begin("done")

    report = {
        "identity": identity.name,
        "dataset": dataset.folder.name,
        "clips_total": len(dataset),
        "frames": sum(len(clip) for clip in clips),
        "self_driven": blocks["self_driven"],
        "leakage": leaks,
        "leakage_landmarks": landmark_leaks,
        "swap": swap,
        "blink": blink,
        "silence": silence,
        "diversity": diversity,
        "views": views,
        "unseen_audio": unseen,
        "baselines": baselines,
        "clips": [{k: v for k, v in row.items() if not k.startswith("_")} for row in rows["self_driven"]],
        "config": {"clips": config.clips, "refine_cameras": config.refine_cameras, "seed": config.seed},
        "hashes": {"identity": identity_hash(identity), "dataset": dataset_hash(clips)},
    }
    if config.refine_cameras:
        report["self_driven_refined"] = blocks["self_driven_refined"]
        report["baselines"]["static_refined"] = blocks["static_refined"]
    report["seconds"] = time.perf_counter() - started
    return report


def _compare_clip(
    context: EvaluationContext, clip: Clip, truth: GroundTruth, settings: list[str], sheets: Path | None
) -> dict[str, dict]:
    """Metrics of one clip in each of the settings."""
    real, rows = list(clip.images.numpy()), {}
    outline = metrics.find_outline(clip.alpha.numpy())
    for name in settings:
        moving, refined = name.startswith("self_driven"), name.endswith("_refined")
        a_exp, a_lip = (
            context.coefficients[clip.name] if moving else (np.zeros_like(a) for a in context.coefficients[clip.name])
        )
        made = render_clip(context.identity, clip, a_exp, a_lip, refined)
        found = context.read_landmarks(made)
        rows[name] = compare_frames(clip.name, real, made, truth.landmarks, found, truth.phones, outline)
        if name == "self_driven":
            if sheets:
                picks = evenly_spaced(len(real), SHEET_COLUMNS)
                save_rows(
                    sheets / f"{clip.name}.jpg", [[frames[i] for i in picks] for frames in (real, made)], quality=88
                )
            if len(context.report_figures.strips.get("self_driven", [])) < STRIPS:
                _add_figures(context.report_figures, clip.name, real, made, rows[name])
    return rows


def _add_figures(report_figures: ReportFigures, name: str, real: list, made: list, row: dict) -> None:
    picks = evenly_spaced(len(real), STRIP_COLUMNS)
    report_figures.add(
        "self_driven",
        Strip(f"Clip {name}", {"real": [real[i] for i in picks], "rendered": [made[i] for i in picks]}),
        Curves(
            f"Lip opening, clip {name}",
            "frame",
            "of the eye distance",
            np.arange(len(real)),
            {"real": row["_real"], "rendered": row["_made"]},
        ),
    )


def _add_aperture_curve(report_figures: ReportFigures, rows: list[dict]) -> None:
    """Rendered against true aperture over all clips, in ten bins: where the mouth opens too little or too much."""
    true, made = (np.concatenate([row[lips] for row in rows]) for lips in ("_real", "_made"))
    true, made = metrics.binned_medians(true, made)
    lines = {"rendered": made, "equal": true}
    report_figures.add(
        "self_driven", Curves("Rendered lip opening against the true one", "true", "of the eye distance", true, lines)
    )


def identity_hash(identity: Identity) -> str:
    """sha256 of the identity's tensors."""
    digest = hashlib.sha256()
    for module in (identity.navigation, identity.head):
        # The speech backbone goes by its name in older checkpoints, so that an identity's hash stays the same.
        tensors = {name.replace(".backbone.", ".trunk."): value for name, value in module.state_dict().items()}
        for name, value in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def dataset_hash(clips: list[Clip]) -> str:
    """sha256 of the clips' frames."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(clip.name.encode())
        digest.update(clip.images.numpy().tobytes())
    return digest.hexdigest()
