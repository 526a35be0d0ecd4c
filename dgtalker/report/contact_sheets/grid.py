"""A grid of equally sized pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def stack_rows(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Join rows of pictures [H,W,3], uint8 or float in 0..1, to one uint8 picture; short rows are filled with white."""
    width = max(len(row) for row in rows)
    pictures = [[_to_uint8(picture) for picture in row] for row in rows]
    blank = np.full_like(pictures[0][0], 255)
    return np.concatenate([np.concatenate([*row, *[blank] * (width - len(row))], 1) for row in pictures])


def save_rows(path: str | Path, rows: Sequence[Sequence[np.ndarray]], quality: int = 90) -> None:
    """Write `stack_rows` as one picture; the folder is made."""
    from PIL import Image

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stack_rows(rows)).save(path, quality=quality)


def _to_uint8(picture: np.ndarray) -> np.ndarray:
    return picture if picture.dtype == np.uint8 else (picture.clip(0, 1) * 255).round().astype(np.uint8)
