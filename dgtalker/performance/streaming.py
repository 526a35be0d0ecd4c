"""An identity that listens while somebody is still speaking: sound in by chunks, coefficients out, late but equal.

What comes out is what Identity.encode gives for the whole sound's features, extracted with the same fixed gain. Two
things that `talk` does need the whole recording and are left to the caller: the level of the sound (see audio.stream)
and the gate that rests the face where nobody speaks (audio.activity).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dgtalker.identity import Identity
from dgtalker.media.audio import FPS
from dgtalker.performance.feature_stream import LOOK_AHEAD_SECONDS, FeatureStream


class CoefficientStream:
    """push(samples) as they come, then finish(); both return the next frames' a_exp [F, n_exp] and a_lip [F, n_lip]."""

    def __init__(self, identity: Identity, gain: float = 1.0, weights: str | Path | None = None):
        """gain: factor on the samples, see audio.stream. Raises UserError if the features' weights are missing."""
        self.features = FeatureStream(identity.feature_kind, gain, weights)
        self.encoder = EncoderStream(identity)
        self.look_ahead_seconds = look_ahead_seconds(identity)

    def push(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """More sound: mono [S] at 16 kHz, any S. Raises UserError after finish()."""
        return self.encoder.push(self.features.push(samples))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The frames that were waiting for more sound."""
        rest = self.encoder.push(self.features.finish())
        last = self.encoder.finish()
        return tuple(np.concatenate(parts) for parts in zip(rest, last, strict=True))


class EncoderStream:
    """The same from features [2F, D] instead of sound."""

    def __init__(self, identity: Identity):
        self.identity = identity
        dim = identity.navigation.config.feature_dim
        self._rows = np.zeros((0, dim), np.float32)  # from frame `_first` on
        self._first = 0
        self._emitted = 0  # frames so far

    def push(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """More features [2F, D], any F; the frames that they settle. UserError if they are of another kind."""
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


def look_ahead_seconds(identity: Identity) -> float:
    """Sound after a frame's start that its coefficients wait for, at most: features' reach and encoders' reach."""
    # a frame's second row starts half a frame after the frame
    return LOOK_AHEAD_SECONDS[identity.feature_kind] + identity.navigation.look_ahead / FPS + 0.5 / FPS
