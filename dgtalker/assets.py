"""Material that is not shipped, kept in one folder: `models` (MediaPipe's) and `data/makehuman`."""

from __future__ import annotations

import os
from pathlib import Path


def find_asset(*parts: str) -> Path | None:
    """`parts` under $DGTALKER_SHARED or, without it, under `shared` beside the checkout; None if it is not there."""
    folder = Path(os.environ.get("DGTALKER_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = folder.joinpath(*parts)
    return path if path.exists() else None
