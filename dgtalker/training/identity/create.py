"""From a data set to an identity: inversion, tuning, all frames, navigation, baking; each stage can be resumed.

Results of the stages are kept beside the identity in OUT.work/: pivots, tuned generator, latents, navigation, log.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dgtalker.coefficients.describe import describe_coefficients
from dgtalker.errors import UserError
from dgtalker.files import file_sha256
from dgtalker.head.baked import BakedHead
from dgtalker.head.face_controls import FaceControls
from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.identity import Identity
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import BackboneConfig, load_backbone, read_attribution
from dgtalker.pretrained import find_checkpoint
from dgtalker.resumable import (
    Cancelled,
    Progress,
    RunLog,
    add_prefix,
    always_false,
    load_state,
    no_progress,
    save_state,
    select_prefix,
    stop_on_interrupt,
)
from dgtalker.training.identity.baking import bake_head
from dgtalker.training.identity.coefficient_axes import training_coefficients
from dgtalker.training.identity.config import CreateConfig, choose_device, default_prior, find_backbone
from dgtalker.training.identity.face_controls import bake_face_controls
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.inversion import Pivots, fit_all_frames, invert_pivots
from dgtalker.training.identity.model_card import IdentityDetails, render_preview, write_model_card
from dgtalker.training.identity.navigation import finish_navigation, train_navigation
from dgtalker.training.identity.navigation_batches import silent_features
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.identity.preview import make_preview
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.identity.response import measure_splat_response
from dgtalker.training.identity.tuning import pivot_visibility, tune_generator
from dgtalker.training.stage import Stage, default_render
from dgtalker.video.dataset import Dataset

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PREVIEW = "preview"  # folder in WORK: an identity that speaks before tuning is over
MIN_FRAMES = 50  # two seconds: less cannot show how someone speaks


def create_identity(
    dataset_dir: str | Path,
    out: str | Path,
    prior: str | Path | None = None,
    preset: str = "cpu",
    resume: bool = False,
    progress: Progress = no_progress,
    cancelled: Cancelled = always_false,
    config: CreateConfig | None = None,
    details: IdentityDetails | None = None,
    render: Callable = default_render,
    backbone: str | Path | None = None,
) -> Identity:
    """Train an identity on a data set folder, write it to `out` and return it.

    Args:
        dataset_dir: data set written by preprocess.
        out: folder of the identity.
        prior: name, folder or hub repository; None: the shipped "fast" one.
        preset: "cpu" or "gpu", see CreateConfig.preset.
        resume: keep the finished stages of an earlier run with the same settings.
        progress: called as progress(done, 1.0, message).
        cancelled: asked in every step whether to stop.
        config: instead of the preset's settings.
        details: name, source and licence, for config.json and the model card.
        render: the rasteriser.
        backbone: speech backbone that the lip encoder starts from, given like the prior; "none" for none; None: the
            shipped one if it reads this data set's features.

    Raises:
        UserError: data set, prior or backbone are missing or do not fit.
        TrainingStopped: when cancelled.
    """
    config = config or CreateConfig.preset(preset)
    out, dataset = Path(out).resolve(), Dataset.open(dataset_dir)  # resolved: '.' has no name
    if dataset.frames < MIN_FRAMES:
        raise UserError(
            f"The data set {dataset_dir} has only {dataset.frames} frames; at least {MIN_FRAMES} are needed."
        )
    prior_folder = find_checkpoint(prior or default_prior(), kind="prior")
    backbone_folder = find_backbone(backbone, dataset.feature_kind)
    device = choose_device(preset)
    with stop_on_interrupt(cancelled) as stop:
        run = _CreationRun(dataset, out, prior_folder, config, resume, progress, stop, render, device, backbone_folder)
        return run.run_all_stages(details or IdentityDetails())


class _CreationRun:
    """One run of the pipeline: a stage is loaded if it is finished and its settings are unchanged, else computed."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        prior_folder: Path,
        config: CreateConfig,
        resume: bool,
        progress: Progress,
        cancelled: Cancelled,
        render: Callable,
        device: torch.device,
        backbone_folder: Path | None,
    ):
        self.dataset, self.out, self.config, self.resume = dataset, out, config, resume
        self.prior_folder, self.device = prior_folder, device
        self.prior_hash = file_sha256(prior_folder / "model.safetensors")
        self.backbone = None if backbone_folder is None else load_backbone(backbone_folder)
        self.backbone_hash = None if backbone_folder is None else file_sha256(backbone_folder / "model.safetensors")
        self.backbone_credit = "" if backbone_folder is None else read_attribution(backbone_folder)
        self.work = out.with_name(out.name + ".work")
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The output {out} cannot be written ({error.strerror or error}).") from error
        if not resume:
            (self.work / "log.jsonl").unlink(missing_ok=True)
        self.done = 0.0  # share of the pipeline, as last reported

        def report(done: float, total: float | None = None, message: str | None = None) -> None:
            self.done = done
            progress(done, total, message)

        self.common = Stage(
            log=RunLog(self.work / "log.jsonl"), progress=report, cancelled=cancelled, render=render, device=device,
            seed=config.seed,
        )  # fmt: skip
        # What a stage's result depends on: everything before it. Grows from stage to stage.
        self.history = [json.dumps(asdict(dataset.info), sort_keys=True), self.prior_hash, str(config.seed)]
        self.full_frames = DatasetFrames(dataset, device)  # for tuning, which learns the texture
        self.frames = self.full_frames.reduced()
        self.seconds: dict[str, float] = {}

    def run_all_stages(self, details: IdentityDetails) -> Identity:
        generator = Generator.from_pretrained(self.prior_folder).to(self.device)
        config = self.config

        def inversion(stage: Stage) -> dict[str, Tensor]:
            return dict(invert_pivots(generator, self.frames, config.inversion, stage).state_dict())

        pivots = Pivots.from_state(self.load_or_compute("inversion", (0.0, 0.15), config.inversion, inversion)).to(
            self.device
        )

        def tuning(stage: Stage) -> dict[str, Tensor]:
            def preview() -> None:
                here = (self.done, self.done)  # it makes no progress of the pipeline's
                self.write_preview(generator, pivots, details, replace(stage, name="preview", span=here))

            early = None if config.preview_steps is None else (config.preview_steps, preview)
            tune_generator(generator, pivots, self.full_frames, config.tuning, stage, config.inversion, early)
            return {
                **add_prefix("generator", generator.state_dict()),
                **add_prefix("pivots", pivots.state_dict()),
                "seen": pivot_visibility(generator, pivots, self.full_frames, config.tuning, stage),
            }

        tuned = self.load_or_compute("tuning", (0.15, 0.45), config.tuning, tuning)
        generator.load_state_dict(select_prefix("generator", tuned))
        generator.requires_grad_(False).eval()
        pivots.load_state_dict(select_prefix("pivots", tuned))
        visible, w_can = tuned["seen"].to(self.device), pivots.w_can.detach()

        def all_frames(stage: Stage) -> dict[str, Tensor]:
            return {
                "deviations": fit_all_frames(generator, pivots, self.frames, config.all_frames, stage, config.inversion)
            }

        deviations = self.load_or_compute("all frames", (0.45, 0.57), config.all_frames, all_frames)["deviations"]
        head: Generator | WPlusGenerator = generator
        if config.navigation.w_plus:
            head = WPlusGenerator(generator)
            w_can, deviations = head.to_w_plus(w_can), head.to_w_plus(deviations)

        def navigation_stage(stage: Stage) -> dict[str, Tensor]:
            silence = silent_features(self.dataset.feature_kind)
            fitted = deviations.to(self.device)
            stage.report(0.0, "response of the head")
            response = measure_splat_response(head, w_can, visible, fitted)
            model = train_navigation(
                head, w_can, fitted, response, self.frames, silence, config.navigation, stage, self.backbone
            )
            model = finish_navigation(model, head, response, self.frames, config.navigation, stage)
            sizes = [len(w_can), silence.shape[1], model.config.n_exp, model.config.n_lip]
            return {**model.state_dict(), "sizes": torch.tensor(sizes)}

        if self.backbone_hash:  # earlier stages do not depend on the backbone
            self.history.append(self.backbone_hash)
        state = dict(self.load_or_compute("navigation", (0.57, 0.93), config.navigation, navigation_stage))
        navigation = _load_navigation(state, config.navigation, self.backbone.config if self.backbone else None).to(
            self.device
        )

        def baking(stage: Stage) -> dict[str, Tensor]:
            coefficients = torch.cat(training_coefficients(navigation, self.frames), dim=-1)
            regional_head = RegionalHead(head, navigation, config.navigation.regional)
            baked, figures = bake_head(regional_head, coefficients, config.baking, stage.substage(0.0, 0.8))
            controls = None
            if config.face_controls is not None:
                kept_apart = RegionalHead(head, navigation, regional=True)
                controls = bake_face_controls(kept_apart, baked, config.face_controls, stage.substage(0.8, 1.0))
            self.write_identity(self.out, baked, controls, navigation, figures, details, coefficients.cpu().numpy())
            return {}

        self.load_or_compute("baking", (0.93, 1.0), config.baking, baking, keep=False)
        identity = Identity.from_pretrained(self.out)
        self.common.progress(1.0, 1.0, f"{identity.name} is ready in {self.out}")
        return identity

    def write_preview(self, generator: Generator, pivots: Pivots, details: IdentityDetails, stage: Stage) -> None:
        """Write WORK/preview, an identity that speaks and says that it is a preview."""
        silence = silent_features(self.dataset.feature_kind)
        config, start = self.config, time.monotonic()
        head, navigation, figures, coefficients = make_preview(
            generator, pivots, self.frames, silence, config.navigation, config.baking, self.backbone, stage
        )
        name = details.name or self.out.name
        marked = replace(details, name=f"{name}-preview", title=f"{details.title or name} (preview)", preview=True)
        self.write_identity(self.work / PREVIEW, head, None, navigation, figures, marked, coefficients.cpu().numpy())
        self.seconds["preview"] = round(time.monotonic() - start, 1)
        stage.log_values(seconds=self.seconds["preview"], **figures)
        stage.report(1.0, f"a first head speaks in {self.work / PREVIEW}")

    def load_or_compute(
        self,
        name: str,
        span: tuple[float, float],
        settings: DataclassInstance,
        compute: Callable[[Stage], dict[str, Tensor]],
        keep: bool = True,
    ) -> dict[str, Tensor]:
        """The stage's tensors, from its file if that is up to date; keep: whether it has one."""
        self.history.append(json.dumps(asdict(settings), sort_keys=True, default=str))
        key = hashlib.sha256("\n".join(self.history).encode()).hexdigest()
        path = self.work / f"{name.replace(' ', '_')}.safetensors"
        if self.resume and keep:
            try:
                tensors, values = load_state(path)
                if values.get("key") == key:
                    self.seconds[name] = values["seconds"]
                    return tensors
            except FileNotFoundError:
                pass
        stage = replace(self.common, name=name, span=span)
        stage.report(0.0, "starting")
        start = time.monotonic()
        tensors = compute(stage)
        self.seconds[name] = round(time.monotonic() - start, 1)
        if keep:
            save_state(path, tensors, {"key": key, "seconds": self.seconds[name]})
        return tensors

    def write_identity(
        self,
        folder: Path,
        head: BakedHead,
        controls: FaceControls | None,
        navigation: Navigation,
        figures: dict,
        details: IdentityDetails,
        coefficients: np.ndarray,
    ) -> None:
        """Write an identity folder: configuration, weights, preview, model card, description of the coefficients.

        coefficients [T, K] are those of the training frames.
        """
        name = details.name or self.out.name
        config = {
            "title": details.title or name,
            "feature_kind": self.dataset.feature_kind,
            "parents": {"prior": self.prior_hash} | ({"speech": self.backbone_hash} if self.backbone_hash else {}),
            "source": details.source,
            "attribution": "\n\n".join(filter(None, [details.attribution, self.backbone_credit])),
            "license": details.license,
            **({"preview": True} if details.preview else {}),
            "training": {
                "clips": len(self.dataset),
                "frames": self.dataset.frames,
                "seconds": self.seconds,
                "baked": figures,
                "config": json.loads(json.dumps(asdict(self.config), default=str)),
            },
        }
        identity = Identity(name, navigation.cpu(), head.cpu(), config, None if controls is None else controls.cpu())
        strip = describe_coefficients(identity, coefficients)
        identity.save_pretrained(
            folder, render_preview(identity, self.common.render), write_model_card(identity), strip
        )


def _load_navigation(
    state: dict[str, Tensor], config: NavigationTrainingConfig, backbone: BackboneConfig | None = None
) -> Navigation:
    sizes = NavigationConfig(*state.pop("sizes").tolist())
    mix = state.get("lip_encoder.audio.mix.weight")  # wider where lips are borrowed
    settings = {"hidden": config.hidden, "dropout": config.dropout, "bases": config.bases, "backbone": backbone}
    navigation = Navigation(replace(sizes, lip_hidden=None if mix is None else len(mix), **settings))
    navigation.load_state_dict(state)
    return navigation.eval().requires_grad_(False)
