"""One white balance for all clips of a data set: cameras are set anew from day to day, a head has one colour.

A clip's colour is that of the cheeks and the forehead; its pictures are multiplied, channel by channel, until it is
that of the data set, the median of its clips. Held-out clips take the colour of the data set they follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from dgtalker.video.clips import ClipWork
from dgtalker.video.source import read_frames
from dgtalker.video.workers import Pool

# Landmarks around bare skin: the cheeks, and the forehead between the brows and the hair.
PATCHES = ((50, 101, 118, 117, 123), (280, 330, 347, 346, 352), (9, 108, 151, 337))
FRAMES = 3  # looked at, spread over a clip's first second
LIMITS = (0.5, 2.0)  # of a gain; beyond them the clip is lit by something else


def clip_colors(clips: Sequence[ClipWork], pool: Pool) -> np.ndarray:
    """[clips, 3] mean colour of each clip's bare skin in 0..1; NaN where it could not be measured."""
    colors = np.full((len(clips), 3), np.nan)
    for index, color in pool.run(skin_color, [(clip,) for clip in clips]):
        if isinstance(color, np.ndarray):
            colors[index] = color
    return colors


def skin_color(clip: ClipWork) -> np.ndarray:
    """[3] mean colour of the bare skin in a clip's first second (worker)."""
    wanted = np.linspace(0, min(len(clip), 25) - 1, FRAMES).round().astype(int)
    frames = islice(read_frames(clip.video.path, clip.video.info), clip.start, clip.start + int(wanted[-1]) + 1)
    colors = [patch_color(frame, clip.landmarks[t]) for t, frame in enumerate(frames) if t in wanted]
    return np.mean(colors, axis=0)


def patch_color(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """[3] median colour in 0..1 of the PATCHES of a frame [H, W, 3] uint8 with landmarks [478, 2] in its pixels."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", frame.shape[1::-1])
    for patch in PATCHES:
        ImageDraw.Draw(mask).polygon([tuple(map(float, landmarks[i])) for i in patch], fill=1)
    return np.median(frame[np.asarray(mask, bool)], axis=0) / 255


def gains(colors: np.ndarray, wanted: Sequence[float]) -> np.ndarray:
    """[clips, 3] factors that give skin of `colors` [clips, 3] the colour `wanted` [3] ([]: any); 1 where unknown."""
    if not len(wanted):
        return np.ones_like(colors)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.asarray(wanted) / colors
    return np.where(np.isfinite(ratio), ratio.clip(*LIMITS), 1.0)
