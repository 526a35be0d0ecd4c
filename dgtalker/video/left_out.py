"""What preprocessing left out of a data set, and what is left: report.json and a few lines for the console."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dgtalker.errors import UserError
from dgtalker.files import json_safe
from dgtalker.media.clock import FPS

REPORT = "report.json"
KINDS = {
    "none": "no face",
    "small": "face too small",
    "two": "two faces",
    "edge": "face cut by the edge of the picture",
    "profile": "face seen from the side only",
    "dark": "face too dark",
    "sunglasses": "eyes behind dark glasses",
    "covered": "mouth covered",
    "black": "black picture",
    "fade": "fade from or to an even colour",
    "dissolve": "dissolve between two pictures",
    "frozen": "picture stands still while somebody speaks",
    "person": "another person",
    "short": "too short between others",
    "silent": "silent sound track",
}


@dataclass(frozen=True)
class LeftOut:
    """Frames of a source video that are no part of the data set."""

    video: str  # file name
    kind: str  # key of KINDS
    start: float  # seconds
    seconds: float


@dataclass(frozen=True)
class Report:
    """What preprocessing kept and left out."""

    kept_seconds: float
    left_out: tuple[LeftOut, ...]
    sound_delay: dict[str, float]  # of videos whose sound does not fit the lips: seconds to move it back by
    people: int = 1  # seen in all videos; the one seen longest is kept

    @property
    def lines(self) -> list[str]:
        """For people: what is left, and one line for each kind of fault in each video."""
        lines = [f"{self.kept_seconds:.1f} s are used."]
        sums: dict[tuple[str, str], list[LeftOut]] = {}
        for part in self.left_out:
            sums.setdefault((part.video, part.kind), []).append(part)
        for (video, kind), parts in sums.items():
            where = ", ".join(f"{part.start:.1f} s" for part in parts[:3]) + (", ..." if len(parts) > 3 else "")
            lines.append(f"Left out of {video}: {sum(p.seconds for p in parts):.1f} s, {KINDS[kind]} (at {where}).")
        for video, delay in self.sound_delay.items():
            lines.append(f"The sound of {video} does not fit the lips; --sound-delay {delay:g} would move it.")
        return lines

    def save(self, folder: Path) -> None:
        """Write report.json into a data set folder."""
        (folder / REPORT).write_text(json.dumps(json_safe(asdict(self)), indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> Report:
        """Read report.json. Raises UserError if it is not there or damaged."""
        try:
            values = json.loads((folder / REPORT).read_text())
            values["left_out"] = tuple(LeftOut(**part) for part in values["left_out"])
            return Report(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / REPORT} cannot be read; run preprocess again.") from error


def count_left_out(video: str, reasons: Sequence[str]) -> list[LeftOut]:
    """The runs of equal reasons (keys of KINDS, "" for kept frames) as parts of a video."""
    parts, start = [], 0
    for t in range(1, len(reasons) + 1):
        if t == len(reasons) or reasons[t] != reasons[start]:
            if reasons[start]:
                parts.append(LeftOut(video, reasons[start], round(start / FPS, 2), round((t - start) / FPS, 2)))
            start = t
    return parts
