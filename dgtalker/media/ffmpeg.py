"""The one place that runs ffmpeg: what it may open, how much it may decode, and when it is killed.

Input files may be hostile. A playlist or script (HLS, DASH, concat, SDP) under any name would make ffmpeg open other
files of this machine, so the first bytes of a file, not its name, choose the only demuxer that may read it, from
containers that hold their media themselves. A few kilobytes may claim hours, so lengths are bounded (plausible_seconds,
sound_filter), and a process that keeps its reader waiting is killed, as is that of a cancelled job.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from dgtalker.errors import UserError

# (place, bytes there, ffmpeg's demuxer) of containers that hold their media themselves.
_SIGNATURES = (
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"FLV\x01", "flv"),
    (0, b"caff", "caf"),
    (0, b".snd", "au"),
    (0, b"#!AMR", "amr"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"riff.\x91\xcf\x11", "w64"),
    (0, b"\x06\x0e+4\x02\x05\x01\x01", "mxf"),
    (0, b"wvpk", "wv"),
    (0, b"MAC ", "ape"),
    (0, b"TTA", "tta"),
    (0, b"DSD ", "dsf"),
    (8, b"WAVE", "wav"),
    (8, b"AVI ", "avi"),
    (8, b"AIFF", "aiff"),
    (8, b"AIFC", "aiff"),
    (8, b"8SVX", "iff"),
    *((4, box, "mov") for box in b"ftyp styp moov moof mdat sidx free skip wide pnot".split()),
)
# Streams without a signature at a fixed place: ffmpeg finds out which of these it is.
_RAW_STREAMS = "mp3,aac,loas,ac3,eac3,dts,mpegts,mpeg,mpegvideo,dv"
_HEAD_BYTES, _MAX_TAGS = 4096, 16

_ANY_FILE_SECONDS = 120  # that every file may last, however small, and as long as these rates allow:
SOUND_BYTES_PER_SECOND, VIDEO_BYTES_PER_SECOND = 16, 100  # digital silence in FLAC takes 21, a still picture 500
_PATIENCE_SECONDS = 60.0  # that a reader waits in all, and this many more for each second decoded:
_PATIENCE_PER_SECOND = 10.0
_POLL_SECONDS = 0.1
_MEMORY = 6 << 30  # bytes of a process; 8K films need about 3 GB
_OUT_OF_MEMORY = 256 - errno.ENOMEM  # ffmpeg's exit status


class Cancelled(Exception):
    """The job was cancelled while a file was being decoded."""


def ffmpeg_exe() -> str:
    """Path of the ffmpeg that imageio-ffmpeg (a dependency of moviepy) carries, so that none need be installed."""
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError("No ffmpeg was found: pip install imageio-ffmpeg.") from error


def sniff_demuxers(path: str | Path) -> str:
    """Names of the ffmpeg demuxers, separated by commas, that may read a file: from its first bytes, not its name.

    Raises UserError for a file that does not exist, is empty, or is text: playlists, scripts, subtitles, XML.
    """
    path = Path(path)
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
        raise UserError(f"{path} does not exist or is not a file.")
    try:
        with open(path, "rb") as file:
            start, head = 0, file.read(_HEAD_BYTES)
            for _ in range(_MAX_TAGS):  # before MP3, AAC, FLAC
                if not head.startswith(b"ID3") or len(head) < 10:
                    break
                start += 10 + sum(
                    (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
                )
                file.seek(start)
                head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UserError(f"{path.name} cannot be read ({error.strerror}).") from error
    if not head and not start:
        raise UserError(f"{path.name} is empty (0 bytes).")
    for place, signature, demuxer in _SIGNATURES:
        if head.startswith(signature, place):
            return demuxer
    if _is_text(head):
        raise UserError(f"{path.name} is a text or a playlist, not a recording: give the audio or video file itself.")
    return _RAW_STREAMS


def _is_text(head: bytes) -> bool:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and head.count(0) >= len(head) // 4:
        return True  # UTF-16
    try:
        return bool(head) and min(head.decode("utf-8")) >= "\t"
    except UnicodeDecodeError as error:
        return error.start >= _HEAD_BYTES - 4 and min(head[: error.start]) >= 9  # a character cut in two at the end


def input_arguments(path: str | Path) -> list[str]:
    """Arguments that open a file of a user as ffmpeg's next input, and nothing but that file. Raises UserError."""
    demuxers = sniff_demuxers(path)
    arguments = ["-protocol_whitelist", "file,pipe", "-format_whitelist", demuxers]
    if "," not in demuxers:
        arguments += ["-f", demuxers]
    if demuxers == "mov":
        arguments += ["-enable_drefs", "0", "-use_absolute_path", "0"]  # the defaults: no media in other files
    return [*arguments, "-i", f"file:{Path(path).resolve()}"]


def plausible_seconds(path: str | Path, bytes_per_second: int = SOUND_BYTES_PER_SECOND) -> float:
    """Longest time that a file of this size can honestly last."""
    return _ANY_FILE_SECONDS + Path(path).stat().st_size / bytes_per_second


def sound_filter(resample: str, seconds: float) -> str:
    """Filter that makes sound keep its time: a late start stays late and gaps become silence, `resample` as options.

    What claims to come later than `seconds` comes then, so that no timestamp becomes hours of silence.
    """
    return f"asetpts=if(gt(T\\,{seconds:.3f})\\,{seconds:.3f}/TB\\,PTS),aresample={resample}async=1:first_pts=0"


def both_streams(other: str) -> list[str]:
    """Arguments of a second output that only reads the `other` stream, "v" or "a", and decodes nothing.

    ffmpeg counts time from the start of the streams in use: with both in use, picture and sound share their zero.
    """
    return ["-map", f"0:{other}:0", "-c", "copy", "-f", "null", "-"]


def decode(
    path: str | Path,
    output: Sequence[str] = (),
    block: int = 1 << 16,
    bytes_per_second: float = 1.0,
    cancelled: Callable[[], bool] | None = None,
    before_input: Sequence[str] = (),
    log_level: str = "error",
) -> Generator[bytes, None, str]:
    """Run ffmpeg on a file; yields what it writes to pipe:1 in blocks of `block` bytes and returns its log.

    output, before_input: ffmpeg's arguments after and before the input. bytes_per_second: of the output; the time that
    ffmpeg is given grows with the length decoded. Closing the generator kills ffmpeg.
    Raises UserError for a file that is no media or takes too long, Cancelled once cancelled() is true.
    """
    command = [
        ffmpeg_exe(),
        "-hide_banner",
        "-v",
        log_level,
        "-nostdin",
        *before_input,
        *input_arguments(path),
        *output,
    ]
    with tempfile.TemporaryFile() as log:  # not a pipe: a damaged input's complaints would fill it and block
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        assert process.stdout is not None
        limit_memory(process.pid)
        watchdog = _Watchdog(process, cancelled)
        watchdog.start()
        patience = _PATIENCE_SECONDS
        try:
            while True:
                began = time.monotonic()
                watchdog.deadline = began + patience
                data = process.stdout.read(block)
                watchdog.deadline = float("inf")
                patience += _PATIENCE_PER_SECOND * len(data) / bytes_per_second - (time.monotonic() - began)
                if watchdog.cancelled_job:
                    raise Cancelled
                if watchdog.too_slow:
                    raise UserError(f"{Path(path).name} takes too long to decode; convert it to WAV or MP4.")
                if not data:
                    break
                yield data
            if process.wait() == _OUT_OF_MEMORY:
                raise UserError(f"{Path(path).name} needs too much memory to decode; convert it to WAV or MP4.")
            log.seek(0)
            return log.read(1 << 20).decode(errors="replace")
        finally:
            watchdog.over.set()
            process.kill()
            process.stdout.close()
            process.wait()


class _Watchdog(threading.Thread):
    """Kills a process when its job is cancelled or its reader has waited past the deadline."""

    def __init__(self, process: subprocess.Popen, cancelled: Callable[[], bool] | None):
        super().__init__(name="dgtalker-ffmpeg", daemon=True)
        self.process, self.cancelled = process, cancelled
        self.deadline = float("inf")
        self.over = threading.Event()
        self.cancelled_job = self.too_slow = False

    def run(self) -> None:
        while not self.over.wait(_POLL_SECONDS):
            self.cancelled_job = self.cancelled is not None and self.cancelled()
            self.too_slow = time.monotonic() > self.deadline
            if self.cancelled_job or self.too_slow:
                self.process.kill()
                return


def limit_memory(pid: int) -> None:
    """Where the system can (Linux), keep an ffmpeg process from filling the memory with silence of many channels."""
    try:
        import resource

        resource.prlimit(pid, resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    except (ImportError, AttributeError, OSError, ValueError):
        pass
