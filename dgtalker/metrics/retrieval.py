"""Which of ten sounds belongs to these lips? A predictor that knows nothing of the identity picks one.

The predictor is a ridge regression from the sound (log-mel in 20 bands, 11 frames around the one asked about) to the
aperture and width of real talkers' mouths, both scaled to each clip's own mean and spread. It shares no weights and no
features with the identity's encoders. It picks the sound whose predicted curves correlate best with the curves seen:
mean of the two correlations. A clip is never scored by what was learnt from it.

Without real talkers to learn from, the sound's envelope stands for the aperture and the width is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dgtalker.metrics import pearson
from dgtalker.metrics.articulation import MouthCurves, loudness_envelope

CANDIDATES = 10
_BANDS, _REACH = 20, 5  # of the log-mel spectrogram; frames to either side
_RIDGE = 0.1  # penalty over the mean square of a feature, times the number of frames


@dataclass(frozen=True)
class LipClip:
    """A stretch of sound and the lips seen with it."""

    name: str  # of the recording; the predictor leaves out real lips of this name
    samples: np.ndarray  # mono, 16 kHz
    mouth: MouthCurves
    voice: str = ""  # who speaks; wrong sounds are drawn from the same voice first

    @cached_property
    def bands(self) -> np.ndarray:
        """Input of the predictor, see `log_mel_windows`."""
        return log_mel_windows(self.samples, len(self.mouth))


class LipPredictor:
    """Ridge regression from sound to aperture and width, learnt from real mouths."""

    def __init__(self, real: Sequence[LipClip] = ()):
        """Learn from `real`, filmed talkers; frames without a face are left out."""
        self._sums = {}
        for clip in real:
            x, y = clip.bands, _scaled(clip.mouth)
            keep = np.isfinite(y).all(axis=1)
            x, y = x[keep], y[keep]
            gram, cross, count = self._sums.get(clip.name, (0, 0, 0))
            self._sums[clip.name] = (gram + x.T @ x, cross + x.T @ y, count + len(x))
        self._weights: dict[str | None, np.ndarray] = {}

    @property
    def method(self) -> str:
        """How it predicts, for the report."""
        if not self._sums:
            return "envelope of the sound"
        return f"ridge regression on the true lips of {len(self._sums)} clips, the judged one left out"

    def predict(self, sound: LipClip, without: str | None = None) -> np.ndarray:
        """Aperture and width [T, 2] to that sound, without scale; width NaN if there was nothing to learn from."""
        if not self._learnt(without):
            frames = len(sound.mouth)
            return np.stack([loudness_envelope(sound.samples, frames), np.full(frames, np.nan)], axis=1)
        if without not in self._weights:
            gram, cross, count = (sum(part) for part in zip(*self._learnt(without), strict=True))
            penalty = _RIDGE * count * np.eye(len(gram)) * np.trace(gram) / (len(gram) * max(count, 1))
            self._weights[without] = np.linalg.solve(gram + penalty, cross)
        return sound.bands @ self._weights[without]

    def score(self, sound: LipClip, mouth: MouthCurves, without: str | None = None) -> float:
        """How well `mouth` fits the sound, -1..1."""
        guess = self.predict(sound, without)
        scores = [pearson(guess[:, 0], mouth.aperture)]
        if np.isfinite(guess[:, 1]).any():
            scores.append(pearson(guess[:, 1], mouth.width))
        return float(np.mean(scores))

    def _learnt(self, without: str | None) -> list[tuple]:
        return [sums for name, sums in self._sums.items() if name != without]


def retrieval_rate(
    predictor: LipPredictor, pieces: Sequence[LipClip], candidates: int = CANDIDATES, seed: int = 0
) -> tuple[float, list[bool]]:
    """Share of `pieces` whose own sound the predictor picks among `candidates`, and for each whether it does.

    The others are drawn from the pieces of the same voice, and from all where these are too few. All mouths should be
    of one length. Ties are misses. NaN and [] if there are fewer pieces than candidates.
    """
    if len(pieces) < candidates:
        return float("nan"), []
    rng = np.random.default_rng(seed)
    right = []
    for i, piece in enumerate(pieces):
        rest = rng.permutation([j for j in range(len(pieces)) if j != i])
        others = sorted(rest, key=lambda j, voice=piece.voice: pieces[j].voice != voice)[: candidates - 1]
        own = predictor.score(piece, piece.mouth, piece.name)
        best = max(predictor.score(pieces[j], piece.mouth, piece.name) for j in others)
        right.append(bool(own > best))
    return float(np.mean(right)), right


def log_mel_windows(samples: np.ndarray, frames: int) -> np.ndarray:
    """Log-mel bands around every video frame, [frames, 11 x 20], less their mean over the recording."""
    from dgtalker.audio.features import log_mel, speech_gain

    mel = log_mel(samples * speech_gain(samples), 4 * frames).reshape(frames, 4, _BANDS, -1).mean(axis=(1, 3))
    mel = mel - mel.mean(axis=0)
    padded = np.pad(mel, ((_REACH, _REACH), (0, 0)), mode="edge")
    return np.concatenate([padded[k : k + frames] for k in range(2 * _REACH + 1)], axis=1).astype(np.float64)


def _scaled(mouth: MouthCurves) -> np.ndarray:
    """Aperture and width [T, 2], standardised over the clip."""
    curves = np.stack([mouth.aperture, mouth.width], axis=1)
    spread = np.nanstd(curves, axis=0) if np.isfinite(curves).any() else np.ones(2)
    return (curves - np.nanmean(curves, axis=0)) / np.maximum(spread, 1e-9)
