"""The crop around a head, and MediaPipe's person segmentation in it."""

from __future__ import annotations

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
