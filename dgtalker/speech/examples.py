"""Training examples: audio features of a recording, augmented or not, and its lip curves."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.audio.features import extract_features
from dgtalker.speech.augment import SoundAugmentation, augment_sound, retime_curves

VERSION = 1  # of augment.py, in the names of cached features; raise it when its results change


@dataclass(frozen=True)
class Example:
    """One recording with one augmentation."""

    features: Tensor  # [2N, D] float16
    lips: Tensor  # [N, C]
    voice: str
    filmed: bool  # the lips were measured on this recording, not transferred from another

    def __len__(self) -> int:
        return len(self.lips)


def make_example(
    samples: np.ndarray,
    lips: Tensor,
    voice: str,
    filmed: bool,
    kind: str,
    augmentation: SoundAugmentation | None = None,
    quick: bool = True,
    cache: Path | None = None,
) -> Example:
    """Example of samples (mono [S], 16 kHz) with lips [N, C], after an augmentation of the sound (None: as it is).

    quick: see extract_features; False where figures are measured. cache: folder of features between runs. Raises
     UserError as extract_features does.
    """
    features = extract_augmented_features(samples, kind, augmentation, quick, cache)
    tempo = 1.0 if augmentation is None else augmentation.tempo
    return Example(features, torch.from_numpy(retime_curves(lips.numpy(), tempo, len(features) // 2)), voice, filmed)


def extract_augmented_features(
    samples: np.ndarray,
    kind: str,
    augmentation: SoundAugmentation | None = None,
    quick: bool = True,
    cache: Path | None = None,
) -> Tensor:
    """Features [2N, D] float16 of augmented samples, from the cache if they are there; else like extract_features."""
    path = None
    if cache is not None:
        settings = f"{VERSION} {kind} {quick} {augmentation}".encode()
        path = (
            cache / f"{hashlib.sha256(settings + np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()}.npy"
        )
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError):  # not there, or incomplete
            pass
    sound = samples if augmentation is None else augment_sound(samples, augmentation)
    features = extract_features(sound, kind, quick=quick).astype(np.float16)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.npy")
        np.save(temporary, features, allow_pickle=False)
        temporary.replace(path)
    return torch.from_numpy(features)
