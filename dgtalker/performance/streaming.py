"""A head that listens while somebody is still speaking: chunks of sound in, coefficients out, late but equal.

FeatureStream gives the rows of extract_features for the whole sound with the same gain, EncoderStream what
Identity.encode makes of them, CoefficientStream both. Two things that `talk` does need the whole recording and are left
to the caller: the level of the sound (features.speech_gain) and the gate that rests the face where nobody speaks
(audio.activity). Take the gain from an earlier recording made with the same microphone, or 1 for sound whose loud parts
already have an RMS level near 0.1.
"""

from __future__ import annotations

import math
from numbers import Real
from pathlib import Path

import numpy as np

from dgtalker.audio import features
from dgtalker.audio.features import FEATURE_DIMS, log_mel
from dgtalker.audio.whisper_weights import find_whisper
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.media.clock import FPS, SAMPLE_RATE, num_frames

_HALF_FFT = features._FFT // 2
_ROUNDING = 2  # mel frames that a sound may turn out to have fewer than its samples promise: it ends on a video frame
_MARGIN = (features._WINDOW - 2 * features._STEP) // 2  # states dropped on either side of a Whisper window
_MEL_SECONDS = (_HALF_FFT + _ROUNDING * features._HOP) / SAMPLE_RATE
# Seconds of sound after the start of a row that the row has to wait for. Whisper's windows reach far: the last row of
# every half second waits 1.55 s, the first one these 2.03 s.
LOOK_AHEAD_SECONDS = {
    "whisper-tiny.en": (2 * features._STEP + _MARGIN) / 50 + _MEL_SECONDS,
    "log-mel": 3 * features._HOP / SAMPLE_RATE + _MEL_SECONDS,
}


class FeatureStream:
    """push(samples) as they come, then finish(); both return the next rows, float32 [2F, D] of F whole frames."""

    def __init__(self, kind: str = "whisper-tiny.en", gain: float = 1.0, weights: str | Path | None = None):
        """gain: factor on the samples. Raises UserError for bad input or missing Whisper weights."""
        if isinstance(gain, bool) or not isinstance(gain, Real) or not math.isfinite(gain):
            raise UserError(f"The gain must be a finite number, not {gain}.")
        if kind not in FEATURE_DIMS:
            raise UserError(f"Unknown audio feature kind {kind!r}; choose one of {', '.join(FEATURE_DIMS)}.")
        self.kind, self.gain = kind, np.float32(gain)
        self._model = None if kind == "log-mel" else features._whisper(str(find_whisper(weights)))
        self._samples, self._first = np.zeros(0, np.float32), 0  # those still needed, and the first one's number
        self._mel, self._mel_first = np.zeros((0, features._MELS), np.float32), 0
        self._fading: np.ndarray | None = None  # rows that the next Whisper window adds to
        self._window = 0  # number of the next one
        self._odd = np.zeros((0, FEATURE_DIMS[kind]), np.float32)  # a row that waits for the other half of its frame
        self._ended = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """More sound: mono [S] at 16 kHz, any S. Raises UserError after finish()."""
        self._check_open()
        self._samples = np.concatenate([self._samples, np.asarray(samples, np.float32)])
        heard = self._first + len(self._samples)
        self._extend_mel((heard - _HALF_FFT) // features._HOP + 1 - _ROUNDING)
        return self._whole_frames(self._new_rows(None))

    def finish(self) -> np.ndarray:
        """The rows that were waiting for more sound; after them comes silence, as at the end of a file."""
        self._check_open()
        self._ended = True
        rows = 2 * num_frames(self._first + len(self._samples))
        self._extend_mel(2 * rows)
        return self._whole_frames(self._new_rows(rows))

    def _check_open(self) -> None:
        if self._ended:
            raise UserError("This sound has ended; start a new stream.")

    def _extend_mel(self, stop: int) -> None:
        """Mel frames up to `stop`; the samples that no later one needs are forgotten."""
        start = self._mel_first + len(self._mel)
        if stop <= start:
            return
        lead = min(start, 2)  # frames that reach before the first sample kept: computed again, and dropped
        piece = self._samples[(start - lead) * features._HOP - self._first :]
        mel = log_mel(piece * self.gain, stop - start + lead)[lead:]
        self._mel = np.concatenate([self._mel, mel])
        forget = max((stop - 2) * features._HOP - self._first, 0)
        self._samples, self._first = self._samples[forget:], self._first + forget

    def _new_rows(self, total: int | None) -> np.ndarray:
        """Rows that no later sound changes; all up to `total` if the sound has ended."""
        if self.kind == "log-mel":
            count = len(self._mel) // 2
            rows = self._mel[: 2 * count].reshape(count, 2, features._MELS).mean(axis=1)
            self._forget_mel(self._mel_first + 2 * count)
            return rows
        final = [np.zeros((0, FEATURE_DIMS[self.kind]), np.float32)]
        while total is None or features._STEP * (self._window - 1) < total:
            piece = self._window_mel(padded=total is not None)
            if piece is None:
                break
            states = self._fade(features._encode(self._model, piece[None])[0])
            if self._fading is not None:
                final.append(self._fading + states[: features._STEP])
            self._fading = states[features._STEP :]
            self._window += 1
            self._forget_mel(self._window_start())
        rows = np.concatenate(final)
        beyond = 0 if total is None else features._STEP * (self._window - 1) - total
        return rows[: len(rows) - beyond]

    def _window_start(self) -> int:
        """First mel frame of the next window, which completes rows before STEP times its number."""
        return 2 * (features._STEP * (self._window - 1) - _MARGIN)

    def _window_mel(self, padded: bool) -> np.ndarray | None:
        """Mel frames [2 WINDOW, 80] of the next window; None if they are not there yet and must not be padded."""
        start, size = self._window_start(), 2 * features._WINDOW
        known = self._mel[max(start - self._mel_first, 0) :][: size + min(start, 0)]
        before = max(-start, 0)
        if before + len(known) < size and not padded:
            return None
        silence = (features._MEL_FLOOR + 4.0) / 4.0
        return np.pad(known, ((before, size - before - len(known)), (0, 0)), constant_values=silence)

    @staticmethod
    def _fade(states: np.ndarray) -> np.ndarray:
        count = 2 * features._STEP
        fade = np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2
        return fade.astype(np.float32)[:, None] * states[_MARGIN : _MARGIN + count]

    def _forget_mel(self, first: int) -> None:
        """No frame before `first` is needed again."""
        drop = min(max(first - self._mel_first, 0), len(self._mel))
        self._mel, self._mel_first = self._mel[drop:], self._mel_first + drop

    def _whole_frames(self, rows: np.ndarray) -> np.ndarray:
        rows = np.concatenate([self._odd, rows])
        whole = len(rows) // 2 * 2
        self._odd = rows[whole:]
        return rows[:whole]


class EncoderStream:
    """Features [2F, D] in, any F at a time; the next frames' a_exp [F, n_exp] and a_lip [F, n_lip] out."""

    def __init__(self, identity: Identity):
        self.identity = identity
        dim = identity.navigation.config.feature_dim
        self._rows = np.zeros((0, dim), np.float32)  # from frame `_first` on
        self._first = 0
        self._emitted = 0  # frames so far

    def push(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """More features [2F, D], any F -> frames that no later ones change. Raises UserError for another kind."""
        self._rows = np.concatenate([self._rows, np.asarray(features, np.float32)])
        return self._emit(self._first + len(self._rows) // 2 - self.identity.navigation.look_ahead)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The last frames."""
        return self._emit(self._first + len(self._rows) // 2)

    def _emit(self, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames up to `stop`, of what is kept: enough on the left that the cut there is not felt."""
        start, identity = self._emitted, self.identity
        if stop <= start:
            return np.zeros((0, identity.n_exp), np.float32), np.zeros((0, identity.n_lip), np.float32)
        a_exp, a_lip = (a[start - self._first : stop - self._first] for a in identity.encode(self._rows))
        self._emitted = stop
        first = max(stop - identity.navigation.look_behind, 0)
        self._rows, self._first = self._rows[2 * (first - self._first) :], first
        return a_exp, a_lip


class CoefficientStream:
    """push(samples) as they come, then finish(); both return the next frames' a_exp [F, n_exp] and a_lip [F, n_lip]."""

    def __init__(self, identity: Identity, gain: float = 1.0, weights: str | Path | None = None):
        """gain: factor on the samples, see above. Raises UserError if the features' weights are missing."""
        self.features = FeatureStream(identity.feature_kind, gain, weights)
        self.encoder = EncoderStream(identity)
        self.look_ahead_seconds = look_ahead_seconds(identity)

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """More sound: mono [S] at 16 kHz, any S. Raises UserError after finish()."""
        return self.encoder.push(self.features.push(samples))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The frames that were waiting for more sound."""
        rest_exp, rest_lip = self.encoder.push(self.features.finish())
        last_exp, last_lip = self.encoder.finish()
        return np.concatenate([rest_exp, last_exp]), np.concatenate([rest_lip, last_lip])


def look_ahead_seconds(identity: Identity) -> float:
    """Sound after a frame's start that its coefficients wait for, at most: features' reach and encoders' reach."""
    # a frame's second row starts half a frame after the frame
    return LOOK_AHEAD_SECONDS[identity.feature_kind] + identity.navigation.look_ahead / FPS + 0.5 / FPS
