"""The example recordings that the page offers."""

from __future__ import annotations

from pathlib import Path

from dgtalker.assets import shipped_folder

EXAMPLES = shipped_folder("examples")
LABELS = {"ljspeech-printing.flac": "A woman reading", "jfk-ask-not.flac": "A man speaking"}


def example_files() -> list[Path]:
    """Those of the recordings that are installed."""
    return [EXAMPLES / name for name in LABELS if (EXAMPLES / name).is_file()]
