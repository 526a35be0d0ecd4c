"""Textures: loading, and sampling at UV coordinates."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def load_image(path: Path, size: int | None = None) -> np.ndarray:
    """Image as float32 RGBA [H, W, 4] in 0..1, averaged down (or enlarged) to size x size."""
    from PIL import Image

    image = Image.open(path).convert("RGBA")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BOX if image.size[0] > size else Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32) / 255


def sample_image(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear samples [N, C] of an image [H, W, C] at uv [N, 2] (v up, wrapped)."""
    height, width = image.shape[:2]
    x = (uv[:, 0] % 1.0) * width - 0.5
    y = (1 - uv[:, 1] % 1.0) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
    xa, xb, ya, yb = x0 % width, (x0 + 1) % width, y0 % height, (y0 + 1) % height
    top = image[ya, xa] * (1 - fx) + image[ya, xb] * fx
    return top * (1 - fy) + (image[yb, xa] * (1 - fx) + image[yb, xb] * fx) * fy
