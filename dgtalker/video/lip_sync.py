"""Does the sound fit the lips, and if not, by how much does it have to be moved?

The speech backbone, which hears any voice, says how far the lips should open; the landmarks say how far they do. The
shift at which the two curves agree best is the offset of the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgtalker.media.clock import FPS, SAMPLES_PER_FRAME
from dgtalker.metrics.articulation import mouth_from_landmarks

LONGEST_SHIFT = FPS  # frames that are tried to each side
_MEASURED = 40 * FPS  # frames of a video that are looked at
_FEWEST = 50  # frames that can tell
_SMALLEST = 3  # frames; people do not notice less
_AGREES, _BETTER = 0.4, 0.15  # least correlation at the best shift, and least gain over no shift


def predict_aperture(sound: np.ndarray, frames: int, weights: str | Path | None = None) -> np.ndarray:
    """How far a mouth opens [frames] at 16 kHz `sound`, in standard deviations, by the shipped speech backbone."""
    import torch

    from dgtalker.audio.features import extract_features
    from dgtalker.navigation.speech_backbone import DEFAULT_BACKBONE, load_backbone

    backbone = load_backbone(DEFAULT_BACKBONE)
    sound = np.pad(sound, (0, max(0, frames * SAMPLES_PER_FRAME - len(sound))))[: frames * SAMPLES_PER_FRAME]
    features = torch.from_numpy(extract_features(sound, backbone.config.feature_kind, weights=weights))
    with torch.inference_mode():
        curves = backbone(features.float()[None])[1][0]
    return curves[:, backbone.config.channels.index("aperture")].numpy()


def find_sound_offset(heard: np.ndarray, seen: np.ndarray, runs: Sequence[tuple[int, int]]) -> float:
    """Seconds by which the sound comes too early for the lips (negative: too late); 0 if it fits or nobody can tell.

    heard, seen [T]: apertures that the sound predicts and that the picture shows, NaN outside `runs` (start, stop).
    """
    shifts = range(-LONGEST_SHIFT, LONGEST_SHIFT + 1)
    agreement = np.full(len(shifts), -1.0)
    for number, shift in enumerate(shifts):
        pairs = []
        for start, stop in runs:
            first, last = max(start, shift), min(stop, len(heard) + shift)
            if last - first >= FPS:
                pairs.append((heard[first - shift : last - shift], seen[first:last]))
        if sum(len(a) for a, _ in pairs) >= _FEWEST:
            centred = [np.concatenate([pair[side] - pair[side].mean() for pair in pairs]) for side in (0, 1)]
            strength = np.linalg.norm(centred[0]) * np.linalg.norm(centred[1])
            agreement[number] = centred[0] @ centred[1] / max(float(strength), 1e-9)
    best = int(agreement.argmax())
    shift = shifts[best]
    sure = agreement[best] > _AGREES and agreement[best] > agreement[LONGEST_SHIFT] + _BETTER
    return shift / FPS if sure and abs(shift) >= _SMALLEST else 0.0


def measure_sound_offset(
    path: Path, delay: float, landmarks: np.ndarray, runs: Sequence[tuple[int, int]], weights: str | Path | None
) -> float:
    """find_sound_offset of a video whose sound is moved back by `delay` seconds already (in a worker)."""
    from dgtalker.video.source import read_sound

    frames = min(len(landmarks), runs[0][0] + _MEASURED)
    runs = [(start, min(stop, frames)) for start, stop in runs if start < frames]
    heard = predict_aperture(read_sound(path, delay), frames, weights)
    return find_sound_offset(heard, mouth_from_landmarks(landmarks[:frames]).aperture, runs)
