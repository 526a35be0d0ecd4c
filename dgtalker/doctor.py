"""Check of the installation: versions, files and programs. Imports torch and nothing heavier."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

from dgtalker.errors import UserError

OK, MISSING, OPTIONAL = "ok", "missing", "optional"  # optional: absent, and only some commands need it
MIN_PYTHON = (3, 11)


def check_installation() -> dict[str, Any]:
    """Report {"ok": bool, "machine", "identities", "priors", "checks": {name: {"status", "detail"}}}.

    ok: everything that the studio and `talk` need is there.
    """
    from dgtalker.identity import list_identities, list_priors

    checks = {
        "python": _check(_python),
        "torch": _check(_torch),
        "cuda": _check(_cuda, needed=False),
        "numba": _check(lambda: _package("numba")),
        "gradio": _check(lambda: _package("gradio")),
        "gsplat": _check(lambda: _package("gsplat", "faster rendering on a CUDA GPU"), needed=False),
        "ffmpeg": _check(_ffmpeg),
        "whisper": _check(_whisper),
        "mediapipe": _check(lambda: _package("mediapipe", "preprocess, create-identity, evaluate"), needed=False),
        "face_landmarker": _check(_face_landmarker, needed=False),
        "anny": _check(lambda: _package("anny", "making the template and training people"), needed=False),
        "identities": _check(_identities),
    }
    return {
        "ok": all(check["status"] != MISSING for check in checks.values()),
        "machine": describe_machine(),
        "identities": list_identities(),
        "priors": list_priors(),
        "checks": checks,
    }


def describe_machine() -> dict[str, Any]:
    """Facts {cpu, cores, memory_gib, system, python, torch, device}."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device,
    }


class _Absent(Exception):
    """Something that a check looked for is not there."""


def _check(find: Callable[[], str], needed: bool = True) -> dict[str, str]:
    try:
        return {"status": OK, "detail": find()}
    except (_Absent, UserError, ImportError, OSError) as error:
        return {"status": MISSING if needed else OPTIONAL, "detail": " ".join(str(error).split())}


def _python() -> str:
    if sys.version_info < MIN_PYTHON:
        raise _Absent(f"{platform.python_version()}, but 3.11 or newer is needed")
    return platform.python_version()


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _cuda() -> str:
    import torch

    if not torch.cuda.is_available():
        raise _Absent("no CUDA GPU; everything runs on the CPU")
    return torch.cuda.get_device_name(0)


def _package(name: str, purpose: str = "") -> str:
    if importlib.util.find_spec(name) is None:
        raise _Absent(f"not installed{f'; needed for {purpose}' if purpose else ': pip install -r requirements.txt'}")
    return metadata.version(name)


def _ffmpeg() -> str:
    from dgtalker.media.ffmpeg import ffmpeg_exe

    path = ffmpeg_exe()
    try:
        first = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise _Absent(f"{path} does not run") from error
    return first.split(" Copyright")[0]


def _whisper() -> str:
    from dgtalker.audio.whisper_weights import find_whisper

    return str(find_whisper())


def _face_landmarker() -> str:
    from dgtalker.video.landmarks import FACE_LANDMARKER, find_model

    return str(find_model(FACE_LANDMARKER))


def _identities() -> str:
    from dgtalker.identity import Identity, list_identities

    names = list_identities()
    if not names:
        raise _Absent("none shipped in checkpoints/identities")
    for name in names:
        Identity.from_pretrained(name)  # a damaged one says so in one sentence
    return ", ".join(names)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
