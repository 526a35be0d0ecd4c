"""Reading source videos: probe, frames at 25 a second, sound at 16 kHz, and where the cuts are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError

FPS = 25
SAMPLE_RATE = 16000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
MAX_HEIGHT = 1080  # larger pictures are scaled down while decoding; the head crop is 256 or 512 pixels anyway
VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclass(frozen=True)
class VideoInfo:
    """What a source video holds, after scaling to square pixels and at most MAX_HEIGHT rows."""

    width: int
    height: int
    seconds: float
    has_sound: bool


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UserError("Reading video needs the package imageio-ffmpeg; install it with pip.") from error
    return imageio_ffmpeg.get_ffmpeg_exe()


def list_videos(sources: str | Path | list[str | Path]) -> list[Path]:
    """Video files named by `sources` (files or folders of clips), sorted inside each folder.

    Raises UserError if a path does not exist or a folder holds no video.
    """
    if isinstance(sources, (str, Path)):
        sources = [sources]
    videos: list[Path] = []
    for source in map(Path, sources):
        if source.is_dir():
            found = sorted(p for p in source.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
            if not found:
                raise UserError(f"The folder {source} holds no video ({', '.join(VIDEO_SUFFIXES)}).")
            videos += found
        elif source.is_file():
            videos.append(source)
        else:
            raise UserError(f"There is no file or folder {source}.")
    if not videos:
        raise UserError("No video was given; name a video file or a folder of clips.")
    return videos


def probe(path: Path) -> VideoInfo:
    """Size, length and streams of a video. Raises UserError if it cannot be read."""
    text = subprocess.run([_ffmpeg(), "-nostdin", "-hide_banner", "-i", str(path)], capture_output=True).stderr
    text = text.decode(errors="replace")
    stream = re.search(r"Stream #.*Video: (.*)", text)
    size = re.search(r"[, ](\d{2,5})x(\d{2,5})[, ]", stream.group(1) + " ") if stream else None
    if not size:
        raise UserError(f"{path.name} cannot be read as a video; give an mp4, mpg or similar file.")
    width, height = int(size.group(1)), int(size.group(2))
    aspect = re.search(r"SAR (\d+):(\d+)", stream.group(1))
    if aspect and int(aspect.group(1)) and int(aspect.group(2)):
        width = round(width * int(aspect.group(1)) / int(aspect.group(2)))
    rotation = re.search(r"rotation of (-?[\d.]+) degrees", text)
    if rotation and round(float(rotation.group(1))) % 180 == 90:
        width, height = height, width
    scale = min(1.0, MAX_HEIGHT / height)
    clock = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    seconds = int(clock.group(1)) * 3600 + int(clock.group(2)) * 60 + float(clock.group(3)) if clock else 0.0
    return VideoInfo(round(width * scale), round(height * scale), seconds, "Audio:" in text)


def read_frames(path: Path, info: VideoInfo) -> Iterator[np.ndarray]:
    """Frames uint8 [H,W,3] RGB at 25 a second (the frame shown at each instant; nothing is blended)."""
    filters = f"fps={FPS},scale={info.width}:{info.height}:flags=area+accurate_rnd+full_chroma_int,setsar=1"
    command = [_ffmpeg(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0", "-vf", filters]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    count = info.width * info.height * 3
    try:
        while len(buffer := process.stdout.read(count)) == count:
            yield np.frombuffer(buffer, np.uint8).reshape(info.height, info.width, 3)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def read_sound(path: Path) -> np.ndarray:
    """Sound float32 [samples] mono at 16 kHz, aligned with the first video frame."""
    command = [_ffmpeg(), "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0"]
    command += ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "f32le", "-"]
    result = subprocess.run(command, capture_output=True)
    samples = np.frombuffer(result.stdout[: len(result.stdout) // 4 * 4], np.float32)
    if samples.size == 0:
        raise UserError(f"{path.name} has no sound that can be read; a talking head needs the speech of the video.")
    return samples


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Picture [H,W,3] reduced to float32 [18,32,3] in 0..1, for cut detection."""
    import cv2

    return cv2.resize(frame, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def find_cuts(thumbnails: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> list[int]:
    """Frames that start a new shot.

    A cut stands out from its neighbourhood (six times the median change within half a second) in the whole picture,
    or in the position of the face (jump cuts before an unchanged background).

    thumbnails [T,18,32,3] in 0..1; centres [T,2] and sizes [T] of the face in pixels, NaN where there is none.
    """
    if len(thumbnails) < 2:
        return []
    change = np.abs(np.diff(thumbnails, axis=0)).mean(axis=(1, 2, 3))  # [T-1]
    jump = np.linalg.norm(np.diff(centres, axis=0), axis=1) / sizes[1:]
    resized = np.abs(np.diff(np.log(sizes)))
    jump = np.nan_to_num(np.maximum(jump, resized))
    cuts = []
    for t in range(len(change)):
        near = np.r_[max(0, t - 12) : t, t + 1 : min(len(change), t + 13)]
        usual_change, usual_jump = (np.median(x[near]) if len(near) else 0.0 for x in (change, jump))
        if (change[t] > 0.06 and change[t] > 6 * usual_change) or (jump[t] > 0.15 and jump[t] > 6 * usual_jump):
            cuts.append(t + 1)
    return cuts
