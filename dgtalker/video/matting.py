"""Matting: MediaPipe's person segmentation refined at crop resolution, and the foreground's own colour.

The segmenter decides what is certainly person and certainly background. In the band between, alpha and foreground
colour come from the compositing equation  I = alpha F + (1 - alpha) B  with F and B estimated from the certain pixels
nearby; where F and B look alike, a guided filter of the segmenter's own matte decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.video.landmarks import SEGMENTER, find_model, import_mediapipe


@dataclass(frozen=True)
class CropWindow:
    """A square part of the source picture that becomes a crop of `size` pixels."""

    left: float  # source pixels
    top: float
    side: float
    size: int

    @property
    def scale(self) -> float:
        """Crop pixels per source pixel."""
        return self.size / self.side

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Source pixel coordinates [...,2] to crop pixels."""
        return (xy - np.array([self.left, self.top], xy.dtype)) * xy.dtype.type(self.scale)

    def enlarged(self, factor: float, size: int) -> CropWindow:
        """The window with the same centre, `factor` times as large, at another resolution."""
        grow = 0.5 * (factor - 1) * self.side
        return CropWindow(self.left - grow, self.top - grow, factor * self.side, size)

    def crop(self, picture: np.ndarray) -> np.ndarray:
        """Resample source picture uint8 [H,W,3] to the window, float32 [size,size,3] in 0..1; edges are repeated."""
        import cv2

        step = self.side / self.size  # source pixels per crop pixel
        if step > 1:  # low-pass before thinning out
            picture = cv2.GaussianBlur(picture, (0, 0), 0.45 * np.sqrt(step**2 - 1) + 1e-3)
        matrix = np.array([[step, 0, self.left + 0.5 * step - 0.5], [0, step, self.top + 0.5 * step - 0.5]], np.float64)
        flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
        size = (self.size, self.size)
        crop = cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return crop.astype(np.float32) / 255

    def inside(self, height: int, width: int) -> np.ndarray:
        """Which crop pixels lie in the source picture, bool [size,size]."""
        centres = (np.arange(self.size) + 0.5) / self.scale
        x, y = self.left + centres, self.top + centres
        return ((y >= 0) & (y <= height))[:, None] & ((x >= 0) & (x <= width))[None]


class Segmenter:
    """MediaPipe's selfie segmenter: picture -> probability of a person. Use it as a context manager."""

    def __init__(self, model: str | Path | None = None):
        mp = import_mediapipe()
        from mediapipe.tasks.python import BaseOptions, vision

        path = find_model(SEGMENTER, model)
        try:
            options = vision.ImageSegmenterOptions(
                base_options=BaseOptions(model_asset_path=str(path)), output_confidence_masks=True
            )
            self._task = vision.ImageSegmenter.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not a usable selfie segmenter model; download it again.") from error
        self._mp = mp

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_) -> None:
        self._task.close()

    def probability(self, picture: np.ndarray) -> np.ndarray:
        """Probability of a person [H,W] float32 for an RGB picture float32 [H,W,3] in 0..1."""
        data = np.ascontiguousarray((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8))
        result = self._task.segment(self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=data))
        # Copied at once: the view dies with the result.
        return np.array(result.confidence_masks[-1].numpy_view(), np.float32).reshape(data.shape[:2])


CONTEXT = 1.35  # the segmenter looks at a larger window: it recognises people by their shoulders


def coarse_matte(segmenter: Segmenter, picture: np.ndarray, window: CropWindow) -> np.ndarray:
    """Segmenter's probability of a person in the window, float32 [size,size]; source picture uint8 [H,W,3]."""
    import cv2

    context = window.enlarged(CONTEXT, 256)
    probability = segmenter.probability(context.crop(picture))
    step = context.size / (CONTEXT * window.size)
    start = 0.5 * (1 - 1 / CONTEXT) * context.size + 0.5 * step - 0.5
    matrix = np.array([[step, 0, start], [0, step, start]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (window.size, window.size)
    matte = cv2.warpAffine(probability, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return matte * window.inside(*picture.shape[:2])


def refine_matte(picture: np.ndarray, rough: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha [S,S] and foreground colour [S,S,3] from a crop [S,S,3] and its rough matte [S,S], all float32 in 0..1."""
    import cv2

    unit = picture.shape[0] / 256  # distances below are in pixels of a 256 crop
    guided = _guided_filter(picture, rough, max(2, round(4 * unit)), 1e-3)
    band = max(1, round(5 * unit))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    person = cv2.erode((rough > 0.9).astype(np.uint8), kernel).astype(np.float32)
    background = cv2.erode((rough < 0.1).astype(np.uint8), kernel).astype(np.float32)
    front = _extrapolate_colors(picture, person, 4 * unit)
    back = _extrapolate_colors(picture, background, 6 * unit)
    axis = front - back
    contrast = (axis**2).sum(-1)
    colour = ((picture - back) * axis).sum(-1) / (contrast + 1e-6)
    # A little gain absorbs shading of either side: pixels nearly like the background are background.
    colour = np.clip((colour - 0.08) / 0.80, 0, 1)
    trust = contrast / (contrast + 0.12**2)
    alpha = trust * colour + (1 - trust) * guided
    known = np.maximum(person, background)
    known = cv2.GaussianBlur(known, (0, 0), unit) * known
    alpha = (known * rough.round() + (1 - known) * alpha).clip(0, 1)
    pure = (picture - (1 - alpha[..., None]) * back) / np.maximum(alpha[..., None], 0.15)
    edge = ((1 - alpha) ** 0.5)[..., None]
    return alpha, (edge * front + (1 - edge) * pure.clip(0, 1)).clip(0, 1)


def matte_frames(
    segmenter: Segmenter, pictures: Iterable[np.ndarray], window: CropWindow
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Alpha [S,S] and foreground colour [S,S,3] of the window in consecutive source pictures uint8 [H,W,3].

    Alpha is averaged over the frame before, this and the next where the picture did not change.
    """

    def matted() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for picture in pictures:
            crop = window.crop(picture).clip(0, 1)
            yield crop, *refine_matte(crop, coarse_matte(segmenter, picture, window))

    frames = matted()
    before, now = None, next(frames, None)
    while now is not None:
        after = next(frames, None)
        total, weight = now[1], 1.0
        for other in (before, after):
            if other is not None:
                same = np.exp(-0.5 * np.square(now[0] - other[0]).sum(-1) / 0.05**2)
                total, weight = total + same * other[1], weight + same
        yield total / weight, now[2]
        before, now = now, after


def _extrapolate_colors(picture: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """Colours of the masked pixels extrapolated over the picture: by blurs, wider ones where there are none nearby."""
    import cv2

    size = mask.shape[0]
    layers = np.dstack([picture * mask[..., None], mask])
    result, missing = 0.0, np.ones((size, size, 1), np.float32)
    for factor in (1, 3, 12):
        small = max(8, size // (2 * factor))  # wide blurs need few pixels
        blurred = cv2.resize(layers, (small, small), interpolation=cv2.INTER_AREA)
        blurred = cv2.GaussianBlur(blurred, (0, 0), sigma * factor * small / size)
        blurred = cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR)
        weight = blurred[..., 3:]
        share = missing * np.clip(weight / 0.02, 0, 1) if factor < 12 else missing
        result = result + share * blurred[..., :3] / (weight + 1e-6)
        missing = missing - share
    return result.astype(np.float32)


def _guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Edge-aware smoothing of values [S,S] that follows the edges of guide [S,S,3] (He et al., 2010, grey guide)."""
    import cv2

    grey = guide.mean(-1)

    def box(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1))

    mean, target = box(grey), box(values)
    slope = (box(grey * values) - mean * target) / (box(grey * grey) - mean * mean + epsilon)
    return (box(slope) * grey + box(target - slope * mean)).clip(0, 1)
