"""The lips at every phone: where it begins and in its middle, true lips above rendered ones, apertures below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dgtalker import metrics
from dgtalker.audio.phone_alignment import LIP_CLOSING_PHONES, LIP_ROUNDING_PHONES, Phone
from dgtalker.media.clock import FPS
from dgtalker.metrics.articulation import mouth_from_landmarks
from dgtalker.report.contact_sheets.grid import stack_rows
from dgtalker.report.figures import Strip

CELL, HEAD, PLOT = 72, 28, 90  # pixels: side of a picture of the mouth, height of the labels, of the curves
SHEET_PHONES, STRIP_PHONES = 24, 10  # at most so many phones
_TINTS = {"closed": (255, 214, 205), "rounded": (209, 224, 255), "other": (240, 240, 240)}
_REAL, _MADE = (40, 40, 40), (200, 60, 20)

Film = tuple[Sequence[np.ndarray], np.ndarray]  # pictures uint8 [T] of [H,W,3], landmarks [T,478,2]


def write_phone_sheet(path: Path, phones: Sequence[Phone], made: Film, real: Film | None = None) -> Path:
    """Write the first SHEET_PHONES phones as a PNG, two columns a phone; returns its path.

    Closed phones are tinted red, rounded ones blue. Rendered lips are the lower or only row, and the red curve.
    """
    phones = phones[:SHEET_PHONES]
    films = [film for film in (real, made) if film is not None]
    top = HEAD + CELL * len(films)
    sheet = Image.new("RGB", (2 * CELL * len(phones), top + PLOT), "white")
    draw = ImageDraw.Draw(sheet)
    times = [time for phone in phones for time in (phone.start, phone.middle)]
    for i, phone in enumerate(phones):
        closing, rounding = phone.label in LIP_CLOSING_PHONES, phone.label in LIP_ROUNDING_PHONES
        kind = "closed" if closing else "rounded" if rounding else "other"
        left = 2 * CELL * i
        draw.rectangle((left, 0, left + 2 * CELL - 2, HEAD - 2), fill=_TINTS[kind])
        draw.rectangle((left, top, left + 2 * CELL - 2, top + PLOT), fill=_TINTS[kind])
        draw.text((left + 3, 1), f"{phone.label}   {phone.word}", fill="black")
        draw.text((left + 3, 14), f"{phone.start:.2f} - {phone.end:.2f} s", fill=(90, 90, 90))
    sheet.paste(Image.fromarray(stack_rows([_mouths(film, times) for film in films])), (0, HEAD))
    # Every phone takes the same width, however long it is.
    marks = [*(phone.start for phone in phones), phones[-1].end]
    x = np.interp((np.arange(len(made[0])) + 0.5) / FPS, marks, 2 * CELL * np.arange(len(marks)), left=-1, right=-1)
    for film, colour in zip(films, [_REAL, _MADE][-len(films) :], strict=True):
        opening = mouth_from_landmarks(film[1]).aperture[: len(x)]
        y = top + PLOT - 4 - (PLOT - 8) * opening / max(float(np.nanmax(opening)), 1e-6)
        shown = [(a, b) for a, b in zip(x, y, strict=False) if a >= 0 and np.isfinite(b)]
        if len(shown) > 1:
            draw.line(shown, fill=colour, width=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def phone_strip(title: str, phones: Sequence[Phone], made: Film, real: Film | None = None) -> Strip:
    """A strip for the page: STRIP_PHONES phones around the first closed one, each where it begins and in its middle."""
    closes = next((i for i, phone in enumerate(phones) if phone.label in LIP_CLOSING_PHONES), 0)
    first = max(0, min(closes - STRIP_PHONES // 2, len(phones) - STRIP_PHONES))
    phones = phones[first : first + STRIP_PHONES]
    times = [time for phone in phones for time in (phone.start, phone.middle)]
    films = {"real": real, "rendered": made}
    rows = {label: _mouths(film, times) for label, film in films.items() if film is not None}
    heads = [head for phone in phones for head in (phone.label, "·")]
    return Strip(title, rows, tuple(heads))


def _mouths(film: Film, times: Sequence[float]) -> list[np.ndarray]:
    """The mouth at the given times, cut out at one scale for the whole film."""
    pictures, points = film
    seen = points[metrics.has_face(points)]
    if not len(seen):
        return [np.full((CELL, CELL, 3), 200, np.uint8)] * len(times)
    half = 0.9 * np.median(np.linalg.norm(seen[:, 61] - seen[:, 291], axis=-1))
    found = []
    for t in (min(int(time * FPS), len(pictures) - 1) for time in times):
        now = points[t] if np.isfinite(points[t]).all() else np.median(seen, axis=0)
        centre = now[list(metrics.LIPS)].mean(axis=0)
        box = np.round([*(centre - half), *(centre + half)]).astype(int).tolist()
        cell = Image.fromarray(pictures[t]).crop(box).resize((CELL, CELL), Image.Resampling.BICUBIC)
        found.append(np.asarray(cell))
    return found
