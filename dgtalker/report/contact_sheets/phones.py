"""A picture of the lips at every phone, for looking: where it begins and in its middle, true lips above rendered ones,
and the apertures below with the phones' boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dgtalker import metrics
from dgtalker.audio.phones import CLOSED, ROUNDED, Phone
from dgtalker.media.audio import FPS
from dgtalker.metrics.articulation import mouth_of_landmarks
from dgtalker.report.figures import Strip

CELL, HEAD, PLOT = 72, 28, 90  # pixels: side of a mouth's picture, height of the labels, of the curves
LONGEST, SHORT = 24, 10  # phones, in a picture of its own and on a page
_TINTS = {"closed": (255, 214, 205), "rounded": (209, 224, 255), "other": (240, 240, 240)}
_REAL, _MADE = (40, 40, 40), (200, 60, 20)

Film = tuple[Sequence[np.ndarray], np.ndarray]  # pictures uint8 [T] of [H,W,3], landmarks [T,478,2]


def draw_strip(path: Path, phones: Sequence[Phone], made: Film, real: Film | None = None) -> Path:
    """Write the strip (PNG): two columns a phone. Closed phones are tinted red, rounded ones blue; rendered lips are
    the lower row, or the only one, and the red curve. Of a long recording the first LONGEST phones are shown."""
    phones = phones[:LONGEST]
    films = [film for film in (real, made) if film is not None]
    top = HEAD + CELL * len(films)
    sheet = Image.new("RGB", (2 * CELL * len(phones), top + PLOT), "white")
    draw = ImageDraw.Draw(sheet)
    times = [time for phone in phones for time in (phone.start, phone.middle)]
    for i, phone in enumerate(phones):
        kind = "closed" if phone.label in CLOSED else "rounded" if phone.label in ROUNDED else "other"
        left = 2 * CELL * i
        draw.rectangle((left, 0, left + 2 * CELL - 2, HEAD - 2), fill=_TINTS[kind])
        draw.rectangle((left, top, left + 2 * CELL - 2, top + PLOT), fill=_TINTS[kind])
        draw.text((left + 3, 1), f"{phone.label}   {phone.word}", fill="black")
        draw.text((left + 3, 14), f"{phone.start:.2f} - {phone.end:.2f} s", fill=(90, 90, 90))
    for row, (pictures, points) in enumerate(films):
        for column, time in enumerate(times):
            cell = _mouth(pictures, points, min(int(time * FPS), len(pictures) - 1))
            sheet.paste(cell, (CELL * column, HEAD + CELL * row))
    # Time runs unevenly along the strip: every phone takes the same room.
    marks = [*(phone.start for phone in phones), phones[-1].end]
    x = np.interp((np.arange(len(made[0])) + 0.5) / FPS, marks, 2 * CELL * np.arange(len(marks)), left=-1, right=-1)
    for film, colour in zip(films, [_REAL, _MADE][-len(films) :], strict=True):
        opening = mouth_of_landmarks(film[1]).aperture[: len(x)]
        y = top + PLOT - 4 - (PLOT - 8) * opening / max(float(np.nanmax(opening)), 1e-6)
        shown = [(a, b) for a, b in zip(x, y, strict=False) if a >= 0 and np.isfinite(b)]
        if len(shown) > 1:
            draw.line(shown, fill=colour, width=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def exhibit(title: str, phones: Sequence[Phone], made: Film, real: Film | None = None) -> Strip:
    """The same for a page: SHORT phones around the first closed one, each where it begins and in its middle."""
    closes = next((i for i, phone in enumerate(phones) if phone.label in CLOSED), 0)
    first = max(0, min(closes - SHORT // 2, len(phones) - SHORT))
    times = [time for phone in phones[first : first + SHORT] for time in (phone.start, phone.middle)]
    rows = {}
    for label, film in {"real": real, "rendered": made}.items():
        if film is not None:
            rows[label] = [np.asarray(_mouth(*film, min(int(time * FPS), len(film[0]) - 1))) for time in times]
    heads = [head for phone in phones[first : first + SHORT] for head in (phone.label, "·")]
    return Strip(title, rows, tuple(heads))


def _mouth(pictures: Sequence[np.ndarray], points: np.ndarray, t: int) -> Image.Image:
    """The mouth in frame t, cut at one place and scale for the whole film."""
    seen = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(seen):
        return Image.new("RGB", (CELL, CELL), (200, 200, 200))
    now = points[t] if np.isfinite(points[t]).all() else np.median(seen, axis=0)
    centre = now[list(metrics.LIPS)].mean(axis=0)
    half = 0.9 * np.median(np.linalg.norm(seen[:, 61] - seen[:, 291], axis=-1))
    box = np.round([*(centre - half), *(centre + half)]).astype(int).tolist()
    return Image.fromarray(pictures[t]).crop(box).resize((CELL, CELL), Image.Resampling.BICUBIC)
