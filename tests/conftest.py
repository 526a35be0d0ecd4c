"""Shared fixtures. Real video and speech are looked for in $DGTALKER_SHARED, else in ../shared; tests skip without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def find_shared() -> Path | None:
    """The folder with example video, speech and models, or None."""
    folder = Path(os.environ.get("DGTALKER_SHARED") or ROOT.parent / "shared")
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `data` and `models`; skips where there is none."""
    folder = find_shared()
    if folder is None:
        pytest.skip("no example material: set DGTALKER_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def face_landmarker(shared: Path) -> Path:
    """MediaPipe's Face Landmarker model; skips without it or without MediaPipe."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    path = shared / "models" / "face_landmarker.task"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return path


@pytest.fixture(scope="session")
def fake_identity(tmp_path_factory) -> Path:
    """Folder of a small identity with the right format and random weights."""
    from fakes.identity import make_fake_identity

    folder = tmp_path_factory.mktemp("checkpoints") / "identities" / "fake"  # a valid $DGTALKER_CHECKPOINTS too
    make_fake_identity(folder)
    return folder
