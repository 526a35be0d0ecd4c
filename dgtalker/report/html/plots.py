"""Figures of the page: plots as inline SVG, strips of frames as data URLs. Colours come from the style sheet."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import numpy as np

from dgtalker.report.contact_sheets.grid import stack_rows
from dgtalker.report.figures import Curves, Strip
from dgtalker.report.html.text import escape, format_number

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40
COLORS = 4  # of series in the style sheet
MAX_DOTS = 24  # more points than that have no dots, which would hide the line
BAR, GAP, NAMES = 13, 5, 74
CELL = 192  # pixels of one frame; twice what is usually shown, for sharp screens
QUALITY = 84


def line_plot(curves: Curves) -> str:
    """<figure> with one line a name, interrupted where values are NaN; empty without values."""
    values = np.concatenate([np.asarray(line, float) for line in curves.lines.values()])
    values = values[np.isfinite(values)]
    if len(values) == 0 or len(curves.x) == 0:
        return ""
    xs, ys = (
        round_ticks(float(min(curves.x)), float(max(curves.x)), 7),
        round_ticks(float(values.min()), float(values.max()), 5),
    )
    x_low, x_high = float(min(curves.x)), float(max(curves.x))
    y_low, y_high = min(ys[0], float(values.min())), max(ys[-1], float(values.max()))
    across = lambda x: LEFT + (WIDTH - LEFT - RIGHT) * (x - x_low) / max(x_high - x_low, 1e-9)  # noqa: E731
    up = lambda y: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y_low) / max(y_high - y_low, 1e-9)  # noqa: E731
    parts = []
    for y in ys:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{up(y) + 4:.1f}" text-anchor="end">{tick_label(y)}</text>')
    for x in xs:
        if x_low <= x <= x_high:
            parts.append(
                f'<text x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{tick_label(x)}</text>'
            )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(curves.x_label)}</text>')
    for number, (name, line) in enumerate(curves.lines.items()):
        parts.append(f'<g class="series s{number % COLORS}"><title>{escape(name)}</title>')
        for run in split_at_nan(curves.x, line):
            points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in run)
            parts.append(f'<polyline points="{points}"/>')
            dots = run if len(curves.x) <= MAX_DOTS or len(run) == 1 else []
            for x, y in dots:
                parts.append(
                    f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3"><title>{escape(name)}: '
                    f"{format_number(float(y))} at {tick_label(float(x))}</title></circle>"
                )
        parts.append("</g>")
    legend = "".join(f'<span class="s{i % COLORS}">{escape(name)}</span>' for i, name in enumerate(curves.lines))
    legend = f'<div class="legend">{legend}</div>' if len(curves.lines) > 1 else ""
    return (
        f'<figure class="plot"><figcaption>{escape(curves.title)} <small>{escape(curves.y_label)}</small></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curves.title)}">{"".join(parts)}</svg>'
        f"{legend}</figure>"
    )


def bar_plot(title: str, bars: dict[str, float], mark: float | None = None) -> str:
    """<figure> with a horizontal bar a name and a line at `mark`; empty without finite values."""
    finite = [v for v in bars.values() if math.isfinite(v)]
    if not finite:
        return ""
    top = max(*finite, mark or 0.0, 1e-9) * 1.02
    height = TOP + len(bars) * (BAR + GAP)
    length = lambda v: (WIDTH - NAMES - RIGHT - 50) * v / top  # noqa: E731
    parts = []
    for row, (name, value) in enumerate(bars.items()):
        y = TOP + row * (BAR + GAP)
        parts.append(f'<text x="{NAMES - 8}" y="{y + BAR - 3}" text-anchor="end">{escape(name)}</text>')
        width = length(value) if math.isfinite(value) else 0.0
        over = " over" if mark is not None and math.isfinite(value) and value > mark else ""
        parts.append(f'<rect class="bar{over}" x="{NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<text x="{NAMES + width + 6:.1f}" y="{y + BAR - 3}">{format_number(float(value))}</text>')
    if mark is not None:
        x = NAMES + length(mark)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height}"/>')
    svg = f'<svg viewBox="0 0 {WIDTH} {height + 4}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'<figure class="plot"><figcaption>{escape(title)}</figcaption>{svg}</figure>'


def split_at_nan(x: np.ndarray, y: np.ndarray) -> list[list[tuple[float, float]]]:
    """Split a line into runs of points without a NaN."""
    found: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(x, y, strict=True):
        if np.isfinite(b):
            found[-1].append((float(a), float(b)))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that enclose low..high."""
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 2.5, 5, 10, 20) if power * k >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def tick_label(value: float) -> str:
    """Text of a tick."""
    return f"{value:g}".replace("-", "\u2212")


def strip_figure(strip: Strip) -> str:
    """<figure> of a strip: a caption, column heads, and one labelled picture a row."""
    columns = max(len(frames) for frames in strip.rows.values())
    heads = "".join(f"<span>{escape(text)}</span>" for text in strip.columns)
    rows = [f'<div class="label"></div><div class="heads">{heads}</div>'] if heads else []
    for label, frames in strip.rows.items():
        picture = f'<img src="{data_url(frames)}" alt="{escape(f"{strip.title}: {label}")}">'
        rows.append(f'<div class="label">{escape(label)}</div>{picture}')
    bare = "" if any(strip.rows) else " bare"  # no row has a label
    return (
        f'<figure class="strip{bare}" style="--columns:{columns}"><figcaption>{escape(strip.title)}</figcaption>'
        f'<div class="rows">{"".join(rows)}</div></figure>'
    )


def data_url(frames: Sequence[np.ndarray]) -> str:
    """WebP data URL of uint8 pictures side by side, CELL pixels each."""
    from PIL import Image

    cells = [np.asarray(Image.fromarray(frame).resize((CELL, CELL), Image.Resampling.LANCZOS)) for frame in frames]
    buffer = io.BytesIO()
    Image.fromarray(stack_rows([cells])).save(buffer, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
