"""The renderer as one ES module: the files of assets/, joined in the order in which they import each other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ASSETS = Path(__file__).with_name("assets")
RENDERER = ("splat_engine.js", "head.js", "viewport.js")
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)


@cache
def renderer_script() -> str:
    """An ES module that exports Head and Viewport; it fetches nothing, so that it works inline and from a blob."""
    return join_modules(*RENDERER)


def join_modules(*names: str) -> str:
    """Files of assets/ as one module. Each may import only from those before it; names must not clash."""
    return "\n".join(_IMPORT.sub("", (ASSETS / name).read_text(encoding="utf-8")) for name in names)
