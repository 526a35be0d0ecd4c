"""Reading source videos: probe, frames at 25 a second, sound at 16 kHz, and where the cuts are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.audio import decode_sound
from dgtalker.media.clock import SAMPLE_RATE
from dgtalker.media.ffmpeg import plausible_seconds, sound_filter
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import decode_frames

MAX_HEIGHT = 1080  # larger pictures are scaled down while decoding; the head crop is 256 or 512 pixels anyway
VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".avi", ".webm", ".m4v")


@dataclass(frozen=True)
class VideoInfo:
    """What a source video holds, after scaling to square pixels and at most MAX_HEIGHT rows."""

    width: int
    height: int
    seconds: float
    has_sound: bool


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


def probe_video(path: Path) -> VideoInfo:
    """Size, length and streams of a video. Raises UserError if it cannot be read."""
    info = probe(path)
    if not info.width:
        raise UserError(f"{path.name} cannot be read as a video; give an mp4, mpg or similar file.")
    width, height = round(info.width * info.pixel_aspect), info.height
    if info.rotation % 180 == 90:
        width, height = height, width
    scale = min(1.0, MAX_HEIGHT / height)
    return VideoInfo(round(width * scale), round(height * scale), info.seconds, bool(info.audio))


def read_frames(path: Path, info: VideoInfo) -> Iterator[np.ndarray]:
    """Frames uint8 [H,W,3] RGB at 25 a second (the frame shown at each instant; nothing is blended)."""
    filters = f"scale={info.width}:{info.height}:flags=area+accurate_rnd+full_chroma_int,setsar=1,"
    return decode_frames(path, info.width, info.height, filters=filters)


def read_sound(path: Path) -> np.ndarray:
    """Sound float32 [samples] mono at 16 kHz, aligned with the first video frame."""
    limit, total, blocks = plausible_seconds(path), 0, []
    try:
        for block in decode_sound(path, sound_filter("", limit + 1)):
            blocks.append(block)
            total += len(block)
            if total > limit * SAMPLE_RATE:
                raise UserError("its time stamps cannot be true")
    except UserError as error:
        needed = "a talking head needs the speech of the video"
        raise UserError(f"{path.name} has no sound that can be read; {needed}.") from error
    return np.concatenate(blocks)


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
