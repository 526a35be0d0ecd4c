"""Where files that are not code lie: those that ship with DGTalker, and optional ones that users fetch themselves."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """`checkpoints` or `examples`: inside the package where it is installed, beside it in a checkout."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def find_asset(*parts: str) -> Path | None:
    """`parts` under $DGTALKER_SHARED or, in a checkout without it, under `shared` beside the checkout; None if absent.

    The folder holds `models` (MediaPipe's) and `data/makehuman`.
    """
    folder = os.environ.get("DGTALKER_SHARED")
    if not folder:
        if (PACKAGE / "checkpoints").is_dir():  # installed: there is no checkout
            return None
        folder = PACKAGE.parents[1] / "shared"
    path = Path(folder).joinpath(*parts)
    return path if path.exists() else None
