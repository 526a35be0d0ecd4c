"""Frames in, an mp4 file with sound out, in constant memory."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS, MAX_SECONDS
from dgtalker.media.ffmpeg import ffmpeg_exe, input_arguments, limit_memory, sound_filter

_PATIENCE_SECONDS = 60.0  # for an encoder to finish a video, and one more for each frame


@dataclass(frozen=True)
class EncoderConfig:
    """How videos are encoded."""

    preset: str = "veryfast"  # x264's trade of speed for size
    crf: int = 16  # constant quality; 18 is about visually lossless, heads on white are cheap
    audio_bitrate: str = "160k"
    audio_rate: int = 48000  # one rate that every browser plays, whatever the source has


class VideoWriter:
    """Streams frames into an h264 mp4 that plays everywhere, with the sound of another file muxed in once.

        with VideoWriter("out.mp4", 256, 256, audio="speech.flac") as writer:
            for frame in frames:
                writer.write(frame)  # uint8 [H, W, 3]

    The file appears under its name only when it is finished; after an exception or `abort()` nothing is left.
    Odd sizes are padded with white to even ones, as yuv420p needs. Of the sound, at most `audio_seconds` are taken.
    Raises UserError if the output cannot be written (also: disk full) or the sound is no media file, and RuntimeError
    if the encoder fails for another reason.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float = FPS,
        audio: str | Path | None = None,
        config: EncoderConfig | None = None,
        audio_seconds: float = MAX_SECONDS,
    ):
        self.path = Path(path)
        self.shape = (height, width, 3)
        self.frames = 0
        if self.path.is_dir():
            raise UserError(f"Output {self.path} is a folder; give the name of an .mp4 file.")
        command = _encoder_command(width, height, fps, audio, audio_seconds, config or EncoderConfig())
        self._partial = _partial_file(self.path)
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                [*command, str(self._partial)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                bufsize=0,
            )
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise
        assert self._process.stdin is not None
        self._frames_in = self._process.stdin
        self._finished = False
        limit_memory(self._process.pid)

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [H, W, 3] RGB."""
        if frame.shape != self.shape or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame {self.shape}, got {frame.dtype} {frame.shape}")
        data = memoryview(frame.tobytes())
        try:
            while data:  # an unbuffered pipe may take less than it is given
                data = data[self._frames_in.write(data) :]
        except OSError:  # the encoder died: its log says why
            self._fail()
        self.frames += 1

    def close(self) -> Path:
        """Finish the file and move it to its place."""
        if self._finished:
            return self.path
        try:
            self._frames_in.close()
        except OSError:
            pass  # the exit status tells
        try:
            status = self._process.wait(timeout=_PATIENCE_SECONDS + self.frames)
        except subprocess.TimeoutExpired:
            self.abort()
            raise RuntimeError("ffmpeg did not finish the video in time") from None
        if status != 0 or self.frames == 0:
            self._fail()
        self._finished = True
        self._log.close()
        try:
            os.replace(self._partial, self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise UserError(f"Output {self.path} cannot be written ({error.strerror}).") from error
        return self.path

    def abort(self) -> None:
        """Stop the encoder and delete what it wrote. Does nothing after `close`."""
        if self._finished:
            return
        self._finished = True
        self._process.kill()
        self._process.wait()
        try:
            self._frames_in.close()
        except OSError:
            pass
        self._log.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _fail(self) -> NoReturn:
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass  # abort kills it
        self._log.seek(0)
        message = self._log.read(100_000).decode(errors="replace")
        self.abort()
        if self.frames == 0 and not message:
            raise RuntimeError("no frame was written")
        if "No space left on device" in message:
            raise UserError(f"The disk is full: {self.path} could not be written.")
        if "Permission denied" in message or "Read-only file system" in message:
            raise UserError(f"Output {self.path} cannot be written; choose another folder.")
        raise RuntimeError(f"ffmpeg failed: {message.strip()[-500:]}")


def _partial_file(path: Path) -> Path:
    """A new empty file beside `path`: writable place proven, and the later rename stays within one file system."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".mp4", dir=path.parent)
    except OSError as error:
        reason = error.strerror or "not possible"
        raise UserError(f"Output {path} cannot be written ({reason}); choose another folder.") from error
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp makes private files; the video should be an ordinary one
    return Path(name)


def _encoder_command(
    width: int, height: int, fps: float, audio: str | Path | None, audio_seconds: float, config: EncoderConfig
) -> list[str]:
    command = [ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "pipe:0"]
    if audio is not None:
        command += ["-t", f"{audio_seconds:.3f}", *input_arguments(audio)]
        command += ["-map", "0:v:0", "-map", "1:a:0", "-c:a", "aac", "-b:a", config.audio_bitrate, "-ac", "2"]
        command += ["-af", sound_filter(f"{config.audio_rate}:", audio_seconds)]  # in step, as load_audio's is
    # Without these the conversion uses the bt601 matrix and players guess another one: colours shift.
    pad = "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white," if width % 2 or height % 2 else ""
    convert = f"{pad}scale=in_range=full:out_range=limited:out_color_matrix=bt709,format=yuv420p"
    command += ["-vf", f"{convert},setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"]
    command += ["-c:v", "libx264", "-preset", config.preset, "-crf", str(config.crf), "-g", "50"]
    return command + ["-movflags", "+faststart", "-map_metadata", "-1", "-f", "mp4"]
