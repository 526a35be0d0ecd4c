"""Strips of frames as pictures inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np

from dgtalker.report.figures import Strip
from dgtalker.report.html.text import escape

CELL = 192  # pixels of one frame; twice what is usually shown, for sharp screens
QUALITY = 84


def strip_figure(strip: Strip) -> str:
    """<figure> of a strip: a caption, column heads, and one labelled picture a row."""
    columns = max(len(frames) for frames in strip.rows.values())
    heads = "".join(f"<span>{escape(text)}</span>" for text in strip.columns)
    rows = [f'<div class="label"></div><div class="heads">{heads}</div>'] if heads else []
    for label, frames in strip.rows.items():
        picture = f'<img src="{data_url(join(frames))}" alt="{escape(f"{strip.title}: {label}")}">'
        rows.append(f'<div class="label">{escape(label)}</div>{picture}')
    bare = "" if any(strip.rows) else " bare"  # no row has a label
    return (
        f'<figure class="strip{bare}" style="--columns:{columns}"><figcaption>{escape(strip.title)}</figcaption>'
        f'<div class="rows">{"".join(rows)}</div></figure>'
    )


def join(frames: list[np.ndarray]) -> np.ndarray:
    """uint8 pictures side by side at CELL pixels each: [CELL, CELL * N, 3]."""
    from PIL import Image

    cells = [np.asarray(Image.fromarray(frame).resize((CELL, CELL), Image.Resampling.LANCZOS)) for frame in frames]
    return np.concatenate(cells, axis=1)


def data_url(picture: np.ndarray) -> str:
    """A uint8 picture [H,W,3] as a WebP data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
