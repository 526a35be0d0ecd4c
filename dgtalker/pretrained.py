"""Checkpoint folders: where they are found, how they are written and read back.

A checkpoint is a folder with `config.json` and `model.safetensors`. `config.json` carries `format_version`, `kind`
and `weights_sha256`, so that a damaged or mixed-up folder is told apart from a good one before a network is built.
"""

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgtalker.assets import shipped_folder
from dgtalker.errors import UserError
from dgtalker.files import file_sha256, write_atomic

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
KINDS = {"prior": "priors", "identity": "identities", "backbone": "speech"}
OLDER_KINDS = {"trunk": "backbone"}  # kinds in older checkpoints

# The hub repository of the checkpoints that an installed package leaves out, laid out as `checkpoints/` is. Whoever
# publishes them elsewhere changes this line alone.
HUB_REPO = "dgtalker/dgtalker"
PUBLISHED = {  # what is fetched from there by its name, with the SHA-256 of its weights: no others are accepted
    "identity": {
        "actor1": "b2c6e09821c8296ef5eb435fbd5d788b8138b13206573bf8b7426f1f919a0eb6",
        "actor3": "b8191138ca8ebd8dbab61dfd236943240ff7c2c878e56ae8fd47d01c9e4d30f1",
    },
    "prior": {"full": "f4e4eadd16a7ca8f72540b2a47df6b3883f1eeb3855dd4676ba1538b6e8a9f00"},
}
HUB_SECONDS = 6.0  # after which a hub that has not answered counts as out of reach

_REPO_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")


def checkpoint_root() -> Path:
    """Folder of `priors/`, `identities/`, `speech/`: $DGTALKER_CHECKPOINTS, or the shipped `checkpoints`."""
    given = os.environ.get("DGTALKER_CHECKPOINTS")
    return Path(given) if given else shipped_folder("checkpoints")


def list_checkpoints(kind: str) -> list[str]:
    """Names of the shipped checkpoints of `kind` ("prior", "identity" or "backbone"), sorted."""
    folder = checkpoint_root() / KINDS[kind]
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if (p / CONFIG_FILE).is_file())


def find_checkpoint(name_or_path_or_repo: str | Path, kind: str = "prior", revision: str | None = None) -> Path:
    """Folder of a checkpoint given as a shipped name, a folder, a published name or a hub repository ("owner/name").

    Looked up in that order. The last two use the network and import huggingface_hub; a published name is a folder of
    `HUB_REPO`. What was fetched once is found again without a network.

    Raises:
        UserError: nothing of that name, a hub out of reach, other weights than those published, or a folder without
            the two checkpoint files.
    """
    wanted = str(name_or_path_or_repo)
    shipped = checkpoint_root() / KINDS[kind] / wanted
    if re.fullmatch(r"[\w.-]+", wanted) and wanted not in (".", "..") and os.path.isdir(shipped):
        return _complete(shipped)
    if os.path.isdir(wanted):  # unlike Path.is_dir, False for a name that is too long
        return _complete(Path(wanted))
    if digest := PUBLISHED.get(kind, {}).get(wanted):
        folder = _complete(_download(HUB_REPO, kind, revision, f"{KINDS[kind]}/{wanted}"))
        if file_sha256(folder / WEIGHTS_FILE) != digest:
            raise UserError(f"'{HUB_REPO}' has other weights than the published ones of '{wanted}': not used.")
        return folder
    if _REPO_NAME.match(wanted):
        return _complete(_download(wanted, kind, revision))
    names = ", ".join(list_checkpoints(kind)) or "none"
    raise UserError(
        f"There is no {kind} '{wanted[:200]}': give a folder, a hub repository or a shipped name ({names})."
    )


def _complete(folder: Path) -> Path:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"'{folder}' is not a checkpoint: {name} is missing.")
    return folder


def _download(repo: str, kind: str, revision: str | None, folder: str = "") -> Path:
    """The checkpoint in `folder` of a hub repository, from the local cache where the hub cannot be reached."""
    wanted = f"{repo}/{folder}" if folder else repo
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError(f"'{wanted}' is not here, and to fetch it huggingface_hub must be installed.") from error
    files = [CONFIG_FILE, WEIGHTS_FILE, "README.md", "preview*", "coefficients*"]
    patterns = [f"{folder}/{file}" if folder else file for file in files]
    cached_only = not hub_answers(repo, revision)
    try:
        path = snapshot_download(repo, revision=revision, allow_patterns=patterns, local_files_only=cached_only)
    except Exception as error:  # the hub client raises many kinds: offline, missing, gated, bad revision
        names = ", ".join(list_checkpoints(kind)) or "none"
        raise UserError(
            f"'{wanted}' is not here, and the hub cannot be reached or has no {kind} of that name "
            f"({type(error).__name__}); shipped: {names}."
        ) from error
    return Path(path) / folder


def hub_answers(repo: str, revision: str | None = None) -> bool:
    """Whether the hub can be reached and shows the repository; False after `HUB_SECONDS` without an answer."""
    from huggingface_hub import HfApi

    # A name server that does not answer ignores every socket timeout: ask in a thread and give up on it.
    answers = []

    def ask() -> None:
        try:
            answers.append(HfApi().model_info(repo, revision=revision, timeout=HUB_SECONDS - 1))
        except Exception:  # offline, proxy, rate limit, no such repository: all mean "not from the hub"
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return bool(answers)


def read_config(folder: str | Path, kind: str) -> dict[str, Any]:
    """The folder's config.json as a dict, checked for kind and format version.

    Raises:
        UserError: missing, not JSON, of another kind, or written by a newer version.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"'{folder}' is not a checkpoint: {CONFIG_FILE} is missing.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' is damaged: it is not readable JSON.") from error
    if isinstance(config, dict) and config.get("kind") in OLDER_KINDS:
        config["kind"] = OLDER_KINDS[config["kind"]]
    if not isinstance(config, dict) or config.get("kind") != kind:
        found = config.get("kind") if isinstance(config, dict) else None
        raise UserError(f"'{folder}' is not a checkpoint of kind '{kind}' (it says '{found}').")
    version = config.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise UserError(f"'{folder}' has format version {version}; this program reads up to {FORMAT_VERSION}.")
    return config


def read_weights(folder: str | Path, config: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Tensors of model.safetensors as float32, whatever they are stored as; checked against `weights_sha256` if known.

    Raises:
        UserError: missing, truncated, or not the file that config.json was written with.
    """
    path = Path(folder) / WEIGHTS_FILE
    expected = (config or {}).get("weights_sha256")
    try:
        if expected is not None and file_sha256(path) != expected:
            raise UserError(f"'{path}' is damaged: it is not the file that {CONFIG_FILE} was written with.")
        tensors = load_tensors(path)
    except FileNotFoundError as error:
        raise UserError(f"'{folder}' is not a checkpoint: {WEIGHTS_FILE} is missing.") from error
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    try:
        return dequantize_int8({k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"'{path}' is damaged: the int8 tensors and their scales do not fit together.") from error


def quantize_int8(tensors: Mapping[str, Tensor], keys: Sequence[str]) -> dict[str, Tensor]:
    """Quantise the [R,N,C] tensors named `keys` to int8; "KEY.scale" [R,1,C] is their step."""
    stored = dict(tensors)
    for key in keys:
        scale = (stored[key].abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)
        stored[key], stored[f"{key}.scale"] = (stored[key] / scale).round().to(torch.int8), scale
    return stored


def dequantize_int8(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `quantize_int8`, within half a step; other tensors stay as they are."""
    scaled = {key for key in stored if f"{key}.scale" in stored}
    scales = {f"{key}.scale" for key in scaled}
    return {k: v.float() * stored[f"{k}.scale"] if k in scaled else v for k, v in stored.items() if k not in scales}


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Safetensors file -> tensors. Raises FileNotFoundError, or UserError if it is damaged."""
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors has its own error class, and mmap raises OSError
        raise UserError(f"'{path}' is damaged: it is not a readable safetensors file.") from error


def load_into(module: torch.nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Copy tensors into a module; a missing, extra or wrongly shaped one is a UserError naming it."""
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split("\n\t")[1:2]).strip().rstrip(".") or "wrong tensors"
        raise UserError(f"'{source}' does not fit its config: {problem[:200]}.") from error


def write_checkpoint(
    folder: str | Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], half: bool = True
) -> Path:
    """Write a checkpoint folder; each file appears complete or not at all.

    `config` is JSON-able; `format_version`, `kind` and `weights_sha256` are added to it. `tensors` are the model's
    state; with `half` its float32 is stored as float16.

    Raises:
        UserError: the folder cannot be written.
    """
    from safetensors.torch import save

    folder = Path(folder)
    stored = {}
    for key, value in tensors.items():
        value = value.detach().cpu()
        if half and value.dtype == torch.float32:
            value = value.half()
        stored[key] = value.contiguous().clone()
    data = save(stored)
    digest = hashlib.sha256(data).hexdigest()
    full = {"format_version": FORMAT_VERSION, "kind": kind, **config, "weights_sha256": digest}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / WEIGHTS_FILE, data)
        write_atomic(folder / CONFIG_FILE, (json.dumps(full, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror or error}.") from error
    return folder
