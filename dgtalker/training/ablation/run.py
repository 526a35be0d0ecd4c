"""Ablation: variants of navigation are trained on one tuned head and compared on held-out clips.

Every variant starts from the same tuned head and speech backbone, takes the same steps with the same seed, is baked and
then evaluated like any identity. Leakage is measured twice: in the finished head, and before leakage removal, through
the generator ("trained").

    OUT/NAME/         an identity, and record.json with its settings and figures
    OUT/table.json    all finished variants of the file; OUT/table.md for people
    OUT/.trained/     navigation before leakage removal, shared by variants that only differ after it
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dgtalker.errors import UserError
from dgtalker.evaluation.baselines import leakage_totals, measure_variant
from dgtalker.evaluation.context import EvaluationContext, ReadLandmarks
from dgtalker.evaluation.ground_truth import GroundTruth
from dgtalker.evaluation.leakage import pixel_leakage, sample_face_states
from dgtalker.files import file_sha256, json_safe, write_atomic
from dgtalker.identity import Identity
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import load_backbone
from dgtalker.pretrained import WEIGHTS_FILE, find_checkpoint
from dgtalker.render import render_frame
from dgtalker.report.figures import ReportFigures
from dgtalker.resumable import (
    Cancelled,
    Progress,
    RunLog,
    TrainingStopped,
    always_false,
    load_state,
    no_progress,
    save_state,
    stop_on_interrupt,
)
from dgtalker.training.ablation.table import format_markdown, make_table
from dgtalker.training.ablation.variants import Variant, read_variants, select_variants
from dgtalker.training.identity.baking import BakingConfig, bake_head, generate_gaussians
from dgtalker.training.identity.coefficient_axes import training_coefficients
from dgtalker.training.identity.config import CreateConfig, choose_device, default_prior, find_backbone
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.navigation import finish_navigation, train_navigation
from dgtalker.training.identity.navigation_batches import silent_features
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.identity.tuned_head import TunedHead
from dgtalker.training.stage import Stage
from dgtalker.video.dataset import Clip, Dataset

STOPPED = "Stopped; finished variants are kept, the same command goes on with the others."
RECORD = "record.json"


@dataclass(frozen=True)
class AblationConfig:
    """What is trained, and how it is measured."""

    variants: Path  # file, see variants.py
    work: Path  # work folder of a create-identity run
    prior: str | None = None  # of that run: shipped name, folder or hub repository; None: the shipped one
    backbone: str | None = None  # speech backbone of the lip encoder, as in create-identity
    only: tuple[str, ...] = ()  # names of variants to run; empty: all
    preset: str = "cpu"  # of create-identity: the settings that variants change, and the device
    clips: int = 20  # held-out clips, at most
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None


def ablate(
    dataset_dir: str | Path,
    test_dir: str | Path,
    out: str | Path,
    config: AblationConfig,
    progress: Progress = no_progress,
    cancelled: Cancelled = always_false,
    read_landmarks: ReadLandmarks | None = None,
    baking: BakingConfig | None = None,
) -> dict:
    """Train and measure the variants that are not finished yet; returns the table (see table.py).

    Args:
        dataset_dir: data set that the head in config.work was trained on.
        test_dir: data set of held-out clips.
        out: folder of variants and table.
        config: what is trained and how it is measured.
        progress: called as progress(done, 1.0, message).
        cancelled: asked in every step whether to stop.
        read_landmarks: landmark detector; None: MediaPipe.
        baking: settings of baking instead of the preset's.

    Raises:
        UserError: bad input.
        TrainingStopped: when cancelled; finished variants are kept.
    """
    preset = CreateConfig.preset(config.preset)
    seed, variants = read_variants(config.variants, preset.navigation)
    chosen = select_variants(variants, list(config.only))
    if config.clips < 1:
        raise UserError(f"At least one clip must be evaluated, not {config.clips}.")
    dataset, test = Dataset.open(dataset_dir), Dataset.open(test_dir)
    prior_folder = find_checkpoint(config.prior or default_prior(), kind="prior")
    backbone_folder = find_backbone(config.backbone, dataset.feature_kind)
    frames = DatasetFrames(dataset, choose_device(config.preset)).reduced()
    head = TunedHead.load(Path(config.work), prior_folder, frames)
    for variant in chosen:
        counts = variant.config.n_exp, variant.config.n_lip
        if not min(counts) or sum(counts) > len(head.w_can):
            raise UserError(f"{variant.name}: each branch needs a direction, and W has only {len(head.w_can)} of them.")
    picks = np.unique(np.linspace(0, len(test) - 1, min(config.clips, len(test))).round().astype(int))
    clips = [test.clip(int(i)) for i in picks]
    with contextlib.ExitStack() as stack:
        if read_landmarks is None:
            from dgtalker.evaluation.landmark_reader import LandmarkReader

            read_landmarks = stack.enter_context(LandmarkReader(config.face_landmarker))
        stop = stack.enter_context(stop_on_interrupt(cancelled))
        stage = Stage(progress=progress, cancelled=stop, device=frames.device, seed=seed)
        prior_hash = file_sha256(prior_folder / WEIGHTS_FILE)
        run = _AblationRun(
            Path(out), dataset, test, clips, frames, head, prior_hash, read_landmarks, baking or preset.baking, stage,
            backbone_folder,
        )  # fmt: skip
        try:
            return run.run_all_variants(variants, chosen)
        except TrainingStopped:
            raise TrainingStopped(STOPPED) from None


@dataclass
class _AblationRun:
    """The variants of one call of `ablate`, and what they share."""

    out: Path
    dataset: Dataset
    test: Dataset
    clips: Sequence[Clip]
    frames: DatasetFrames
    head: TunedHead
    prior_hash: str
    read_landmarks: ReadLandmarks
    baking: BakingConfig
    common: Stage
    backbone_folder: Path | None
    truths: dict[str, GroundTruth] | None = None  # of the clips, once they are needed

    def __post_init__(self):
        self.backbone = None if self.backbone_folder is None else load_backbone(self.backbone_folder)
        self.backbone_hash = None if self.backbone_folder is None else file_sha256(self.backbone_folder / WEIGHTS_FILE)

    def run_all_variants(self, variants: list[Variant], chosen: list[Variant]) -> dict:
        table = self.write_table(variants)
        for number, variant in enumerate(chosen):
            span = number / len(chosen), (number + 1) / len(chosen)
            if self.read_finished_record(variant) is None:
                log = RunLog(self.out / variant.name / "log.jsonl")
                self.run_variant(variant, replace(self.common, name=variant.name, span=span, log=log))
                table = self.write_table(variants)
        self.common.progress(1.0, 1.0, "done")
        return table

    def run_variant(self, variant: Variant, stage: Stage) -> None:
        """Train, finish, bake and measure a variant; its record is written last."""
        clock, seconds = time.monotonic(), {}

        def record_seconds(name: str) -> None:
            nonlocal clock
            seconds[name], clock = round(time.monotonic() - clock, 1), time.monotonic()

        stage.report(0.0, "starting")
        head = self.head.in_w_plus if variant.config.w_plus else self.head
        trained = self.load_or_train(variant, head, stage.substage(0.0, 0.7))
        record_seconds("training")
        stage.report(0.7, "leakage removal and anchor")
        navigation = finish_navigation(
            copy.deepcopy(trained), head.generator, head.response, self.frames, variant.config, stage.substage(0.7, 0.8)
        )
        record_seconds("finishing")
        coefficients = torch.cat(training_coefficients(navigation, self.frames), dim=-1)
        regional_head = RegionalHead(head.generator, navigation, variant.config.regional)
        baked, _ = bake_head(regional_head, coefficients, self.baking, stage.substage(0.8, 0.85))
        parents = {"prior": self.prior_hash, "head": self.head.digest, "speech": self.backbone_hash}
        details = {
            "title": variant.name,
            "feature_kind": self.dataset.feature_kind,
            "parents": {kind: digest for kind, digest in parents.items() if digest},
            "source": f"an ablation: {variant.says}",
        }
        folder = self.out / variant.name
        Identity(variant.name, navigation.cpu(), baked.cpu(), details).save_pretrained(folder)
        record_seconds("baking")
        identity = Identity.from_pretrained(folder)  # as stored, in half precision
        figures = self.measure(identity, head, trained, stage.substage(0.85, 1.0))
        record_seconds("measuring")
        settings = json.loads(json.dumps(asdict(variant.config)))
        record = {"key": self.settings_digest(variant), "settings": settings, "figures": figures, "seconds": seconds}
        _write_json(folder / RECORD, record)

    def load_or_train(self, variant: Variant, head: TunedHead, stage: Stage) -> Navigation:
        """Navigation before leakage removal, from its file if a variant with the same training has written it."""
        key = _digest(
            self.head.digest, asdict(self.dataset.info), stage.seed, self.backbone_hash, variant.training_settings()
        )
        path = self.out / ".trained" / f"{key[:16]}.safetensors"
        try:
            state, values = load_state(path)
            navigation = Navigation(NavigationConfig.from_dict(values["navigation"]))
            navigation.load_state_dict(state)
            return navigation.to(self.frames.device).eval().requires_grad_(False)
        except FileNotFoundError:
            pass
        navigation = train_navigation(
            head.generator, head.w_can, head.deviations, head.response, self.frames,
            silent_features(self.dataset.feature_kind), variant.config, stage, self.backbone,
        )  # fmt: skip
        save_state(path, navigation.state_dict(), {"navigation": navigation.config.to_dict()})
        return navigation

    def measure(self, identity: Identity, head: TunedHead, trained: Navigation, stage: Stage) -> dict:
        """Figures of the identity (see measure_variant), and leakage in pixels before leakage removal ("trained")."""
        if self.truths is None:
            stage.report(0.0, "landmarks of the held-out clips")
            self.truths = {clip.name: GroundTruth.from_clip(clip, self.read_landmarks) for clip in self.clips}
        held = EvaluationContext.from_clips(identity, self.test, list(self.clips), self.read_landmarks, ReportFigures())
        done = iter(range(10**9))
        figures = measure_variant(
            held, self.truths, stage.seed,
            lambda what: stage.report(min(0.8, 0.7 * next(done) / len(self.clips)), f"measuring {what}"),
        )  # fmt: skip
        stage.report(0.8, "measuring leakage before its removal")
        states, cameras = sample_face_states(held, stage.seed)

        unregional = RegionalHead(head.generator, trained, regional=False)

        def picture(a_exp: np.ndarray, a_lip: np.ndarray, s: int) -> np.ndarray:
            code = torch.from_numpy(np.concatenate([a_exp, a_lip]))[None].to(self.frames.device)
            return render_frame(generate_gaussians(unregional, code)[0].to("cpu"), cameras[s])

        left = pixel_leakage(picture, states, identity.exp_names, identity.lip_names)
        return {**figures, "trained": {"leakage": leakage_totals(left)}}

    def settings_digest(self, variant: Variant) -> str:
        """Hash of everything that a variant's figures depend on."""
        return _digest(
            self.head.digest, asdict(self.dataset.info), asdict(self.test.info), [clip.name for clip in self.clips],
            self.common.seed, self.backbone_hash, asdict(variant.config), asdict(self.baking),
        )  # fmt: skip

    def read_finished_record(self, variant: Variant) -> dict | None:
        """The record of a variant; None unless it was finished with the same settings."""
        try:
            record = json.loads((self.out / variant.name / RECORD).read_text(encoding="utf-8"))
            return record if record["key"] == self.settings_digest(variant) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write_table(self, variants: list[Variant]) -> dict:
        """Write and return the table of all variants that are finished."""
        records = {variant: record for variant in variants if (record := self.read_finished_record(variant))}
        table = make_table(records, self.dataset, self.test, self.clips, self.common.seed)
        _write_json(self.out / "table.json", table)
        write_atomic(self.out / "table.md", format_markdown(table).encode())
        return table


def _digest(*parts: object) -> str:
    return hashlib.sha256("\n".join(json.dumps(p, sort_keys=True, default=str) for p in parts).encode()).hexdigest()


def _write_json(path: Path, value: dict) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(json_safe(value), indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}.") from error
