"""Settings of create-identity: presets of all stages, and the prior, backbone and device that a run uses."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from dgtalker.errors import UserError
from dgtalker.identity import list_priors
from dgtalker.navigation.speech_backbone import DEFAULT_BACKBONE, load_backbone
from dgtalker.navigation.speech_backbone import KIND as BACKBONE_KIND
from dgtalker.pretrained import find_checkpoint, list_checkpoints
from dgtalker.training.identity.baking import BakingConfig
from dgtalker.training.identity.face_controls import FaceControlsBakingConfig
from dgtalker.training.identity.inversion import AllFramesConfig, InversionConfig
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.identity.tuning import TuningConfig

DEFAULT_PRIOR = "fast"
NO_BACKBONE = "none"


@dataclass(frozen=True)
class CreateConfig:
    """Settings of all stages; `preset` gives the usual ones."""

    inversion: InversionConfig = field(default_factory=InversionConfig)
    tuning: TuningConfig = field(default_factory=TuningConfig)
    all_frames: AllFramesConfig = field(default_factory=AllFramesConfig)
    navigation: NavigationTrainingConfig = field(default_factory=NavigationTrainingConfig)
    baking: BakingConfig = field(default_factory=BakingConfig)
    face_controls: FaceControlsBakingConfig | None = field(default_factory=FaceControlsBakingConfig)  # None: none
    preview_steps: int | None = 60  # steps of tuning before a preview is made; None: no preview
    seed: int = 0

    @staticmethod
    def preset(name: str) -> CreateConfig:
        """Settings by name.

        "cpu" takes half an hour on two cores, "gpu" has more frames and steps, for a CUDA device, and "test" a few
        steps of every stage, to try whether a data set goes through. Steps decide how long a stage goes on; minutes
        only end it on a machine that is many times slower. Raises UserError for another name.
        """
        cpu = CreateConfig()
        presets = {
            "cpu": cpu,
            "gpu": CreateConfig(
                inversion=replace(cpu.inversion, frames=200, batch=8, max_steps=1500, minutes=30),
                tuning=replace(cpu.tuning, batch=8, max_steps=4000, minutes=60),
                all_frames=replace(cpu.all_frames, batch=8, max_steps=3000, minutes=30),
                navigation=replace(
                    cpu.navigation, warm_steps=6000, warm_minutes=10, image_steps=20000, image_minutes=60
                ),
                baking=replace(cpu.baking, samples=2500, batch=16),
            ),
            "test": CreateConfig(
                inversion=replace(cpu.inversion, frames=8, max_steps=10),
                tuning=replace(cpu.tuning, max_steps=10),
                all_frames=replace(cpu.all_frames, max_steps=10),
                navigation=replace(cpu.navigation, warm_steps=30, image_steps=5, leakage_removal=None, anchor=None),
                baking=replace(cpu.baking, samples=60, held_out=4),
            ),
        }
        if name not in presets:
            raise UserError(f"There is no preset '{name}': choose {', '.join(presets)}.")
        return presets[name]


def default_prior() -> str:
    """Name of the shipped prior. Raises UserError if none is shipped."""
    names = list_priors()
    if not names:
        raise UserError("No prior is shipped with this installation; name one with --prior or run train-prior.")
    return DEFAULT_PRIOR if DEFAULT_PRIOR in names else names[0]


def find_backbone(wanted: str | Path | None, feature_kind: str) -> Path | None:
    """Folder of the speech backbone to start from; None if none is wanted, or none is shipped for these features.

    wanted: name, folder or hub repository; "none"; None for the shipped one. Raises UserError if it does not fit.
    """
    if str(wanted) == NO_BACKBONE:
        return None
    if wanted is None:
        if DEFAULT_BACKBONE not in list_checkpoints(BACKBONE_KIND):
            return None
        wanted = DEFAULT_BACKBONE
        if load_backbone(wanted).config.feature_kind != feature_kind:
            return None
    folder = find_checkpoint(wanted, kind=BACKBONE_KIND)
    kind = load_backbone(folder).config.feature_kind
    if kind != feature_kind:
        raise UserError(f"The speech backbone '{wanted}' reads {kind} features; this data set has {feature_kind}.")
    return folder


def choose_device(preset: str) -> torch.device:
    """Device of a preset; the CPU, with a warning, where there is no CUDA device."""
    if preset != "gpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        warnings.warn("No CUDA device is available; the gpu preset runs on the CPU and takes long.", stacklevel=3)
        return torch.device("cpu")
    return torch.device("cuda")
