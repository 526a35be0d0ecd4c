"""Files that appear whole or not at all, checks before work is done for them, hashes, and figures for JSON."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: str | Path) -> str:
    """Hex digest of a file; part of a child's config as its parent's hash."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def json_safe(value: Any) -> Any:
    """Plain values with every number that is not finite replaced by None, for JSON has no NaN; keys become text."""
    if isinstance(value, dict):
        return {str(key): json_safe(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_output_file(path: str | Path, suffixes: tuple[str, ...] = ()) -> Path:
    """Make sure that `path` can be written, before any work is done for it. Raises UserError if not."""
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"The output {path} must end in {' or '.join(suffixes)}.")
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
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
        with suppress(FileNotFoundError):
            os.stat(output)  # fails for an impossible name
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"The output {output} cannot be written ({reason}); choose another place.") from error


def check_input_file(path: str | Path, what: str) -> Path:
    """Raises UserError if `path` is not a file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The {what} {path} does not exist." if not path.exists() else f"The {what} {path} is no file.")
    return path
