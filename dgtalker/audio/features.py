"""Audio features: exactly two vectors per video frame, from Whisper tiny.en encoder states or log-mel bands.

Whisper adds an absolute position to every state, and the position leaks out of the encoder: the same sound ten
seconds later gives states that correlate by only about .5 with the first ones. A head trained on 3 s clips would
therefore meet unknown features in any longer file. So the encoder never sees the whole file: it slides over it in
3 s windows, and only their middle is kept, cross-faded from window to window. Every state then comes from (nearly)
the same position, chunks of long files agree at their borders, and memory does not grow with the length.

Measured with a ridge probe for lip width (20 GRID training clips of one talker, tried on 10 other training clips of
the same talker; mean correlation per clip): one 30 s window .67, and .54 when the clip comes after 11 s of speech;
sliding windows .66 both times. Lip aperture: .88 and .84; .87 and .87. Windows of 2, 3 and 4 s do equally well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from dgtalker.audio.whisper_weights import find_whisper
from dgtalker.errors import UserError
from dgtalker.media.clock import SAMPLE_RATE, num_frames

FEATURE_DIMS = {"whisper-tiny.en": 384, "log-mel": 80}
FEATURE_KINDS = tuple(FEATURE_DIMS)

_HOP = 160  # 10 ms: Whisper's mel hop; two hops make one state, four one video frame
_FFT = 400
_MELS = 80
_MEL_BLOCK = 6000  # mel frames (60 s) computed at once

_WINDOW = 150  # states (3 s) that the encoder sees at once
_STEP = 25  # states (0.5 s) between windows; each keeps its middle 2 * _STEP, cross-faded
_BATCH = 16
_QUICK_WINDOW, _QUICK_MARGIN = 200, 25  # states (4 s) of which the middle 3 s are kept, for training examples

_TARGET_RMS = 0.1  # the loud parts of speech (95th percentile of 25 ms windows) are brought to this level
_MAX_GAIN = 10 ** (30 / 20)  # so that a quiet room is not blown up into speech
_MEL_FLOOR = -6.0  # log10 power, 8 decades below the peaks at that level: Whisper's own dynamic range


def extract_features(
    samples: np.ndarray,
    kind: str = "whisper-tiny.en",
    weights: str | Path | None = None,
    progress: Callable[[float], None] | None = None,
    gain: float | None = None,
    quick: bool = False,
) -> np.ndarray:
    """Features of a sound, two per video frame: float32 [2N, D], N = num_frames(samples), D = FEATURE_DIMS[kind].

    samples: mono float [samples] at 16 kHz, any level (it is normalised). Row 2i starts with video frame i.
    weights: folder of the Whisper model; by default it is searched for (see whisper_weights.find_whisper).
    progress: called with values in (0, 1]. gain: factor on the samples; None: what brings the whole sound to a fixed
    level (speech_gain). quick: Whisper's states from 4 s windows without a cross-fade, a fifth of the work: for
    training examples beside others that are not quick (trained on quick ones alone, lips follow the others less well).
    Raises UserError for an unknown kind, no sound or missing weights.
    """
    if kind not in FEATURE_DIMS:
        raise UserError(f"Unknown audio feature kind {kind!r}; choose one of {', '.join(FEATURE_KINDS)}.")
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono [samples], not {samples.shape}")
    rows = 2 * num_frames(samples)
    if rows == 0:
        raise UserError("The sound is shorter than one video frame (1/25 s).")
    mel = log_mel(samples * np.float32(speech_gain(samples) if gain is None else gain), frames=2 * rows)
    if kind == "log-mel":
        return mel.reshape(rows, 2, _MELS).mean(axis=1)
    model = _whisper(str(find_whisper(weights)))
    states = _quick_states if quick else _whisper_states
    return states(mel, lambda batch: _encode(model, batch), progress)


def speech_gain(samples: np.ndarray) -> float:
    """Factor that brings the loud parts of `samples` [samples] to a fixed level; 1 for digital silence."""
    size = _FFT
    usable = samples[: max(len(samples) // size, 1) * size]
    power = np.square(usable, dtype=np.float32).reshape(-1, size).mean(axis=1) if len(usable) >= size else usable**2
    rms = float(np.sqrt(np.percentile(power, 95)))
    return min(_TARGET_RMS / rms, _MAX_GAIN) if rms > 1e-7 else 1.0


def log_mel(samples: np.ndarray, frames: int) -> np.ndarray:
    """Whisper's log-mel spectrogram: float32 [frames, 80] every 10 ms at 16 kHz, frame k centred on sample 160 k.

    As openai/whisper's `log_mel_spectrogram` (400-point Hann, power, Slaney mel, log10, (x + 4) / 4), except that the
    lower limit is fixed instead of 8 below the file's maximum, so that one loud click does not change the rest.
    """
    filters = _mel_filters()
    length = frames * _HOP + _FFT
    padded = np.zeros(length, np.float32)
    count = min(len(samples), length - _FFT // 2)
    padded[_FFT // 2 : _FFT // 2 + count] = samples[:count]
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    out = np.empty((frames, _MELS), np.float32)
    for start in range(0, frames, _MEL_BLOCK):
        stop = min(start + _MEL_BLOCK, frames)
        piece = padded[start * _HOP : (stop - 1) * _HOP + _FFT]
        blocks = np.lib.stride_tricks.sliding_window_view(piece, _FFT)[::_HOP]
        power = np.abs(np.fft.rfft(blocks * window, axis=1)).astype(np.float32) ** 2
        out[start:stop] = power @ filters.T
    return (np.maximum(np.log10(np.maximum(out, 1e-10)), _MEL_FLOOR) + 4.0) / 4.0


@lru_cache(maxsize=1)
def _mel_filters() -> np.ndarray:
    """[80, 201] Slaney mel filters."""
    try:
        from librosa.filters import mel
    except ImportError as error:
        raise UserError("Audio features need librosa: pip install librosa.") from error
    return mel(sr=SAMPLE_RATE, n_fft=_FFT, n_mels=_MELS).astype(np.float32)


@lru_cache(maxsize=2)
def _whisper(folder: str):
    try:
        import ctranslate2
    except ImportError as error:
        raise UserError("Whisper features need CTranslate2: pip install ctranslate2.") from error
    try:
        return ctranslate2.models.Whisper(folder, device="cpu", compute_type="int8")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The Whisper weights in {folder} are damaged; fetch them again.") from error


def _encode(model, mel: np.ndarray) -> np.ndarray:
    """[B, 2W, 80] -> encoder states [B, W, 384]."""
    import ctranslate2

    inputs = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel.transpose(0, 2, 1)))
    return np.array(model.encode(inputs, to_cpu=True), dtype=np.float32)


def _whisper_states(
    mel: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], progress: Callable[[float], None] | None = None
) -> np.ndarray:
    """Slide `encode` over mel [2R, 80] and cross-fade the windows' middles into states [R, 384]."""
    rows = len(mel) // 2
    margin = (_WINDOW - 2 * _STEP) // 2  # states dropped on either side of a window
    fade = np.sin(np.pi * (np.arange(2 * _STEP) + 0.5) / (2 * _STEP)) ** 2  # neighbours add up to exactly 1
    fade = fade.astype(np.float32)[:, None]
    count = -(-rows // _STEP) + 1  # window i keeps states (i-1) * _STEP ... (i+1) * _STEP
    before = 2 * (_STEP + margin)
    after = 2 * ((count - 2) * _STEP - margin + _WINDOW) - len(mel)
    silence = (_MEL_FLOOR + 4.0) / 4.0
    padded = np.pad(mel, ((before, max(after, 0)), (0, 0)), constant_values=silence)
    states = np.zeros(((count + 1) * _STEP, FEATURE_DIMS["whisper-tiny.en"]), np.float32)
    for first in range(0, count, _BATCH):
        indices = range(first, min(first + _BATCH, count))
        batch = np.stack([padded[2 * _STEP * i : 2 * (_STEP * i + _WINDOW)] for i in indices])
        for i, window in zip(indices, encode(batch), strict=True):
            states[_STEP * i : _STEP * (i + 2)] += fade * window[margin : margin + 2 * _STEP]
        if progress:
            progress((indices[-1] + 1) / count)
    return states[_STEP : _STEP + rows]


def _quick_states(
    mel: np.ndarray, encode: Callable[[np.ndarray], np.ndarray], progress: Callable[[float], None] | None = None
) -> np.ndarray:
    """States [R, 384] of mel [2R, 80], every state from one window only."""
    rows = len(mel) // 2
    kept = _QUICK_WINDOW - 2 * _QUICK_MARGIN
    count = -(-rows // kept)
    after = 2 * (count * kept + _QUICK_MARGIN) - len(mel)
    padded = np.pad(mel, ((2 * _QUICK_MARGIN, after), (0, 0)), constant_values=(_MEL_FLOOR + 4.0) / 4.0)
    states = []
    for k in range(count):
        window = encode(padded[None, 2 * kept * k : 2 * (kept * k + _QUICK_WINDOW)])[0]
        states.append(window[_QUICK_MARGIN : _QUICK_MARGIN + kept])
        if progress:
            progress((k + 1) / count)
    return np.concatenate(states)[:rows]
