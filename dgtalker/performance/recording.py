"""A sound in whatever form somebody has it: a file, the bytes of one, or samples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio

RATES = (1000, 384_000)  # Hz
MAX_CHANNELS = 32


@dataclass(frozen=True)
class Recording:
    """One sound; `Recording.of` makes it from what users pass."""

    source: Path | bytes | tuple[np.ndarray, int] = field(repr=False)

    @classmethod
    def of(cls, sound: SoundSource) -> Recording:
        """`sound`: a path, the bytes of a sound file, or (samples, rate).

        Samples are [S] or [S, channels], whole numbers of their type's range or floats within about +-1. Raises
        UserError for anything else, or samples that are none, not finite or of an impossible rate.
        """
        if isinstance(sound, Recording):
            return sound
        if isinstance(sound, str | os.PathLike):
            return cls(Path(sound))
        if isinstance(sound, bytes | bytearray | memoryview):
            if not len(sound):
                raise UserError("The sound is empty: these are 0 bytes.")
            return cls(bytes(sound))
        if isinstance(sound, tuple) and len(sound) == 2:
            samples, rate = float_samples(sound[0]), check_rate(sound[1])
            if not samples.size:
                raise UserError("The sound is empty: these are 0 samples.")
            return cls((samples, rate))
        raise UserError(f"A sound is a path, the bytes of a sound file or (samples, rate), not {type(sound).__name__}.")

    @contextmanager
    def as_file(self) -> Generator[Path]:
        """The path of a file that holds the sound; unless it is one already, a temporary WAV that goes away again."""
        if isinstance(self.source, Path):
            yield self.source
            return
        with tempfile.TemporaryDirectory(prefix="dgtalker-") as folder:
            path = Path(folder, "sound")  # what it is is told from its bytes
            if isinstance(self.source, bytes):
                path.write_bytes(self.source)
            else:
                import soundfile

                soundfile.write(path, *self.source, format="WAV", subtype="FLOAT")
            yield path

    def load(self, cancelled: Callable[[], bool] | None = None) -> np.ndarray:
        """Mono samples at 16 kHz, as load_audio gives them. Raises UserError and ffmpeg.Cancelled as it does."""
        with self.as_file() as path:
            return load_audio(path, cancelled=cancelled)


SoundSource = str | os.PathLike[str] | bytes | tuple[np.ndarray, int] | Recording


def float_samples(samples: np.ndarray) -> np.ndarray:
    """A float32 copy of samples [S] or [S, channels]; whole numbers are scaled to +-1.

    Raises UserError for what is no array of samples or holds values that are not finite.
    """
    try:
        samples = np.asarray(samples)
    except ValueError as error:  # lists of different lengths
        raise UserError(f"Samples are an array [samples] or [samples, channels]: {error}") from error
    if samples.ndim not in (1, 2):
        raise UserError(f"Samples are an array [samples] or [samples, channels], not one of shape {samples.shape}.")
    if samples.ndim == 2 and samples.shape[1] > MAX_CHANNELS:
        raise UserError(f"Samples are [samples, channels]; these, {samples.shape}, seem to be the other way round.")
    if samples.dtype.kind == "f":
        if not np.isfinite(samples).all():
            raise UserError("The samples hold values that are not finite numbers.")
        return samples.astype(np.float32)
    if samples.dtype not in (np.uint8, np.int16, np.int32):
        raise UserError(f"Samples are floats, int16, int32 or uint8, not {samples.dtype}.")
    middle, largest = (128, 128) if samples.dtype == np.uint8 else (0, -int(np.iinfo(samples.dtype).min))
    return ((samples.astype(np.float64) - middle) / largest).astype(np.float32)


def check_rate(rate: int) -> int:
    """Raises UserError unless `rate` is a possible number of samples a second."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not RATES[0] <= rate <= RATES[1]:
        raise UserError(f"The rate must be a whole number of Hz from {RATES[0]} to {RATES[1]}, not {rate}.")
    return int(rate)
