"""Reading source videos: probe, frames at 25 a second, sound at 16 kHz, and where the cuts are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.audio import clean_samples, decode_sound, find_uncancelled_channel, pick_channel
from dgtalker.media.clock import SAMPLE_RATE
from dgtalker.media.color import deinterlace_filter, rec709_filter, scale_filter
from dgtalker.media.ffmpeg import plausible_seconds, sound_filter
from dgtalker.media.probe import MediaInfo, find_field_order, probe
from dgtalker.media.video_reader import decode_frames

MAX_SIDE = 1080  # pixels: pictures whose shorter side is longer are scaled down while decoding
VIDEO_SUFFIXES = (".mp4", ".mpg", ".mpeg", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts", ".mts", ".m2ts")


@dataclass(frozen=True)
class VideoInfo:
    """What a source video holds, after scaling to square pixels and a shorter side of at most MAX_SIDE."""

    width: int
    height: int
    seconds: float
    has_sound: bool
    sound_delay: float = 0.0  # seconds by which the sound is moved back
    media: MediaInfo | None = None  # as stored; None: probed again when needed


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
    if not info.field_order:
        info = replace(info, field_order=find_field_order(path))
    width, height = round(info.width * info.pixel_aspect), info.height
    if info.rotation % 180 == 90:
        width, height = height, width
    scale = min(1.0, MAX_SIDE / min(width, height))
    return VideoInfo(round(width * scale), round(height * scale), info.seconds, bool(info.audio), media=info)


def read_frames(path: Path, info: VideoInfo) -> Iterator[np.ndarray]:
    """Frames uint8 [H,W,3] R'G'B' of Rec. 709 at 25 a second: the nearest to each instant, upright, nothing blended."""
    media = info.media or probe(path)
    filters = deinterlace_filter(media) + scale_filter(media, info.width, info.height) + rec709_filter(media)
    return decode_frames(path, info.width, info.height, filters=filters, info=media)


def read_sound(path: Path, delay: float = 0.0) -> np.ndarray:
    """Sound float32 [samples] mono at 16 kHz, on the clock of read_frames: sample 0 belongs to the first frame.

    delay: seconds by which it is moved back, for sound that comes too early; negative for one that comes too late.
    Raises UserError if it has none that can be read.
    """
    limit = plausible_seconds(path)

    def collect(channel: int | None = None) -> np.ndarray:
        total, blocks = 0, []
        filters = sound_filter("", limit + 1) + ("" if channel is None else f",{pick_channel(channel)}")
        for block in decode_sound(path, filters, with_picture=True):
            blocks.append(block)
            total += len(block)
            if total > limit * SAMPLE_RATE:
                raise UserError("its time stamps cannot be true")
        return np.concatenate(blocks)

    try:
        samples = collect()
        if (channel := find_uncancelled_channel(path, samples, limit)) is not None:
            samples = collect(channel)
    except UserError as error:
        needed = "a talking head needs the speech of the video"
        raise UserError(f"{path.name} has no sound that can be read; {needed}.") from error
    shift = round(delay * SAMPLE_RATE)
    samples = np.pad(samples, (shift, 0)) if shift >= 0 else samples[-shift:]
    return clean_samples(samples, SAMPLE_RATE, path.name)


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
