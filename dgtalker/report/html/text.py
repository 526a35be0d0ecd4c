"""Text of the page: escaped, and numbers as people read them."""

from __future__ import annotations

import html
import json
import math
from typing import Any

from dgtalker.files import json_safe


def escape(text: object) -> str:
    """Escape anything for HTML and SVG, attributes included."""
    return html.escape(str(text), quote=True)


def format_number(value: Any) -> str:
    """Format a number with about three digits; a dash for what was not measured."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        size = abs(value)
        if size < 0.0001 and size > 0:
            return f"{value:.1e}"
        return f"{value:.2f}" if size >= 10 else f"{value:.3f}" if size >= 0.001 or size == 0 else f"{value:.4f}"
    return "–" if value is None else escape(value)


def raw_json(value: Any) -> str:
    """The report as escaped, indented JSON; numbers that are not finite become null."""
    return escape(json.dumps(json_safe(value), indent=2, default=str))
