"""Frames of a video file, one at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.media.ffmpeg import VIDEO_BYTES_PER_SECOND, decode, plausible_seconds
from dgtalker.media.probe import probe


def read_video(path: str | Path, fps: float = FPS) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] RGB of a video at `fps`, not rotated. Raises UserError if it has no picture."""
    info = probe(path)
    if not info.width:
        raise UserError(f"{Path(path).name} has no picture.")
    yield from decode_frames(path, info.width, info.height, fps, before_input=["-noautorotate"])


def decode_frames(
    path: str | Path, width: int, height: int, fps: float = FPS, filters: str = "", before_input: Sequence[str] = ()
) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] RGB at `fps`: the frame shown at each instant.

    width, height: of the result. filters: ffmpeg's, each ended by a comma.
    Raises UserError if there are more frames than the size of the file allows.
    """
    size = width * height * 3
    most = plausible_seconds(path, VIDEO_BYTES_PER_SECOND) * fps
    # fps comes last: a gap becomes references to one picture, not as many pictures.
    output = ["-map", "0:v:0", "-vf", f"{filters}format=rgb24,fps={fps}", "-f", "rawvideo", "pipe:1"]
    blocks = decode(path, output, size, size * fps, before_input=before_input, log_level="quiet")
    try:
        for number, data in enumerate(blocks):
            if number > most:
                raise UserError(f"{Path(path).name} claims to last for hours but is small: it is damaged.")
            if len(data) == size:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    finally:
        blocks.close()
