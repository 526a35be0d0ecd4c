"""DGTalker: audio-driven 3D Gaussian talking heads from monocular video.

    import dgtalker as dg

    head = dg.load("actor2")
    head.render("speech.wav", "talking.mp4")

The names below are the public ones; `dgtalker.api` explains them. They are imported when they are first used: `import
dgtalker` loads neither torch nor numpy.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgtalker.api import (
        Camera,
        Head,
        Performance,
        Session,
        UserError,
        create,
        evaluate,
        heads,
        load,
        preprocess,
    )  # fmt: skip

__version__ = "0.1.0"
__all__ = [
    "Camera", "Head", "Performance", "Session", "UserError",
    "create", "evaluate", "heads", "load", "preprocess",
]  # fmt: skip

# Read when torch loads. Threads that spin while they wait make a busy machine, or a shared Space, ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dgtalker' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("dgtalker.api"), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
