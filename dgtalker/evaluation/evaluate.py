"""Measure an identity on held-out clips.

    features, blink -> E_exp, E_lip -> coefficients -> splats -> rendered through the data set's cameras -> compared

Settings, each in a file of its own: self-driven (the clip's own sound and blinks), the same after an optional alignment
of each frame's camera on the upper face, swapped between clips, from aside against true pictures where there are any,
driven by voices never heard where there are any, and the baselines: the canonical head, never moving, and variants of
the identity's navigation where an ablation trained them. Beside them leakage, blink, silence and diversity.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.errors import UserError
from dgtalker.evaluation.attached_landmarks import attach_landmarks
from dgtalker.evaluation.baselines import BASELINES, NO_FOLDER, find_baselines, measure_variant
from dgtalker.evaluation.blink import measure_blink
from dgtalker.evaluation.diversity import measure_diversity
from dgtalker.evaluation.fixed_view import FixedView
from dgtalker.evaluation.ground_truth import GroundTruth
from dgtalker.evaluation.held_out import FaceReading, HeldOut, draw, render_clip
from dgtalker.evaluation.landmark_leakage import measure_landmark_leakage
from dgtalker.evaluation.leakage import measure_leakage, sample_states
from dgtalker.evaluation.other_voices import HEADLINES, OtherVoicesConfig, find_recordings, measure_other_voices
from dgtalker.evaluation.provenance import dataset_hash, identity_hash
from dgtalker.evaluation.self_driven import compare, summarise
from dgtalker.evaluation.side_views import measure_views
from dgtalker.evaluation.silence import measure_silence
from dgtalker.evaluation.swap import measure_swap
from dgtalker.report.figures import Curves, ReportFigures, Strip, evenly_spaced

if TYPE_CHECKING:
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Clip, Dataset

__all__ = ["EvaluationConfig", "draw", "evaluate"]
SHEET_COLUMNS = 12
STRIP_COLUMNS = 8
STRIPS = 3  # clips whose frames are exhibited


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure."""

    clips: int = 20  # at most so many clips, spread over the data set
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None
    refine_cameras: bool = False  # also report figures after aligning each camera on the upper face
    truth: Path | None = None  # folder of true pictures from aside, beside the films of a synthetic person
    voices: tuple[Path, ...] = ()  # folders of other people's recordings
    baselines: Path | None = None  # folder of variants that ablate wrote
    sheets: Path | None = None  # folder for contact sheets of real and rendered frames, and lips at the voices' phones
    seed: int = 0  # of the states leakage is measured around


def evaluate(
    identity: Identity,
    dataset: Dataset,
    config: EvaluationConfig | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    faces: FaceReading | None = None,
    report_figures: ReportFigures | None = None,
) -> dict:
    """The report that `dgtalker evaluate --json` prints.

    `faces` reads landmarks; None: MediaPipe. `exhibits` is filled with strips of frames and curves for a page. Raises
    UserError if the data set does not fit the identity, or MediaPipe or its model is missing.
    """
    config = config or EvaluationConfig()
    if faces is None:
        from dgtalker.evaluation.face_reader import FaceReader

        with FaceReader(config.face_landmarker) as reader:
            return evaluate(identity, dataset, config, progress, reader, report_figures)
    started = time.perf_counter()
    if config.clips < 1:
        raise UserError(f"At least one clip must be evaluated, not {config.clips}.")
    if config.truth and not Path(config.truth).is_dir():
        raise UserError(f"The folder of true pictures {config.truth} does not exist.")
    strips = config.sheets and Path(config.sheets, "phones")
    unheard = OtherVoicesConfig(face_landmarker=config.face_landmarker, seed=config.seed, strips=strips)
    if config.voices:  # what is wrong with them is said before the work
        find_recordings(config.voices, unheard.recordings)
    variants = find_baselines(Path(config.baselines)) if config.baselines else {}
    picks = np.unique(np.linspace(0, len(dataset) - 1, min(config.clips, len(dataset))).round().astype(int))
    clips = [dataset.clip(int(i)) for i in picks]
    held = HeldOut.of(identity, dataset, clips, faces, report_figures or ReportFigures())
    other = ("leakage", "swap", "blink and silence", "diversity", "views", "voices")
    done, steps = 0, len(clips) + len(other) + len(variants) * (len(clips) + 2)

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
        truths[clip.name] = GroundTruth.of(clip, faces)
        for name, row in _compare_clip(held, clip, truths[clip.name], settings, config.sheets).items():
            rows[name].append(row)
    blocks = {name: summarise(rows[name], truths.values()) for name in settings}

    begin("leakage")
    attached = attach_landmarks(identity, faces)
    states, cameras = sample_states(held, config.seed)
    leaks = measure_leakage(held, states, cameras)
    landmark_leaks = measure_landmark_leakage(held, states, cameras, attached)
    begin("swap")
    swap = measure_swap(held)
    begin("blink and silence")
    fixed_view = FixedView.of(held)
    blink, silence = measure_blink(held, fixed_view), measure_silence(held, fixed_view)
    begin("diversity")
    diversity = measure_diversity(held, fixed_view, attached)
    begin("views")
    views = measure_views(held, Path(config.truth) if config.truth else None)
    begin("voices")
    if config.voices:
        unseen = measure_other_voices(identity, config.voices, unheard, faces=faces, report_figures=held.report_figures)
    else:
        unseen = {**dict.fromkeys(HEADLINES), "reason": "no recordings of other people were given: --voices DIR"}
    missing = f"{config.baselines} has no variant of this name" if config.baselines else NO_FOLDER
    baselines = {"static": blocks["static"]} | {name: {"reason": missing} for name in BASELINES}
    for name, variant in variants.items():
        beside = HeldOut.of(variant, dataset, clips, faces, ReportFigures())
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
    held: HeldOut, clip: Clip, truth: GroundTruth, settings: list[str], sheets: Path | None
) -> dict[str, dict]:
    """Figures of one clip in each of the settings."""
    real, rows = list(clip.images.numpy()), {}
    for name in settings:
        moving, refined = name.startswith("self_driven"), name.endswith("_refined")
        a_exp, a_lip = held.codes[clip.name] if moving else (np.zeros_like(a) for a in held.codes[clip.name])
        made = render_clip(held.identity, clip, a_exp, a_lip, refined)
        rows[name] = compare(clip.name, real, made, truth.landmarks, held.faces(made), truth.phones)
        if name == "self_driven":
            if sheets:
                _write_sheet(sheets / f"{clip.name}.jpg", real, made)
            if len(held.report_figures.strips.get("self_driven", [])) < STRIPS:
                _show(held.report_figures, clip.name, real, made, rows[name])
    return rows


def _show(report_figures: ReportFigures, name: str, real: list, made: list, row: dict) -> None:
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


def _write_sheet(path: Path, real: list[np.ndarray], made: list[np.ndarray]) -> None:
    """Real frames above, rendered ones below."""
    from PIL import Image

    picks = evenly_spaced(len(real), SHEET_COLUMNS)
    sheet = np.concatenate([np.concatenate([frames[i] for i in picks], axis=1) for frames in (real, made)], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, quality=88)
