"""Blinks as a signal of their own: drawn as people blink while they talk, or scheduled by hand.

How people blink, and what is made of it here:
* 26 blinks a minute in conversation, 17 at rest, 4.5 while reading (Bentivoglio et al. 1997); 10 to 32 in conversation
  is normal (Doughty 2001). A face that reads aloud to a camera lies between: 18, an option.
* Intervals are skewed, many short and a few long ones, with a coefficient of variation of about 0.8 within one person
  (Doughty 2016): log-normal with sigma = sqrt(log(1 + 0.8^2)) = 0.7.
* The lid falls in about 0.1 s and rises in two to three times that, slowing down at the end (Evinger et al. 1991;
  Trutoiu et al. 2011). Blinks that shut the eye look the most natural (Trutoiu), so only some stay incomplete, though
  half of those of a person watching a film do (Ousler et al. 2014).
* Speakers blink at the end of phrases and in pauses (Nakano and Kitazawa 2010): there blinks are likelier.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS, MAX_SECONDS

RATE = 18.0  # blinks a minute
MAX_RATE = 60.0
MAX_BLINKS = 10_000  # of a schedule
_SPREAD = 0.7  # sigma of the logarithm of the intervals
_PAUSE_BOOST = 4.0  # times likelier in a pause than in speech
_DOUBLE, _INCOMPLETE = 0.07, 0.15  # shares of blinks that are followed at once by a second, that do not shut the eye
_SHORTEST_GAP = 0.4  # seconds from one blink to the next, so that the lid is up in between
_FIRST = 0.2  # seconds: no blink is under way in the first picture
_SCHEDULE_FILE_BYTES = 1 << 20


@dataclass(frozen=True)
class Blink:
    """One blink. Its lid is down from `time` on for `hold` seconds."""

    time: float  # seconds from the start of the sound
    fall: float = 0.1  # seconds
    hold: float = 0.03
    rise: float = 0.22
    depth: float = 1.0  # how far it shuts the eye


def natural_blinks(
    frames: int, seed: int | Sequence[int] = 0, rate: float = RATE, pauses: np.ndarray | None = None, fps: float = FPS
) -> np.ndarray:
    """A blink signal [frames] float32 in 0 (open) .. 1 (shut) of about `rate` blinks a minute, one for each seed.

    pauses: bool [frames], where the speaker pauses; blinks gather there, while their number stays. rate 0: none.
    Raises UserError for a rate outside 0 .. 60.
    """
    check_rate(rate)
    rng = np.random.default_rng(seed)
    return blink_signal(draw_blinks(frames / fps, rate, rng, pauses), frames, fps)


def scheduled_blinks(times: Sequence[float], frames: int, seed: int | Sequence[int] = 0, fps: float = FPS):
    """The signal [frames] of blinks that shut the eye at `times`, in seconds; the seed varies how long they last.

    Raises UserError for a time after the end.
    """
    rng = np.random.default_rng(seed)
    late = [time for time in times if not 0 <= time < frames / fps]
    if late:
        raise UserError(f"A blink is set at {late[0]:g} s, but the sound lasts {frames / fps:.2f} s.")
    return blink_signal([_draw_blink(time, rng, complete=True) for time in sorted(times)], frames, fps)


def draw_blinks(seconds: float, rate: float, rng: np.random.Generator, pauses: np.ndarray | None = None) -> list[Blink]:
    """Blinks of `seconds` of speech: a renewal process with log-normal intervals on a clock that runs faster in pauses.

    pauses: bool, over the whole time. The clock is scaled so that the mean rate is that asked for.
    """
    if rate <= 0 or seconds <= 0:
        return []
    speed = np.ones(1) if pauses is None or not len(pauses) else np.where(pauses, _PAUSE_BOOST, 1.0)
    speed = speed / speed.mean()
    moments = np.linspace(0.0, seconds, len(speed) + 1)
    clock = np.concatenate([[0.0], np.cumsum(speed)]) * seconds / len(speed)  # ends at `seconds`, too
    mean = 60.0 / rate * (1.0 + _DOUBLE)
    blinks: list[Blink] = []
    at = rng.uniform() * _draw_interval(mean, rng)  # a film starts anywhere between two blinks
    while at < seconds:
        time = float(np.interp(at, clock, moments))
        at += _draw_interval(mean, rng)
        if time < _FIRST or (blinks and time - blinks[-1].time < _SHORTEST_GAP):
            continue
        blinks.append(_draw_blink(time, rng))
        if rng.uniform() < _DOUBLE:
            blinks.append(_draw_blink(time + rng.uniform(_SHORTEST_GAP, 0.6), rng))
    return blinks


def _draw_interval(mean: float, rng: np.random.Generator) -> float:
    return mean * math.exp(rng.normal(-(_SPREAD**2) / 2, _SPREAD))


def _draw_blink(time: float, rng: np.random.Generator, complete: bool = False) -> Blink:
    fall = rng.uniform(0.08, 0.12)
    depth = rng.uniform(0.45, 0.8) if rng.uniform() < _INCOMPLETE and not complete else rng.uniform(0.95, 1.0)
    hold = rng.uniform(0.0, 0.06)
    return Blink(float(time), fall, hold, fall * rng.uniform(2.0, 3.0), 1.0 if complete else depth)


def blink_signal(blinks: Sequence[Blink], frames: int, fps: float = FPS) -> np.ndarray:
    """[frames] float32 in 0..1. A blink is deepest on a frame: between two, a complete one would not shut the eye."""
    signal = np.zeros(frames)
    for blink in blinks:
        peak = round(blink.time * fps)
        first = max(peak - math.ceil(blink.fall * fps), 0)
        last = min(peak + math.ceil((blink.hold + blink.rise) * fps), frames - 1)
        time = (np.arange(first, last + 1) - peak) / fps
        down = np.clip(1.0 + time / blink.fall, 0.0, 1.0)
        up = np.clip(1.0 - (time - blink.hold) / blink.rise, 0.0, 1.0) ** 1.4  # fast first, slow at the end
        lid = np.minimum(down, up)
        signal[first : last + 1] = np.maximum(signal[first : last + 1], blink.depth * lid * lid * (3.0 - 2.0 * lid))
    return signal.astype(np.float32)


def check_rate(rate: float) -> float:
    """Raises UserError unless `rate` is a number of blinks a minute from 0 to 60."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= MAX_RATE:
        raise UserError(f"The blink rate must be a number from 0 to {MAX_RATE:g} a minute, not {rate}.")
    return float(rate)


def parse_schedule(text: str | None, files: bool = False) -> tuple[float, ...] | None:
    """Times from text: "1.2, 3.4, 5" -> (1.2, 3.4, 5.0); "none" -> (); "" and "natural" -> None, for drawn blinks.

    files: the text may also name a .csv, with a column `time` or nothing but times, in seconds.
    Raises UserError for anything else.
    """
    text = (text or "").strip()
    if text.lower() in ("", "natural"):
        return None
    if text.lower() == "none":
        return ()
    if files and (Path(text).suffix.lower() in (".csv", ".txt") or Path(text).is_file()):
        words = _read_schedule(Path(text))
    else:
        words = [word for word in re.split(r"[\s,;]+", text) if word]
    return check_schedule([_seconds(word) for word in words])


def format_schedule(times: Sequence[float] | None) -> str:
    """The text that parse_schedule reads as `times`."""
    return "" if times is None else ", ".join(f"{time:.10g}" for time in times) or "none"


def check_schedule(times: Sequence[float]) -> tuple[float, ...]:
    """Sorted times. Raises UserError for too many, or one that is not a number of seconds."""
    if len(times) > MAX_BLINKS:
        raise UserError(f"The schedule holds {len(times)} blinks; the limit is {MAX_BLINKS}.")
    for time in times:
        if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= MAX_SECONDS:
            raise UserError(f"A blink is set at {str(time)[:40]}, which is not a time from 0 to {MAX_SECONDS:g} s.")
    return tuple(sorted(float(time) for time in times))


def _seconds(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise UserError(
            f"'{word[:40]}' is not a time: write blinks as seconds, for instance 1.2, 3.4, 5, or none."
        ) from None


def _read_schedule(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _SCHEDULE_FILE_BYTES:
            raise UserError(f"{path.name} is too large for a list of blinks.")
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except OSError as error:
        raise UserError(f"Blinks cannot be read from {path} ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path.name} is not a CSV file.") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "time" in header:
        column = header.index("time")
        return [row[column].strip() for row in rows[1:] if len(row) > column and row[column].strip()]
    return [word.strip() for row in rows for word in row if word.strip()]
