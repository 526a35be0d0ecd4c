"""Video files in and out through the ffmpeg that imageio-ffmpeg (moviepy's dependency) carries; constant memory."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.audio import FPS, ffmpeg_exe


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
    Odd sizes are padded with white to even ones, as yuv420p needs. Raises UserError if the output cannot be written
    (also: disk full) and RuntimeError if the encoder fails for another reason.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float = FPS,
        audio: str | Path | None = None,
        config: EncoderConfig | None = None,
    ):
        self.path = Path(path)
        self.shape = (height, width, 3)
        self.frames = 0
        if self.path.is_dir():
            raise UserError(f"Output {self.path} is a folder; give the name of an .mp4 file.")
        self._partial = _partial_file(self.path)
        self._log = tempfile.TemporaryFile()
        command = _encoder_command(width, height, fps, audio, config or EncoderConfig()) + [str(self._partial)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._log, bufsize=0
            )
        except BaseException:
            self._partial.unlink(missing_ok=True)
            raise

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, uint8 [H, W, 3] RGB."""
        if frame.shape != self.shape or frame.dtype != np.uint8:
            raise ValueError(f"expected a uint8 frame {self.shape}, got {frame.dtype} {frame.shape}")
        data = memoryview(np.ascontiguousarray(frame)).cast("B")
        try:
            while data:  # an unbuffered pipe may take less than it is given
                data = data[self._process.stdin.write(data) :]
        except OSError:  # the encoder died: its log says why
            self._fail()
        self.frames += 1

    def close(self) -> Path:
        """Finish the file and move it to its place."""
        if self._process is None:
            return self.path
        try:
            self._process.stdin.close()
        except OSError:
            pass  # the exit status tells
        if self._process.wait() != 0 or self.frames == 0:
            self._fail()
        self._process = None
        self._log.close()
        try:
            os.replace(self._partial, self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            raise UserError(f"Output {self.path} cannot be written ({error.strerror}).") from error
        return self.path

    def abort(self) -> None:
        """Stop the encoder and delete what it wrote. Does nothing after `close`."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        try:
            self._process.stdin.close()
        except OSError:
            pass
        self._process = None
        self._log.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _fail(self) -> None:
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


def _encoder_command(width: int, height: int, fps: float, audio: str | Path | None, config: EncoderConfig) -> list[str]:
    command = [ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", str(fps), "-i", "pipe:0"]
    if audio is not None:
        command += ["-protocol_whitelist", "file,pipe", "-i", str(Path(audio).resolve())]
        # first_pts=0: sound that starts late in its file stays late, as in load_audio.
        command += ["-map", "0:v:0", "-map", "1:a:0", "-c:a", "aac", "-b:a", config.audio_bitrate, "-ac", "2"]
        command += ["-af", f"aresample={config.audio_rate}:async=1:first_pts=0"]
    # Without these the conversion uses the bt601 matrix and players guess another one: colours shift.
    pad = "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white," if width % 2 or height % 2 else ""
    convert = f"{pad}scale=in_range=full:out_range=limited:out_color_matrix=bt709,format=yuv420p"
    command += ["-vf", f"{convert},setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=limited"]
    command += ["-c:v", "libx264", "-preset", config.preset, "-crf", str(config.crf), "-g", "50"]
    return command + ["-movflags", "+faststart", "-map_metadata", "-1", "-f", "mp4"]


@dataclass(frozen=True)
class MediaInfo:
    """What a media file says about itself."""

    seconds: float
    width: int  # 0 without a picture
    height: int
    fps: float
    video: str  # ffmpeg's line about the first video stream, "" if none
    audio: str  # about the first audio stream, "" if none


def probe(path: str | Path) -> MediaInfo:
    """Duration, size and streams of a media file. Raises UserError if it is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist or is not a file.")
    command = [ffmpeg_exe(), "-hide_banner", "-nostdin", "-protocol_whitelist", "file,pipe", "-i", str(path.resolve())]
    text = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).stderr.decode(errors="replace")
    streams = {kind: re.search(rf"Stream #0.*?{kind}: (.*)", text) for kind in ("Video", "Audio")}
    video, audio = (streams[kind].group(1) if streams[kind] else "" for kind in ("Video", "Audio"))
    if not video and not audio:
        raise UserError(f"{path.name} is not a video or audio file that can be read.")
    clock = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else 0.0
    size = re.search(r"[ ,](\d{2,5})x(\d{2,5})", video)
    rate = re.search(r"([\d.]+) fps", video)
    width, height = (int(size[1]), int(size[2])) if size else (0, 0)
    return MediaInfo(seconds, width, height, float(rate[1]) if rate else 0.0, video, audio)


def read_video(path: str | Path, fps: float = FPS) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] RGB of a video at `fps`, one at a time. Raises UserError if it has no picture."""
    info = probe(path)
    if not info.width:
        raise UserError(f"{Path(path).name} has no picture.")
    command = [ffmpeg_exe(), "-v", "quiet", "-nostdin", "-protocol_whitelist", "file,pipe", "-noautorotate"]
    command += ["-i", str(Path(path).resolve()), "-map", "0:v:0", "-vf", f"fps={fps}"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    count = info.width * info.height * 3
    try:
        while len(data := process.stdout.read(count)) == count:
            yield np.frombuffer(data, np.uint8).reshape(info.height, info.width, 3)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
