"""Utterances as a network sees them: audio features of a (changed) recording, and the lips that belong to it."""

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

VERSION = 1  # of what a change does; raise it when the same one would sound otherwise


@dataclass(frozen=True)
class Example:
    """One recording, heard once."""

    features: Tensor  # [2N, D] float16
    lips: Tensor  # [N, C]
    voice: str
    filmed: bool  # the lips are this recording's own

    def __len__(self) -> int:
        return len(self.lips)


def make_example(
    samples: np.ndarray,
    lips: Tensor,
    voice: str,
    filmed: bool,
    kind: str,
    change: SoundAugmentation | None = None,
    quick: bool = True,
    cache: Path | None = None,
) -> Example:
    """An example of samples (mono [S], 16 kHz) with lips [N, C], after a change of the sound (None: as it is).

    quick: see extract_features; False where figures are measured. cache: folder in which features are kept, so that
    the same sound is listened to once. Raises UserError as extract_features does.
    """
    features = extract_augmented_features(samples, kind, change, quick, cache)
    tempo = 1.0 if change is None else change.tempo
    return Example(features, torch.from_numpy(retime_curves(lips.numpy(), tempo, len(features) // 2)), voice, filmed)


def extract_augmented_features(
    samples: np.ndarray,
    kind: str,
    change: SoundAugmentation | None = None,
    quick: bool = True,
    cache: Path | None = None,
) -> Tensor:
    """Features [2N, D] float16 of samples after a change. Raises UserError as extract_features does."""
    kept = None
    if cache is not None:
        what = f"{VERSION} {kind} {quick} {change}".encode()
        kept = cache / f"{hashlib.sha256(what + np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()}.npy"
        try:
            return torch.from_numpy(np.load(kept, allow_pickle=False))
        except (OSError, ValueError):  # not there, or half of it
            pass
    sound = samples if change is None else augment_sound(samples, change)
    features = extract_features(sound, kind, quick=quick).astype(np.float16)
    if kept is not None:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_name(f".{kept.stem}.{os.getpid()}.npy")
        np.save(temporary, features, allow_pickle=False)
        temporary.replace(kept)
    return torch.from_numpy(features)
