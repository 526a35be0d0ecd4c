"""Voice activity detection: a smooth gate that closes and stills the mouth in silence and in steady noise."""

from __future__ import annotations

import numpy as np

from dgtalker.audio.features import log_mel, speech_gain
from dgtalker.media.clock import num_frames

_SILENT_PEAK = 1e-3  # -60 dBFS: nobody is speaking in a file that never gets louder
_FLOOR_SECONDS = 8.0  # the background is what a band falls back to within this time
_RANGE_DB = 45.0  # the background is taken to be at most this far below the file's loud parts
_OPEN_DB, _CLOSED_DB = 9.0, 4.5  # excess over the background at which the gate is fully open, closed
# Video frames. Real talkers part their lips about 0.3 s before the sound (on 30 GRID training clips, true lip apertures
# times the gate correlate by .97 with the true ones, by .93 with 3, 5); longer would keep short pauses open. Stops
# inside words are silent, and mouths close softly.
_LEAD, _HOLD, _FADE = 7, 7, 6
_SHORTEST_PAUSE, _LONGEST_PAUSE = 4, 20  # video frames; a stop inside a word is silent for two or three


def speech_activity(samples: np.ndarray, n_frames: int | None = None) -> np.ndarray:
    """Gate [N] in 0..1, one value per video frame (25/s): 1 where somebody speaks, 0 in silence or steady noise.

    samples: mono [samples] at 16 kHz. n_frames: length of the answer; by default num_frames(samples).
    Level does not matter: a frame counts when its mel bands rise above each band's own background, which is tracked
    over some seconds (minimum statistics, after Martin 2001). Stationary noise of any colour never rises above itself.
    """
    samples = np.asarray(samples, np.float32)
    frames = num_frames(samples) if n_frames is None else n_frames
    presence = _speech_presence(samples, frames)
    return np.zeros(frames, np.float32) if presence is None else _shape_gate(presence)


def speech_pauses(samples: np.ndarray, n_frames: int | None = None) -> np.ndarray:
    """Where the speaker pauses, bool [N]: from the end of a phrase on, for at most 0.8 s; not stops inside words.

    samples and n_frames as in speech_activity. What precedes the first word is no pause.
    """
    samples = np.asarray(samples, np.float32)
    frames = num_frames(samples) if n_frames is None else n_frames
    pauses = np.zeros(frames, bool)
    presence = _speech_presence(samples, frames)
    if presence is None:
        return pauses
    edges = np.flatnonzero(np.diff(presence > 0.5, prepend=False, append=True))  # starts and ends of phrases
    for end, next_start in zip(edges[1::2], edges[2::2], strict=False):
        if next_start - end >= _SHORTEST_PAUSE:
            pauses[end : min(next_start, end + _LONGEST_PAUSE)] = True
    return pauses


def _speech_presence(samples: np.ndarray, frames: int) -> np.ndarray | None:
    """How clearly each frame [N] rises above the background, 0..1; None for a file without speech."""
    if frames == 0 or np.abs(samples).max(initial=0.0) < _SILENT_PEAK:
        return None
    # [2N, 80] band levels in dB, 20 ms apart; the gain makes the levels absolute.
    level = (log_mel(samples * speech_gain(samples), 4 * frames) * 4.0 - 4.0) * 10.0
    excess = _excess_over_background(level.reshape(2 * frames, 2, -1).mean(axis=1))
    presence = np.clip((excess - _CLOSED_DB) / (_OPEN_DB - _CLOSED_DB), 0.0, 1.0)
    return presence.reshape(frames, 2).max(axis=1)


def _excess_over_background(level: np.ndarray) -> np.ndarray:
    """Mean excess [T] in dB over the background of the bands that carry speech; level [T, 80] dB every 20 ms."""
    from scipy.ndimage import percentile_filter, uniform_filter1d

    bands = level[:, 4:72].reshape(len(level), 17, 4).mean(axis=2)  # 100 Hz .. 6 kHz; four bands share their chance
    smooth = uniform_filter1d(bands, 5, axis=0, mode="nearest")
    size = min(int(_FLOOR_SECONDS * 50), len(level))
    lowest = np.percentile(smooth.max(axis=1), 90) - _RANGE_DB
    # Digital silence between or after the words says nothing about the background under them.
    recorded = np.where(smooth.max(axis=1, keepdims=True) > lowest, smooth, np.inf)
    background = percentile_filter(recorded, 10, size=(size, 1), mode="nearest")
    rise = np.maximum(smooth - np.maximum(background, lowest), 0.0)
    # Voiced sounds fill the low half, hisses the high half: either is enough.
    return np.maximum(rise[:, :10].mean(axis=1), rise[:, 7:].mean(axis=1))


def _shape_gate(presence: np.ndarray) -> np.ndarray:
    """Gate [N] of `presence` [N]: opens early, bridges short gaps, drops isolated blips, fades softly."""
    from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d

    steady = median_filter(presence, size=min(3, len(presence)), mode="nearest")
    width = _LEAD + _HOLD + 1
    held = maximum_filter1d(steady, width, origin=(_HOLD - _LEAD) // 2, mode="nearest")
    gate = uniform_filter1d(held.astype(np.float64), _FADE, mode="nearest")
    gate = np.clip(gate, 0.0, 1.0)
    return (gate * gate * (3.0 - 2.0 * gate)).astype(np.float32)
