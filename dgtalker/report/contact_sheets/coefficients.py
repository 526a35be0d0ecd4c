"""One row of small pictures per coefficient, at -3 .. 3 training standard deviations."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from dgtalker.camera import Camera, orbit_camera
from dgtalker.identity import Identity
from dgtalker.report.contact_sheets.grid import stack_rows

STEPS = (-3, -2, -1, 0, 1, 2, 3)  # training standard deviations
CELL, LEFT, TOP = 96, 176, 24  # pixels: a picture, the column of names, the row of steps
ZOOM, TARGET = 2.1, (0.0, -0.2, 0.0)  # brows to chin of any head, in world units
QUALITY = 55  # of 100: what moves shows, and a folder stays small


def draw_coefficient_sheet(identity: Identity, labels: Sequence[str], cell: int = CELL) -> bytes:
    """WebP file of all coefficients, expression first; `labels` [K] stand to the left of the rows."""
    from PIL import Image, ImageDraw, ImageFont

    camera = orbit_camera(size=2 * cell, zoom=ZOOM, target=TARGET).to(identity.device)
    count = identity.n_exp + identity.n_lip
    sheet = Image.new("RGB", (LEFT + cell * len(STEPS), TOP + cell * count), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, step in enumerate(STEPS):
        pen.text((LEFT + cell * (column + 0.5), TOP / 2), f"{step:+d}" if step else "0", "#555", font, anchor="mm")
    for row in range(count):
        for line, text in enumerate(_wrap_text(labels[row], LEFT - 16, font)):
            pen.text((8, TOP + cell * row + 16 + 18 * line), text, "#222", font, anchor="ls")
    pictures = []
    for direction in np.eye(count, dtype=np.float32):
        row = [Image.fromarray(render_coefficient_vector(identity, step * direction, camera)) for step in STEPS]
        pictures.append([np.asarray(picture.resize((cell, cell), Image.Resampling.BOX)) for picture in row])
    sheet.paste(Image.fromarray(stack_rows(pictures)), (LEFT, TOP))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def render_coefficient_vector(identity: Identity, a: np.ndarray, camera: Camera) -> np.ndarray:
    """Render a uint8 picture [H, W, 3] of coefficients a [K], expression first, through one camera."""
    from dgtalker.render import render_frame

    return render_frame(identity.gaussians(a[: identity.n_exp], a[identity.n_exp :]), camera)


def _wrap_text(text: str, width: int, font) -> list[str]:
    """Break text into lines no wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
