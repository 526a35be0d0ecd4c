"""One white balance for all clips of a data set: camera settings differ between recordings, skin does not.

The skin colour of a clip is measured on the cheeks and the forehead. Its pictures are multiplied, channel by channel,
to bring it to the data set's skin colour: the median of its clips, or that of the data set which held-out clips follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from dgtalker.video.clips import UntrackedClip
from dgtalker.video.people import SKIN_PATCHES
from dgtalker.video.source import read_frames
from dgtalker.video.worker_pool import WorkerPool

SAMPLED_FRAMES = 3  # measured, spread over a clip's first second
GAIN_LIMITS = (0.5, 2.0)  # of a gain; beyond them the clip is lit by something else


def clip_skin_colors(clips: Sequence[UntrackedClip], pool: WorkerPool) -> np.ndarray:
    """[clips, 3] mean colour of each clip's bare skin in 0..1; NaN where it could not be measured."""
    colors = np.full((len(clips), 3), np.nan)
    for index, color in pool.run(clip_skin_color, [(clip,) for clip in clips]):
        if isinstance(color, np.ndarray):
            colors[index] = color
    return colors


def clip_skin_color(clip: UntrackedClip) -> np.ndarray:
    """[3] mean colour of the bare skin in a clip's first second (in a worker)."""
    wanted = np.linspace(0, min(len(clip), 25) - 1, SAMPLED_FRAMES).round().astype(int)
    frames = islice(read_frames(clip.video.path, clip.video.info), clip.start, clip.start + int(wanted[-1]) + 1)
    colors = [skin_patch_color(frame, clip.landmarks[t]) for t, frame in enumerate(frames) if t in wanted]
    return np.mean(colors, axis=0)


def skin_patch_color(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[3] median colour in 0..1 of the PATCHES of a frame [H, W, 3] uint8 with landmarks [478, 2] in its pixels."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", frame.shape[1::-1])
    for patch in SKIN_PATCHES:
        ImageDraw.Draw(mask).polygon([tuple(map(float, landmarks[i])) for i in patch], fill=1)
    return np.median(frame[np.asarray(mask, bool)], axis=0) / 255


def white_balance_gains(colors: np.ndarray, wanted: Sequence[float]) -> np.ndarray:
    """[clips, 3] factors that give skin of `colors` [clips, 3] the colour `wanted` [3] ([]: any); 1 where unknown."""
    if not len(wanted):
        return np.ones_like(colors)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(wanted) / colors
    return np.where(np.isfinite(ratio), ratio.clip(*GAIN_LIMITS), 1.0)
