"""From a data set to an identity: inversion, tuning, all frames, navigation, baking; resumable stage by stage.

Intermediate results live beside the identity in OUT.work/: pivots, personalised generator, latents, navigation, log.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.coefficients.describe import describe, training_ranges
from dgtalker.errors import UserError
from dgtalker.files import file_sha256
from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import LayeredGenerator
from dgtalker.identity import Identity, list_priors
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import DEFAULT_BACKBONE, BackboneConfig, attribution, load_backbone
from dgtalker.navigation.speech_backbone import KIND as BACKBONE_KIND
from dgtalker.pretrained import list_checkpoints, resolve
from dgtalker.report.cards.coefficients import with_coefficients
from dgtalker.resumable import (
    Cancelled,
    Log,
    Progress,
    load_state,
    never,
    no_progress,
    pack,
    save_state,
    stop_on_interrupt,
    unpack,
)
from dgtalker.training.identity.baking import BakingConfig, bake
from dgtalker.training.identity.frames import Frames
from dgtalker.training.identity.inversion import AllFramesConfig, InversionConfig, Pivots, fit_all_frames, invert
from dgtalker.training.identity.navigation import NavigationTrainingConfig, navigate, training_coefficients
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.identity.tuning import TuningConfig, pivot_visibility, tune
from dgtalker.training.stage import Stage, default_render
from dgtalker.video.dataset import Dataset

PREVIEW_SIZE = 384
MIN_FRAMES = 50  # two seconds: less cannot show how someone speaks
SILENCE_SECONDS = 8.0
DEFAULT_PRIOR = "fast"
NO_BACKBONE = "none"


@dataclass(frozen=True)
class CreateConfig:
    """All stages' settings; see the presets."""

    inversion: InversionConfig = field(default_factory=InversionConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    all_frames: AllFramesConfig = field(default_factory=AllFramesConfig)
    navigation: NavigationTrainingConfig = field(default_factory=NavigationTrainingConfig)
    baking: BakingConfig = field(default_factory=BakingConfig)
    seed: int = 0

    @staticmethod
    def preset(name: str) -> CreateConfig:
        """ "cpu": under half an hour on two cores. "gpu": more frames and steps, for a CUDA device."""
        cpu = CreateConfig()
        presets = {
            "cpu": cpu,
            "gpu": CreateConfig(
                inversion=replace(cpu.inversion, frames=200, batch=8, max_steps=1500, minutes=30),
                tuning=replace(cpu.tuning, batch=8, max_steps=4000, minutes=60),
                all_frames=replace(cpu.all_frames, batch=8, max_steps=3000, minutes=30),
                navigation=replace(cpu.navigation, image_steps=20000, image_minutes=60, warm_minutes=10),
                baking=replace(cpu.baking, samples=2500, batch=16),
            ),
        }
        if name not in presets:
            raise UserError(f"There is no preset '{name}': choose cpu or gpu.")
        return presets[name]


@dataclass(frozen=True)
class Card:
    """Who is shown and by whose leave; goes into config.json and the model card."""

    name: str = ""  # default: the output folder's name
    title: str = ""  # name for people
    source: str = "a video supplied by the user"  # what the identity was trained on
    attribution: str = ""  # licence and credit of that material
    license: str = ""  # of the weights, by its Hugging Face name, such as cc-by-4.0

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9.-]*", self.license):
            raise UserError(f"'{self.license}' is no name of a licence; Hugging Face's are like cc-by-4.0.")


def create_identity(
    dataset_dir: str | Path,
    out: str | Path,
    prior: str | Path | None = None,
    preset: str = "cpu",
    resume: bool = False,
    progress: Progress = no_progress,
    cancelled: Cancelled = never,
    config: CreateConfig | None = None,
    card: Card | None = None,
    render: Callable = default_render,
    backbone: str | Path | None = None,
) -> Identity:
    """Train an identity on a data set folder and write it to `out`; returns it.

    prior: name, folder or hub repository (default: the shipped "fast" one). backbone: the same for the speech
    backbone that the lip encoder starts from, "none" for none (default: the shipped one if it hears this
    data set's features).
    resume: keep finished stages of an earlier run with the same settings. progress(done, 1.0, message); cancelled() is
    asked every step.

    Raises UserError if data set, prior or backbone are missing or unfit; TrainingStopped when cancelled.
    """
    config = config or CreateConfig.preset(preset)
    out, dataset = Path(out).resolve(), Dataset.open(dataset_dir)  # resolved: '.' has no name
    if dataset.frames < MIN_FRAMES:
        raise UserError(
            f"The data set {dataset_dir} has only {dataset.frames} frames; at least {MIN_FRAMES} are needed."
        )
    prior_folder = resolve(prior or default_prior(), kind="prior")
    backbone_folder = find_backbone(backbone, dataset.feature_kind)
    device = choose_device(preset)
    with stop_on_interrupt(cancelled) as stop:
        run = _Run(dataset, out, prior_folder, config, resume, progress, stop, render, device, backbone_folder)
        return run.all(card or Card())


def default_prior() -> str:
    """Name of the shipped prior. Raises UserError if none is shipped."""
    names = list_priors()
    if not names:
        raise UserError("No prior is shipped with this installation; name one with --prior or run train-prior.")
    return DEFAULT_PRIOR if DEFAULT_PRIOR in names else names[0]


def find_backbone(wanted: str | Path | None, feature_kind: str) -> Path | None:
    """Of the backbone to start from; None: none is wanted, or none is shipped for these features."""
    if str(wanted) == NO_BACKBONE:
        return None
    if wanted is None:
        if DEFAULT_BACKBONE not in list_checkpoints(BACKBONE_KIND):
            return None
        wanted = DEFAULT_BACKBONE
        if load_backbone(wanted).config.feature_kind != feature_kind:
            return None
    folder = resolve(wanted, kind=BACKBONE_KIND)
    kind = load_backbone(folder).config.feature_kind
    if kind != feature_kind:
        raise UserError(f"The speech backbone '{wanted}' hears {kind} features; this data set has {feature_kind}.")
    return folder


def choose_device(preset: str) -> torch.device:
    """Of a preset; the CPU, with a warning, where there is no CUDA device."""
    if preset != "gpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        import warnings

        warnings.warn("No CUDA device is available; the gpu preset runs on the CPU and takes long.", stacklevel=3)
        return torch.device("cpu")
    return torch.device("cuda")


class _Run:
    """One run of the pipeline: a stage is loaded if it is finished and its settings are unchanged, else computed."""

    def __init__(
        self, dataset, out, prior_folder, config, resume, progress, cancelled, render, device, backbone_folder
    ):
        self.dataset, self.out, self.config, self.resume = dataset, out, config, resume
        self.prior_folder, self.device = prior_folder, device
        self.prior_hash = file_sha256(prior_folder / "model.safetensors")
        self.backbone = None if backbone_folder is None else load_backbone(backbone_folder)
        self.backbone_hash = None if backbone_folder is None else file_sha256(backbone_folder / "model.safetensors")
        self.backbone_credit = "" if backbone_folder is None else attribution(backbone_folder)
        self.work = out.with_name(out.name + ".work")
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The output {out} cannot be written ({error.strerror or error}).") from error
        if not resume:
            (self.work / "log.jsonl").unlink(missing_ok=True)
        self.common = Stage(
            log=Log(self.work / "log.jsonl"), progress=progress, cancelled=cancelled, render=render, device=device,
            seed=config.seed,
        )  # fmt: skip
        # What a stage's result depends on: everything before it. Grows from stage to stage.
        self.history = [json.dumps(asdict(dataset.info), sort_keys=True), self.prior_hash, str(config.seed)]
        self.frames = Frames(dataset, device)
        self.seconds: dict[str, float] = {}

    def all(self, card: Card) -> Identity:
        generator = Generator.from_pretrained(self.prior_folder).to(self.device)
        config = self.config

        def inversion(stage: Stage) -> dict[str, Tensor]:
            return dict(invert(generator, self.frames, config.inversion, stage).state_dict())

        pivots = Pivots.from_state(self.stage("inversion", (0.0, 0.15), config.inversion, inversion)).to(self.device)

        def tuning(stage: Stage) -> dict[str, Tensor]:
            tune(generator, pivots, self.frames, config.tuning, stage, config.inversion)
            seen = pivot_visibility(generator, pivots, self.frames, config.tuning, stage)
            return {
                **pack("generator", generator.state_dict()),
                **pack("pivots", pivots.state_dict()),
                "seen": seen,
            }

        tuned = self.stage("tuning", (0.15, 0.45), config.tuning, tuning)
        generator.load_state_dict(unpack("generator", tuned))
        generator.requires_grad_(False).eval()
        pivots.load_state_dict(unpack("pivots", tuned))
        seen, w_can = tuned["seen"].to(self.device), pivots.w_can.detach()

        def all_frames(stage: Stage) -> dict[str, Tensor]:
            return {
                "deviations": fit_all_frames(generator, pivots, self.frames, config.all_frames, stage, config.inversion)
            }

        deviations = self.stage("all frames", (0.45, 0.57), config.all_frames, all_frames)["deviations"]
        if config.navigation.w_plus:
            generator = LayeredGenerator(generator)
            w_can, deviations = generator.lift(w_can), generator.lift(deviations)

        def navigation_stage(stage: Stage) -> dict[str, Tensor]:
            silence = silence_features(self.dataset.feature_kind)
            model = navigate(
                generator, w_can, deviations.to(self.device), seen, self.frames, silence, config.navigation, stage,
                self.backbone,
            )  # fmt: skip
            sizes = [len(w_can), silence.shape[1], model.config.n_exp, model.config.n_lip]
            return {**model.state_dict(), "sizes": torch.tensor(sizes)}

        if self.backbone_hash:  # from here on
            self.history.append(self.backbone_hash)
        state = dict(self.stage("navigation", (0.57, 0.93), config.navigation, navigation_stage))
        navigation = _navigation(state, config.navigation, self.backbone and self.backbone.config).to(self.device)
        figures: dict = {}

        def baking(stage: Stage) -> dict[str, Tensor]:
            coefficients = torch.cat(training_coefficients(navigation, self.frames), dim=-1)
            driven = RegionalHead(generator, navigation, config.navigation.regional)
            head, found = bake(driven, coefficients, config.baking, stage)
            figures.update(found)
            return self.write(head, navigation, found, card, training_ranges(coefficients))

        self.stage("baking", (0.93, 1.0), config.baking, baking, keep=False)
        identity = Identity.from_pretrained(self.out)
        self.common.progress(1.0, 1.0, f"{identity.name} is ready in {self.out}")
        return identity

    def stage(
        self,
        name: str,
        span: tuple[float, float],
        settings: object,
        compute: Callable[[Stage], dict[str, Tensor]],
        keep: bool = True,
    ) -> dict[str, Tensor]:
        """The stage's tensors, from its file if that is up to date."""
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

    def write(self, head, navigation: Navigation, figures: dict, card: Card, ranges: np.ndarray) -> dict[str, Tensor]:
        """The identity folder: configuration, weights, preview, model card, what the coefficients do.

        ranges [K, 2] of the coefficients over the training frames.
        """
        name = card.name or self.out.name
        details = {
            "title": card.title or name,
            "feature_kind": self.dataset.feature_kind,
            "parents": {"prior": self.prior_hash} | ({"speech": self.backbone_hash} if self.backbone_hash else {}),
            "source": card.source,
            "attribution": "\n\n".join(filter(None, [card.attribution, self.backbone_credit])),
            "license": card.license,
            "training": {
                "clips": len(self.dataset),
                "frames": self.dataset.frames,
                "seconds": self.seconds,
                "baked": figures,
                "config": json.loads(json.dumps(asdict(self.config), default=str)),
            },
        }
        identity = Identity(name, navigation.cpu(), head.cpu(), details)
        strip = describe(identity, ranges)
        identity.save_pretrained(self.out, preview_picture(identity, self.common.render), model_card(identity), strip)
        return {}


def _navigation(
    state: dict[str, Tensor], config: NavigationTrainingConfig, backbone: BackboneConfig | None = None
) -> Navigation:
    sizes = NavigationConfig(*state.pop("sizes").tolist())
    navigation = Navigation(
        replace(sizes, hidden=config.hidden, dropout=config.dropout, bases=config.bases, backbone=backbone)
    )
    navigation.load_state_dict(state)
    return navigation.eval().requires_grad_(False)


def silence_features(kind: str, rate: int = 16000) -> Tensor:
    """Features [2F, D] of nobody speaking: digital silence, then faint hiss as of a quiet room."""
    from dgtalker.audio.features import extract_features

    random = np.random.default_rng(0)
    half = int(SILENCE_SECONDS / 2 * rate)
    hiss = random.normal(0, 1e-4, half)
    parts = [np.zeros(half), hiss]
    return torch.cat([torch.from_numpy(extract_features(part.astype(np.float32), kind)).float() for part in parts])


def preview_picture(identity: Identity, render: Callable = default_render, size: int = PREVIEW_SIZE) -> np.ndarray:
    """uint8 [size, size, 3]: the canonical head, turned a little."""
    splats = identity.gaussians(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    image, _ = render(splats, Camera.stack([orbit_camera(yaw=15, pitch=3, size=size)]).to(identity.device))
    return (image[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def model_card(identity: Identity) -> str:
    """README.md of the identity folder."""
    config, training = identity.config, identity.config["training"]
    baked = training["baked"]
    lines = [
        "---",
        *([f"license: {config['license']}"] if config.get("license") else []),
        "library_name: dgtalker",
        "tags: [gaussian-splatting, talking-head]",
        "---",
        f"# {identity.title}",
        "",
        "A personalised Gaussian head for DGTalker: anchor, orthogonal blendshapes, encoders and a baked head.",
        "",
        f"* Trained on {config['source']}: {training['frames']} frames in {training['clips']} clips, 25 a second.",
        f"* {identity.n_exp} expression and {identity.n_lip} lip coefficients; 1 is one training standard deviation, "
        "0 the canonical expression.",
        f"* Audio features: {identity.feature_kind}.",
        f"* {baked['splats']} splats. Baked head against the generator: {baked['held_out_psnr']} dB on held-out codes, "
        f"{baked['sweep_psnr']} dB with single coefficients at +-3 (worst {baked['sweep_psnr_min']} dB).",
        f"* Prior: sha256 {config['parents']['prior'][:16]}.",
        *([f"* Speech backbone: sha256 {backbone[:16]}."] if (backbone := config["parents"].get("speech")) else []),
        "",
        "## Use",
        "",
        "For speech videos of a person who agreed to it, or of a person who does not exist. Say that the result is "
        "synthetic wherever it is shown.",
    ]
    if config["attribution"]:
        lines += ["", "## Attribution", "", config["attribution"]]
    return with_coefficients("\n".join(lines) + "\n", identity)
