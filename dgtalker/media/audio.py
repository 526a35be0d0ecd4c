"""Any audio file (or the sound of a video) -> mono float32 samples, in constant working memory."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError

SAMPLE_RATE = 16000
FPS = 25  # the master clock: everything is counted in video frames
MAX_SECONDS = 30 * 60.0
_BLOCK_SECONDS = 30
# What libsndfile is asked to open. Its mp3 decoder prints its troubles to stderr and drops damaged parts; ffmpeg,
# which puts the sound into the video, keeps them.
_SOUNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff", b".snd")


def num_frames(samples: int | np.ndarray, rate: int = SAMPLE_RATE) -> int:
    """Video frames that a sound lasts: round(25 * samples / rate). `samples` is a count or a 1-D array."""
    count = samples if isinstance(samples, (int, np.integer)) else len(samples)
    return int(round(FPS * int(count) / rate))


def ffmpeg_exe() -> str:
    """Path of the ffmpeg that imageio-ffmpeg (a dependency of moviepy) carries, so that none need be installed."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError("No ffmpeg was found: pip install imageio-ffmpeg.") from error


def load_audio(path: str | Path, rate: int = SAMPLE_RATE, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Read an audio file, or the sound track of a video, as mono float32 [samples] at `rate` Hz.

    libsndfile reads wav, flac, ogg, aiff; the bundled ffmpeg reads the rest. Silence is legal.
    Raises UserError for a file that is missing, empty, not decodable, without sound, or longer than `max_seconds`.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"Audio file {path} does not exist or is not a file.")
    if path.stat().st_size == 0:
        raise UserError(f"Audio file {path.name} is empty (0 bytes).")
    limit = int(max_seconds * rate) + rate // FPS
    blocks: list[np.ndarray] = []
    total = 0
    stream = _soundfile_blocks(path, rate, max_seconds) or _ffmpeg_blocks(path, rate)
    for block in stream:
        blocks.append(block)
        total += len(block)
        if total > limit:
            stream.close()
            raise _too_long(path, None, max_seconds)
    if total == 0 or num_frames(total, rate) == 0:
        raise UserError(f"Audio file {path.name} holds less than one video frame (1/25 s) of sound.")
    samples = np.concatenate(blocks)
    # Float files may carry NaN or infinity; one such sample would poison every feature after it.
    return np.clip(np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0), -8.0, 8.0)


def _too_long(path: Path, seconds: float | None, max_seconds: float) -> UserError:
    length = f"{seconds / 60:.0f} min long" if seconds else "too long"
    return UserError(f"Audio file {path.name} is {length}; the limit is {max_seconds / 60:g} min: cut it into parts.")


def _soundfile_blocks(path: Path, rate: int, max_seconds: float) -> Iterator[np.ndarray] | None:
    """Mono blocks at `rate`, or None if the file is not for libsndfile or it finds no samples in it."""
    import soundfile

    with open(path, "rb") as file:
        if not file.read(4).startswith(_SOUNDFILE_MAGIC):
            return None
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    if info.frames <= 0 or info.samplerate <= 0:
        return None
    if info.frames < 2**62 and info.frames / info.samplerate > max_seconds + 1 / FPS:
        raise _too_long(path, info.frames / info.samplerate, max_seconds)
    return _read_soundfile(path, rate)


def _read_soundfile(path: Path, rate: int) -> Iterator[np.ndarray]:
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(str(path)) as file:
            resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
            while True:
                block = file.read(_BLOCK_SECONDS * file.samplerate, dtype="float32", always_2d=True)
                last = len(block) == 0
                yield resampler.resample_chunk(np.ascontiguousarray(block.mean(axis=1)), last=last)
                if last:
                    return
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"Audio file {path.name} is damaged and cannot be decoded; convert it to WAV.") from error


def _ffmpeg_blocks(path: Path, rate: int) -> Iterator[np.ndarray]:
    """Decode with ffmpeg through a pipe; whatever could be decoded of a truncated file is kept."""
    command = [ffmpeg_exe(), "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe", "-i", str(path.resolve())]
    command += ["-map", "0:a:0", "-af", f"aresample={rate}:async=1:first_pts=0"]  # a late start stays late
    command += ["-ac", "1", "-f", "f32le", "pipe:1"]
    log = tempfile.TemporaryFile()  # a file, not a pipe: a damaged input's complaints would fill a pipe and block
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    got_sound = False
    try:
        while data := process.stdout.read(4 * rate * _BLOCK_SECONDS):
            got_sound = True
            yield np.frombuffer(data[: len(data) // 4 * 4], np.float32)
        process.wait()
        log.seek(0)
        message = log.read(10_000).decode(errors="replace")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
        log.close()
    if got_sound:
        return
    if "matches no streams" in message:
        raise UserError(f"{path.name} has no audio track.")
    raise UserError(f"{path.name} holds no sound that can be decoded; convert it to WAV, FLAC or MP3.")
