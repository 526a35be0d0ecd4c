"""Figures of a report: strips of frames and curves. They are kept out of the JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Strip:
    """Rows of pictures, one below the other, that share their columns."""

    title: str
    rows: dict[str, list[np.ndarray]]  # what the row shows -> uint8 pictures of one size
    columns: tuple[str, ...] = ()  # what stands above the columns


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis; NaN where nothing was measured."""

    title: str
    x_label: str
    y_label: str
    x: np.ndarray  # [N]
    lines: dict[str, np.ndarray]  # name -> [N]


@dataclass
class ReportFigures:
    """Strips and curves by the block of the report that they belong to; filled while measuring."""

    strips: dict[str, list[Strip]] = field(default_factory=dict)
    curves: dict[str, list[Curves]] = field(default_factory=dict)

    def add(self, block: str, *figures: Strip | Curves) -> None:
        """Add strips and curves to a block."""
        for figure in figures:
            if isinstance(figure, Strip):
                self.strips.setdefault(block, []).append(figure)
            else:
                self.curves.setdefault(block, []).append(figure)


def evenly_spaced(count: int, columns: int) -> np.ndarray:
    """Indices of at most `columns` of `count` frames, evenly spaced from first to last: int64 [<= columns]."""
    return np.linspace(0, count - 1, min(columns, count)).round().astype(int)
