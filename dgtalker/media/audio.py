"""Any audio file (or the sound of a video) -> mono float32 samples, in constant working memory."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS, MAX_SECONDS, SAMPLE_RATE, num_frames
from dgtalker.media.ffmpeg import Cancelled, decode, sniff_demuxers, sound_filter
from dgtalker.media.probe import probe

_BLOCK_SECONDS = 30
_BLOCK_VALUES = 1 << 25  # at most, over all channels
# What libsndfile is asked to open. Its mp3 decoder prints its troubles to stderr and drops damaged parts; ffmpeg,
# which puts the sound into the video, keeps them.
_SOUNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")
_SOUNDFILE_RATES, _SOUNDFILE_CHANNELS = (1000, 768_000), 64  # what a header can honestly say


def load_audio(
    path: str | Path,
    rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    cancelled: Callable[[], bool] | None = None,
) -> np.ndarray:
    """Read an audio file, or the sound track of a video, as mono float32 [samples] at `rate` Hz.

    libsndfile reads wav, flac, ogg, aiff; the bundled ffmpeg reads the rest. Silence is legal.
    Raises UserError for a file that is missing, empty, not decodable, without sound, or longer than `max_seconds`, and
    ffmpeg.Cancelled once cancelled() is true.
    """
    path = Path(path)
    sniff_demuxers(path)
    limit = int(max_seconds * rate) + rate // FPS
    blocks: list[np.ndarray] = []
    total = 0
    stream = _soundfile_blocks(path, rate, max_seconds) or _ffmpeg_blocks(path, rate, max_seconds, cancelled)
    try:
        for block in stream:
            if cancelled and cancelled():
                raise Cancelled
            blocks.append(block)
            total += len(block)
            if total > limit:
                raise _too_long(path, None, max_seconds)
    finally:
        stream.close()
    if total == 0 or num_frames(total, rate) == 0:
        raise UserError(f"Audio file {path.name} holds less than one video frame (1/25 s) of sound.")
    samples = np.concatenate(blocks)
    # Float files may carry NaN or infinity; one such sample would poison every feature after it.
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -8.0, 8.0)


def _too_long(path: Path, seconds: float | None, max_seconds: float) -> UserError:
    length = f"{seconds / 60:.0f} min long" if seconds else "too long"
    return UserError(f"Audio file {path.name} is {length}; the limit is {max_seconds / 60:g} min: cut it into parts.")


def _soundfile_blocks(path: Path, rate: int, max_seconds: float) -> Generator[np.ndarray, None, None] | None:
    """Mono blocks at `rate`, or None if the file is not for libsndfile or it finds no samples in it."""
    import soundfile

    with open(path, "rb") as file:
        if not file.read(4).startswith(_SOUNDFILE_MAGIC):
            return None
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):  # TypeError: named .raw
        return None
    lowest, highest = _SOUNDFILE_RATES
    if info.frames <= 0 or not lowest <= info.samplerate <= highest or info.channels > _SOUNDFILE_CHANNELS:
        return None
    if info.frames < 2**62 and info.frames / info.samplerate > max_seconds + 1 / FPS:
        raise _too_long(path, info.frames / info.samplerate, max_seconds)
    return _read_soundfile(path, rate)


def _read_soundfile(path: Path, rate: int) -> Generator[np.ndarray, None, None]:
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(str(path)) as file:
            resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
            size = min(_BLOCK_SECONDS * file.samplerate, _BLOCK_VALUES // file.channels)
            while True:
                block = file.read(size, dtype="float32", always_2d=True)
                last = len(block) == 0
                yield resampler.resample_chunk(np.ascontiguousarray(block.mean(axis=1)), last=last)
                if last:
                    return
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"Audio file {path.name} is damaged and cannot be decoded; convert it to WAV.") from error


def _ffmpeg_blocks(
    path: Path, rate: int, max_seconds: float, cancelled: Callable[[], bool] | None
) -> Generator[np.ndarray, None, None]:
    """Decode with ffmpeg through a pipe; whatever could be decoded of a truncated file is kept."""
    info = probe(path, cancelled)
    if not info.audio:
        raise UserError(f"{path.name} has no audio track.")
    if info.seconds_measured and info.seconds > max_seconds + 1:
        raise _too_long(path, info.seconds, max_seconds)
    yield from decode_sound(path, sound_filter(f"{rate}:", max_seconds + 1), rate, cancelled)


def decode_sound(
    path: str | Path, filters: str, rate: int = SAMPLE_RATE, cancelled: Callable[[], bool] | None = None
) -> Generator[np.ndarray, None, None]:
    """Mono float32 blocks at `rate` Hz of the first sound track, by ffmpeg, after its audio `filters`.

    Raises UserError if there is nothing that can be decoded, ffmpeg.Cancelled.
    """
    output = ["-map", "0:a:0", "-af", filters, "-ac", "1", "-ar", str(rate), "-f", "f32le", "pipe:1"]
    got_sound = False
    blocks = decode(path, output, 4 * rate * _BLOCK_SECONDS, 4 * rate, cancelled)
    try:
        for data in blocks:
            got_sound = True
            yield np.frombuffer(data[: len(data) // 4 * 4], np.float32)
    finally:
        blocks.close()
    if not got_sound:
        raise UserError(f"{Path(path).name} holds no sound that can be decoded; convert it to WAV, FLAC or MP3.")
