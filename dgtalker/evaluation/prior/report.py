"""evaluate-prior: how well a prior fits held-out people. Starts the work, collects the results, writes the report.

    fitted pictures (3 views) -> inversion: w          -> pictures from other views, against the truth
                              -> tuning around that w  -> the same

Each person's results have a file of their own, so that a stopped run can be resumed. Beside the fits: geometry against
the true mesh, interpolations between people, how far W reaches the face units, and metrics by group.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgtalker import pretrained, resumable
from dgtalker.errors import UserError
from dgtalker.evaluation.prior import summary
from dgtalker.evaluation.prior.expressiveness import measure_face_units
from dgtalker.evaluation.prior.fitting import FittingConfig
from dgtalker.evaluation.prior.held_out import ALL_VIEWS, DETAIL_SIZE, FIT_VIEWS, SEVEN_VIEWS, UNSEEN_VIEWS
from dgtalker.evaluation.prior.initialization import RidgeEncoder
from dgtalker.evaluation.prior.person import PriorContext, measure_person, result_path
from dgtalker.evaluation.prior.smoothness import mean_interpolation
from dgtalker.files import json_safe, write_atomic
from dgtalker.head.generator import Generator
from dgtalker.head.template import HeadTemplate
from dgtalker.people.source import PeopleSource, SyntheticPeople
from dgtalker.report.contact_sheets.prior import pick_best_to_worst, write_close_up_sheet, write_report_sheet

METHOD = 2  # raised when results of an earlier run must not be mixed with new ones
TARGETS = {"inversion_db": 28.0, "tuned_db": 33.0, "gap_db": 2.0}
REPORT_FILE, SHEET_FILE, DETAIL_FILE = "report.json", "report.jpg", "detail.jpg"
ENCODER_FILE = "guess.safetensors"
DETAIL_PEOPLE = 3  # on the picture of eyes and mouths
STOPPED = "Stopped; the same command goes on from here."


@dataclass(frozen=True)
class PriorReportConfig:
    """Settings of evaluate-prior."""

    prior: str | Path  # shipped name, folder or hub repository
    makehuman: Path | None = None  # folder with MakeHuman's skins, hair, eyes, ... (CC0)
    output: Path | None = None  # folder of report.json and report.jpg; None: the prior's
    work: Path | None = None  # folder of per-person results; None: report-work in the output
    people: int = 40  # held-out people
    first: int = 0  # number of the first one; others are for trying settings on
    seed: int = 0  # of the people and the encoder
    size: int = 256  # side of the pictures in pixels
    workers: int = 2  # processes
    walks: int = 12  # interpolations between pairs of people
    fitting: FittingConfig = field(default_factory=FittingConfig)

    @property
    def numbers(self) -> range:
        """Numbers of the held-out people."""
        return range(self.first, self.first + self.people)

    def check(self) -> None:
        """Raises UserError."""
        if self.people < 1 or self.workers < 1:
            raise UserError("evaluate-prior needs at least one person and one worker.")


def evaluate_prior(
    config: PriorReportConfig,
    progress: resumable.Progress = resumable.no_progress,
    cancelled: resumable.Cancelled = resumable.always_false,
    source: PeopleSource | None = None,
    template: HeadTemplate | None = None,
) -> dict:
    """Measure a prior and write report.json and report.jpg; returns the report.

    Args:
        config: settings.
        progress: progress(done, total, message) in people.
        cancelled: asked between steps; Ctrl-C does the same.
        source: other people than the packaged ones.
        template: another head than the packaged one; then everything runs in this process.

    Raises:
        UserError: no such prior, no material for people, or a folder that cannot be written.
        TrainingStopped: stopped on request; the same call resumes.
    """
    config.check()
    started = time.perf_counter()
    prior = pretrained.find_checkpoint(config.prior, "prior")
    generator = Generator.from_pretrained(prior, template=template).requires_grad_(False)
    if source is None:
        if config.makehuman is None:
            raise UserError("Held-out people need --makehuman, the folder with MakeHuman's skins, hair and eyes.")
        source = SyntheticPeople(config.makehuman, generator.config.map_size, template)
    alone = template is not None or config.workers == 1  # a template is not sent to workers
    output = Path(config.output or prior)
    weights = pretrained.read_config(prior, "prior").get("weights_sha256", "")
    work = _work_folder(config, output, weights, source)
    with resumable.stop_on_interrupt(cancelled) as stop:
        try:
            _measure_people(config, prior, generator, source, work, progress, stop, alone)
        except resumable.TrainingStopped:
            raise resumable.TrainingStopped(STOPPED) from None
        results = [resumable.load_state(result_path(work, n)) for n in config.numbers]
        progress(config.people, config.people, "walks and face units")
        people = [values for _, values in results]
        latents = [tensors["w"] for tensors, _ in results[: config.walks + 1]]
        report: dict[str, Any] = {
            "prior": prior.name,
            "weights_sha256": weights,
            "people": len(people),
            "seed": config.seed,
            "size": config.size,
            "fit_views": [list(view) for view in FIT_VIEWS],
            "unseen_views": [list(view) for view in UNSEEN_VIEWS],
            "seven_views": [list(view) for view in SEVEN_VIEWS],
            "inversion": summary.fit_metrics(people, "inversion"),
            "tuned": summary.fit_metrics(people, "tuned"),
            "baselines": {"mean_head": _headline_metrics(summary.fit_metrics(people, "mean_head"))},
            "geometry_mm": {
                stage: summary.mean_geometry(people, stage) for stage in ("mean_head", "inversion", "tuned")
            },
            "detail": {"size": DETAIL_SIZE, **summary.mean_detail(people)},
            "expression_error": sum(p["expression_error"] for p in people) / len(people),
            "interpolation": mean_interpolation(generator, latents, config.size),
            "face_units": measure_face_units(generator),
        }  # fmt: skip
    by_stage = {stage: summary.compare_groups(report[stage]) for stage in ("inversion", "tuned")}
    report["fairness"] = {**by_stage["tuned"], "by_stage": by_stage}
    report["targets"] = {**TARGETS, "met": targets_met(report)}
    report["fitting"] = asdict(config.fitting)
    report["seconds_per_person"] = _mean_seconds(people)
    report["seconds"] = round(time.perf_counter() - started, 1)
    chosen = pick_best_to_worst([summary.mean_over_views(p["figures"]["tuned"]["psnr"], UNSEEN_VIEWS) for p in people])
    _write(output, report, [results[i][0]["sheet"] for i in chosen], _details([t for t, _ in results]))
    if output.resolve() == prior.resolve():
        _refresh_card(prior, generator)
    return report


def targets_met(report: dict) -> dict[str, bool]:
    """Which TARGETS are reached; PSNR is over SEVEN_VIEWS."""
    gap = report["fairness"]["gap_db"]
    return {
        "inversion_db": report["inversion"]["psnr_seven_views"] >= TARGETS["inversion_db"],
        "tuned_db": report["tuned"]["psnr_seven_views"] >= TARGETS["tuned_db"],
        "gap_db": gap <= TARGETS["gap_db"],
    }


# ---- files ----


def _work_folder(config: PriorReportConfig, output: Path, weights: str, source: PeopleSource) -> Path:
    """Folder of this prior's results on these people; other weights, settings or assets have another one."""
    parts = (METHOD, weights, source.fingerprint(), config.seed, config.size, asdict(config.fitting), ALL_VIEWS)
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    top = Path(config.work or output / "report-work")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (top / key).mkdir(parents=True, exist_ok=True)
        (top / ".gitignore").write_text("*\n")  # it may lie in a shipped prior's folder
    except OSError as error:
        raise UserError(f"'{top}' cannot be written: {error.strerror or error}.") from error
    return top / key


def _finished(work: Path, number: int) -> bool:
    try:
        resumable.load_state(result_path(work, number))
    except (FileNotFoundError, UserError):  # a damaged one is made again
        return False
    return True


def _details(results: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The crops of the first few people."""
    return [
        {name.removeprefix("detail/"): crop for name, crop in tensors.items() if name.startswith("detail/")}
        for tensors in results[:DETAIL_PEOPLE]
    ]


def _write(output: Path, report: dict, sheets: list[Tensor], details: list[dict[str, Tensor]]) -> None:
    text = json.dumps(json_safe(report), indent=2) + "\n"
    try:
        write_atomic(output / REPORT_FILE, text.encode())
        write_report_sheet(output / SHEET_FILE, sheets)
        if details[0]:
            write_close_up_sheet(output / DETAIL_FILE, details)
    except OSError as error:
        raise UserError(f"'{output}' cannot be written: {error.strerror or error}.") from error


def _refresh_card(prior: Path, generator: Generator) -> None:
    from dgtalker.report.cards.prior import write_card

    training = pretrained.read_config(prior, "prior").get("training") or {}
    if "people" in training and "captured" in training:
        write_card(prior, generator, training)


def _headline_metrics(figures: dict) -> dict:
    return {key: value for key, value in figures.items() if isinstance(value, float)}


def _mean_seconds(people: list[dict]) -> dict[str, float]:
    """Mean seconds of each stage, and of all together."""
    names = people[0]["seconds"]
    means = {name: round(sum(p["seconds"][name] for p in people) / len(people), 2) for name in names}
    return {**means, "all": round(sum(means.values()), 2)}


# ---- work ----


def _measure_people(
    config: PriorReportConfig, prior: Path, generator: Generator, source: PeopleSource, work: Path,
    progress: resumable.Progress, stop: resumable.Cancelled, alone: bool,
) -> None:  # fmt: skip
    """Measure those of the people whose results are not there yet; `alone`: in this process. Raises TrainingStopped."""
    encoder = _load_or_fit_encoder(config, generator, work, progress, stop)
    missing = [number for number in config.numbers if not _finished(work, number)]
    done = config.people - len(missing)
    progress(done, config.people, "people")

    def count_person() -> None:
        nonlocal done
        done += 1
        progress(done, config.people, "people")

    if not alone:
        _measure_in_workers(config, prior, source, work, missing, count_person, stop)
        return
    context = PriorContext(generator, source, encoder, config.fitting, config.size, config.seed, work)
    for number in missing:
        measure_person(context, number, stop)
        count_person()


def _load_or_fit_encoder(
    config: PriorReportConfig, generator: Generator, work: Path, progress: resumable.Progress, stop: resumable.Cancelled
) -> RidgeEncoder:
    """The encoder from the work folder, or fitted now. Raises TrainingStopped."""
    try:
        tensors, _ = resumable.load_state(work / ENCODER_FILE)
    except (FileNotFoundError, UserError):
        samples, seed = config.fitting.samples, config.seed
        encoder = RidgeEncoder.fit(generator, FIT_VIEWS, config.size, samples, seed, progress, stop)
        resumable.save_state(work / ENCODER_FILE, {"pictures": encoder.pictures, "latents": encoder.latents}, {})
        return encoder
    return RidgeEncoder(tensors["pictures"], tensors["latents"])


def _measure_in_workers(
    config: PriorReportConfig,
    prior: Path,
    source: PeopleSource,
    work: Path,
    missing: list[int],
    count_person: Callable[[], None],
    stop: resumable.Cancelled,
) -> None:
    """Measure `missing` people in processes of one thread each."""
    spawn = multiprocessing.get_context("spawn")  # torch and VTK do not survive a fork
    halt = spawn.Event()
    with ProcessPoolExecutor(
        max(1, min(config.workers, len(missing))), spawn, _start_worker, (config, str(prior), source, work, halt)
    ) as executor:
        pending = {executor.submit(_measure_number, number) for number in missing}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    count_person()
                if stop():
                    raise resumable.TrainingStopped("Stopped.")
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process of evaluate-prior died, probably for lack of memory; try --workers 1."
            ) from error
        finally:
            halt.set()
            executor.shutdown(wait=True, cancel_futures=True)


# Of this worker process.
_context: PriorContext | None = None
_stop_requested: Event | None = None


def _start_worker(config: PriorReportConfig, prior: str, source: PeopleSource, work: Path, halt: Event) -> None:
    import signal

    global _context, _stop_requested
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.nice(5)
    torch.set_num_threads(1)
    generator = Generator.from_pretrained(prior)
    encoder = _load_or_fit_encoder(config, generator, work, resumable.no_progress, resumable.always_false)
    _context = PriorContext(generator, source, encoder, config.fitting, config.size, config.seed, work)
    _stop_requested = halt


def _measure_number(number: int) -> None:
    assert _context is not None and _stop_requested is not None  # set by _start_worker
    measure_person(_context, number, _stop_requested.is_set)
