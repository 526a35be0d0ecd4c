"""Figures on their way into JSON."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """Plain values with every number that is not finite replaced by None, for JSON has no NaN; keys become text."""
    if isinstance(value, dict):
        return {str(key): finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
