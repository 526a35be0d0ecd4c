"""What several commands share: options, coefficient settings, outputs checked beforehand, progress, JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError
from dgtalker.files import json_safe

MAX_SIZE = 2048


def size(text: str) -> int:
    """argparse type: a picture size in pixels."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 16 <= value <= MAX_SIZE or value % 2:
        raise argparse.ArgumentTypeError(f"must be an even number from 16 to {MAX_SIZE}, not {text}")
    return value


def number(text: str) -> float:
    """argparse type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return value


def positive_minutes(value: float) -> float:
    """Raises UserError unless `value` is above zero."""
    if value <= 0:
        raise UserError(f"--max-minutes must be above zero, not {value:g}.")
    return value


def add_set_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set coefficients, in training standard deviations: lip3=1.5 exp1=-1; blink runs from 0 to 1",
    )


def check_output_file(path: str | Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Make sure that `path` can be written, before any work is done for it. Raises UserError if not."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"The output {path} must end in {' or '.join(suffixes)}.")
    if path.is_dir():
        raise UserError(f"The output {path} is a folder; name a file.")
    _check_writable(path.parent, path)
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"The output {path} exists and cannot be overwritten; choose another name.")
    return path


def check_output_folder(path: str | Path) -> Path:
    """Make sure that the folder `path` exists or can be made, and written to; it is not left behind empty.

    Raises UserError if not.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"The output {path} is a file; name a folder.")
    existed = path.exists()
    _check_writable(path, path)
    if not existed:
        path.rmdir()
    return path


def _check_writable(folder: Path, output: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"The output {output} cannot be written ({reason}); choose another place.") from error


def check_input_file(path: str | Path, what: str) -> Path:
    """Raises UserError if `path` is not a file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The {what} {path} does not exist." if not path.exists() else f"The {what} {path} is no file.")
    return path


class Progress:
    """A tqdm bar on stderr behind the engine's `progress(done, total, message)` callables."""

    def __init__(self, label: str):
        self.label, self.bar = label, None

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        if self.bar is None:
            if total == 0:  # nothing known yet: bad input is refused without an empty bar
                return
            from tqdm import tqdm

            self.bar = tqdm(
                desc=self.label,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=0.5,
                bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}",  # units differ, fractions too
            )
        if total is not None:
            self.bar.total = total
        if message:
            self.bar.set_description(message, refresh=False)
        self.bar.update(max(done, 0) - self.bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()


def print_json(value: Any) -> None:
    """One JSON document on stdout; numbers that are not finite become null."""
    print(json.dumps(json_safe(value), indent=2))
