"""The report's picture: truth, inverted and tuned heads of people from best to worst, from unfitted views."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from dgtalker.report.contact_sheets.prior import save_rows


def choose(psnr: list[float], count: int = 5) -> list[int]:
    """Indices of the best, the worst and an even spread in between, best first."""
    order = np.argsort(psnr)[::-1]
    return [
        int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int))
    ]


def write_sheet(path: Path, sheets: list[Tensor]) -> None:
    """One row per person: the views of the truth, then inverted, then tuned. sheets: uint8 [3,n,S,S,3] each."""
    rows = [[image.numpy().astype(np.float32) / 255 for block in sheet for image in block] for sheet in sheets]
    gap = np.ones_like(rows[0][0])[:, :8]
    n = sheets[0].shape[1]
    save_rows(path, [[np.concatenate([*row[:n], gap, *row[n : 2 * n], gap, *row[2 * n :]], 1)] for row in rows])
