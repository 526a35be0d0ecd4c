"""Do the lips show what is said? Metrics of a mouth's aperture and width over time and of the phones spoken.

    aperture   gap of the inner lips (mean of three pairs) over the distance of the outer eye corners
    width      distance of the mouth's corners over the same

Frame t of a video is taken to show the time (t + 0.5) / 25 s. A phone is looked for in the frames near its middle;
"random times" are all times from the first to the last phone of the recording, 10 ms apart.

On the true lips of 10 GRID talkers and of 20 more clips of talker s1, with phones aligned by pocketsphinx: closures
1.00 and .97 (at random times .39 and .46), roundings .94 and .86 (.54 and .50).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from dgtalker import metrics
from dgtalker.audio.phone_alignment import LIP_CLOSING_PHONES, LIP_ROUNDING_PHONES, Phone
from dgtalker.media.clock import FPS, SAMPLE_RATE

CLOSED_REACH, ROUNDED_REACH = 0.06, 0.08  # s to either side of a phone's middle
CLOSED_BELOW = 0.2  # of the clip's own range of apertures
RANGE = (5, 95)  # percentiles that the range lies between
CORNERS = (61, 291)  # landmarks
# Landmarks that move with the skull only: bridge and root of the nose, corners of the eyes, temples.
RIGID = (168, 6, 197, 33, 133, 263, 362, 127, 356)
_STEP = 0.01  # s between random times
_DYNAMIC_DB = 40.0  # of the sound's envelope
Times = Sequence[float] | np.ndarray  # [n] seconds


@dataclass(frozen=True)
class MouthCurves:
    """Aperture and width of a mouth over T frames; NaN where no face was found."""

    aperture: np.ndarray  # [T], in eye distances
    width: np.ndarray  # [T], in eye distances

    def __len__(self) -> int:
        return len(self.aperture)

    def cut(self, start: int, stop: int) -> MouthCurves:
        """Frames start..stop."""
        return MouthCurves(self.aperture[start:stop], self.width[start:stop])


@dataclass(frozen=True)
class PhoneHits:
    """How many phones of a kind are seen on the lips, and how many would be at random times."""

    hits: int = 0
    count: int = 0
    expected: float = 0.0  # hits at `count` random times

    @property
    def rate(self) -> float:
        """Share of the phones that are seen; NaN without phones."""
        return self.hits / self.count if self.count else float("nan")

    @property
    def random(self) -> float:
        """The rate at random times; NaN without phones."""
        return self.expected / self.count if self.count else float("nan")

    def __add__(self, other: PhoneHits) -> PhoneHits:
        return PhoneHits(self.hits + other.hits, self.count + other.count, self.expected + other.expected)


# -- reading a mouth --------------------------------------------------------------------------------------------------


def mouth_from_landmarks(points: np.ndarray) -> MouthCurves:
    """The mouth in landmarks [T,478,2] (pixels, NaN: no face) of rendered or real frames."""
    points = np.asarray(points, np.float64)
    a, b = metrics.EYE_OUTER_CORNERS
    eyes = np.maximum(np.linalg.norm(points[:, a] - points[:, b], axis=-1), 1e-6)
    gaps = np.mean([np.linalg.norm(points[:, u] - points[:, v], axis=-1) for u, v in metrics.INNER_PAIRS], axis=0)
    width = np.linalg.norm(points[:, CORNERS[0]] - points[:, CORNERS[1]], axis=-1)
    return MouthCurves(gaps / eyes, width / eyes)


# -- phones on the lips -----------------------------------------------------------------------------------------------


def count_closures(mouth: MouthCurves, phones: Sequence[Phone]) -> PhoneHits:
    """Count /p b m/ near which the aperture falls below CLOSED_BELOW of the clip's own range.

    The range lies between two percentiles of all frames, so a mouth that never moves never closes.
    """
    low, high = _percentiles(mouth.aperture)
    level = low + CLOSED_BELOW * (high - low)
    return _count(lambda times: _min_near(mouth.aperture, times), level, phones, LIP_CLOSING_PHONES)


def count_roundings(mouth: MouthCurves, phones: Sequence[Phone]) -> PhoneHits:
    """Count /u o w/ (LIP_ROUNDING_PHONES) near which the mean width is below the median width while speaking."""
    if not phones or not np.isfinite(mouth.width).any():
        return PhoneHits()
    level = np.nanmedian(mouth.width[_speech_frames(phones, len(mouth))])
    return _count(lambda times: _mean_near(mouth.width, times), level, phones, LIP_ROUNDING_PHONES)


def closure_gaps(mouth: MouthCurves, phones: Sequence[Phone]) -> list[float]:
    """The least aperture near every /p b m/, in eye distances."""
    values = _min_near(mouth.aperture, [phone.middle for phone in phones if phone.label in LIP_CLOSING_PHONES])
    return values[np.isfinite(values)].tolist()


def _count(
    near: Callable[[Times], np.ndarray], level: float, phones: Sequence[Phone], labels: Collection[str]
) -> PhoneHits:
    """Count phones of `labels` near whose middles the curve is below `level`; those without frames are left out."""
    wanted = [phone.middle for phone in phones if phone.label in labels]
    if not wanted:
        return PhoneHits()
    seen = near(wanted)
    chance = near(np.arange(min(p.start for p in phones), max(p.end for p in phones), _STEP))
    seen, chance = (values[np.isfinite(values)] for values in (seen, chance))
    if not len(seen) or not len(chance):
        return PhoneHits()
    return PhoneHits(int((seen < level).sum()), len(seen), float((chance < level).mean()) * len(seen))


def _min_near(curve: np.ndarray, times: Times) -> np.ndarray:
    """Least value of curve [T] within CLOSED_REACH of times [n] in seconds, [n]; NaN where there is none."""
    values = np.where(_frames_near(curve, times, CLOSED_REACH), curve, np.inf).min(axis=1)
    return np.where(np.isinf(values), np.nan, values)


def _mean_near(curve: np.ndarray, times: Times) -> np.ndarray:
    """Mean of curve [T] within ROUNDED_REACH of times [n] in seconds, [n]; NaN where there is none."""
    close = _frames_near(curve, times, ROUNDED_REACH)
    count = close.sum(axis=1)
    return np.where(count, np.where(close, curve, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _frames_near(curve: np.ndarray, times: Times, reach: float) -> np.ndarray:
    """[n, T] bool: frames with a value within `reach` of each time."""
    shown = (np.arange(len(curve)) + 0.5) / FPS
    apart = np.abs(shown[None] - np.asarray(times, np.float64)[:, None])
    return (apart <= reach + 1e-9) & np.isfinite(curve)[None]


def _speech_frames(phones: Sequence[Phone], frames: int) -> np.ndarray:
    """Frames [T] bool from the first phone to the last; all of them if none lies inside."""
    shown = (np.arange(frames) + 0.5) / FPS
    inside = (shown >= min(p.start for p in phones)) & (shown <= max(p.end for p in phones))
    return inside if inside.any() else np.ones(frames, bool)


def _percentiles(curve: np.ndarray) -> tuple[float, float]:
    finite = curve[np.isfinite(curve)]
    low, high = np.percentile(finite, RANGE) if len(finite) else (np.nan, np.nan)
    return low, high


# -- sound and lips ---------------------------------------------------------------------------------------------------


def loudness_envelope(samples: np.ndarray, frames: int) -> np.ndarray:
    """Loudness [frames] of samples (mono [samples], 16 kHz) in 0..1: RMS level of each video frame, 40 dB down to 0."""
    size = SAMPLE_RATE // FPS
    padded = np.zeros(frames * size, np.float64)
    padded[: min(len(samples), len(padded))] = samples[: len(padded)]
    level = 20 * np.log10(np.sqrt(np.mean(padded.reshape(frames, size) ** 2, axis=1)) + 1e-7)
    top = np.percentile(level, 95) if frames else 0.0
    return np.clip((level - top) / _DYNAMIC_DB + 1, 0, None)


def motion_ratio(mouth: MouthCurves, speaking: MouthCurves) -> float:
    """Mean squared change of aperture from frame to frame over that of a speaking mouth; 0: it stands still."""

    def energy(curve: np.ndarray) -> float:
        change = np.diff(curve)
        return float(np.nanmean(change**2)) if np.isfinite(change).any() else float("nan")

    usual = energy(speaking.aperture)
    return energy(mouth.aperture) / usual if usual > 0 else float("nan")


def rigid_jitter(points: np.ndarray) -> float:
    """Jitter of the RIGID landmarks of points [T,478,2], in thousandths of the eye distance.

    It is the RMS second difference over time, so that a head that moves evenly has none.
    """
    points = np.asarray(points, np.float64)
    a, b = metrics.EYE_OUTER_CORNERS
    scale = np.nanmedian(np.linalg.norm(points[:, a] - points[:, b], axis=-1)) if len(points) else float("nan")
    turns = np.diff(points[:, list(RIGID)], n=2, axis=0) / 2  # half: away from the middle of its neighbours
    if not np.isfinite(turns).any():
        return float("nan")
    return float(1000 * np.sqrt(np.nanmean((turns**2).sum(-1))) / scale)
