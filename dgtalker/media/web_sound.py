"""A sound as every browser plays it, small and without the tags of its file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dgtalker.errors import UserError
from dgtalker.media.clock import MAX_SECONDS
from dgtalker.media.ffmpeg import decode, sniff_demuxers, sound_filter
from dgtalker.media.probe import probe

KEPT_BYTES = 1 << 20  # a file of at most so many keeps its encoding
MP3_RATE = 44100  # Hz
MP3_BITRATES = {1: "96k", 2: "160k"}  # by channels
_PLAYED = {"pcm_s16le": "wav", "flac": "flac", "mp3": "mp3"}  # codecs that every browser plays, in their own containers
_MIME = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg"}
_CLOCK_RATE = 1000  # bytes a second of a second output, by which ffmpeg's progress is told


class WebSound(NamedTuple):
    """An encoded sound."""

    data: bytes
    mime: str  # "audio/mpeg", "audio/flac" or "audio/wav"


def make_web_sound(path: str | Path, cancelled: Callable[[], bool] | None = None) -> WebSound:
    """The sound of an audio or video file for a page: MP3, or as it is where that is small and played everywhere.

    It starts where load_audio's does. At most 30 minutes are taken. Raises UserError for a file that has no sound or
    cannot be decoded; ffmpeg.Cancelled.
    """
    path = Path(path)
    demuxer, info = sniff_demuxers(path), probe(path, cancelled)
    if not info.audio:
        raise UserError(f"{path.name} has no audio track.")
    container = _PLAYED.get(info.audio.split()[0].rstrip(","))
    own = demuxer == container or (container == "mp3" and "mp3" in demuxer.split(","))
    if container and own and path.stat().st_size <= KEPT_BYTES:
        return WebSound(_write(path, container, ["-c", "copy"], cancelled), _MIME[container])
    channels = 1 if info.channels == 1 else 2
    encode = ["-af", sound_filter(f"{MP3_RATE}:", MAX_SECONDS + 1), "-ac", str(channels), "-t", str(MAX_SECONDS + 1)]
    encode += ["-c:a", "libmp3lame", "-b:a", MP3_BITRATES[channels]]
    return WebSound(_write(path, "mp3", encode, cancelled), _MIME["mp3"])


def _write(path: Path, container: str, encode: Sequence[str], cancelled: Callable[[], bool] | None) -> bytes:
    """What ffmpeg writes: to a file, because headers with lengths are filled in at the end."""
    with tempfile.TemporaryDirectory(prefix="dgtalker-") as folder:
        target = Path(folder, f"sound.{container}")
        plain = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact"]
        output = ["-map", "0:a:0", *encode, *plain, "-f", container, str(target)]
        clock = ["-map", "0:a:0", "-ac", "1", "-ar", str(_CLOCK_RATE), "-f", "u8", "pipe:1"]
        for _ in decode(path, [*output, *clock], bytes_per_second=_CLOCK_RATE, cancelled=cancelled):
            pass
        if not target.is_file() or not target.stat().st_size:
            raise UserError(f"{path.name} holds no sound that can be decoded; convert it to WAV, FLAC or MP3.")
        return target.read_bytes()
