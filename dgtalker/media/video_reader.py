"""Frames of a video file, one at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.media.ffmpeg import VIDEO_BYTES_PER_SECOND, both_streams, decode, plausible_seconds
from dgtalker.media.probe import MediaInfo, probe


def read_video(path: str | Path, fps: float = FPS) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] RGB of a video at `fps`, not rotated. Raises UserError if it has no picture."""
    info = probe(path)
    if not info.width:
        raise UserError(f"{Path(path).name} has no picture.")
    yield from decode_frames(path, info.width, info.height, fps, before_input=["-noautorotate"], info=info)


def decode_frames(
    path: str | Path,
    width: int,
    height: int,
    fps: float = FPS,
    filters: str = "",
    before_input: Sequence[str] = (),
    info: MediaInfo | None = None,
) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3] RGB at `fps`: the frame nearest to each instant, the first at the file's time 0.

    The file's time 0 is the earliest time stamp of its picture and sound together; a picture that starts later is held.
    width, height: of the result. filters: ffmpeg's, each ended by a comma. info: of the file; None: probed.
    Raises UserError if there are more frames than the size of the file allows.
    """
    info = info or probe(path)
    size = width * height * 3
    most = plausible_seconds(path, VIDEO_BYTES_PER_SECOND) * fps
    # The filter `fps` shows a frame from half an output frame before its time on; half of its own length is right.
    shift = 0.5 / fps - 0.5 / info.fps if info.fps > 0 else 0.0
    nearest = f"setpts=PTS+{shift:.6f}/TB," if abs(shift) > 1e-4 else ""
    # fps comes last: a gap becomes references to one picture, not as many pictures.
    convert = f"{filters}{nearest}format=rgb24,fps=fps={fps}:start_time=0"
    output = ["-map", "0:v:0", "-vf", convert, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1"]
    if info.audio:
        output += both_streams("a")
    blocks = decode(path, output, size, size * fps, before_input=before_input, log_level="quiet")
    try:
        for number, data in enumerate(blocks):
            if number > most:
                raise UserError(f"{Path(path).name} claims to last for hours but is small: it is damaged.")
            if len(data) == size:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    finally:
        blocks.close()
