"""Rates and lengths that everything is counted in."""

from __future__ import annotations

import numpy as np

FPS = 25  # video frames a second: the master clock
SAMPLE_RATE = 16000  # Hz, of sound that is analysed
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
MAX_SECONDS = 30 * 60.0  # longest sound that is spoken


def num_frames(samples: int | np.ndarray, rate: int = SAMPLE_RATE) -> int:
    """Video frames that a sound lasts: round(25 * samples / rate). `samples` is a count or a 1-D array."""
    count = samples if isinstance(samples, (int, np.integer)) else len(samples)
    return int(round(FPS * int(count) / rate))
