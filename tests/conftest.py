"""Shared fixtures. Real video, speech and models are looked for in $DGTALKER_SHARED, else in ../shared.

Tests that need them skip without. Fake heads, people, data sets and speech are made by the modules in tests/fakes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with `data` and `models`; skips where there is none."""
    folder = Path(os.environ.get("DGTALKER_SHARED") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip("no example material: set DGTALKER_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def grid_clip(shared: Path) -> Path:
    """One film of GRID's talker s1, three seconds; skips without."""
    clips = sorted((shared / "data" / "grid_s1" / "test").glob("*.mpg"))
    if not clips:
        pytest.skip("no GRID clips")
    return clips[0]


@pytest.fixture(scope="session")
def other_grid_clip(shared: Path) -> Path:
    """One film of another talker of GRID ("lay blue by c two again"); skips without."""
    return _existing(shared / "data" / "grid_other" / "lbbc2a.mpg")


@pytest.fixture(scope="session")
def face_landmarker(shared: Path) -> Path:
    """MediaPipe's Face Landmarker model; skips without it or without MediaPipe."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    return _existing(shared / "models" / "face_landmarker.task")


@pytest.fixture(scope="session")
def makehuman(shared: Path) -> Path:
    """Folder of MakeHuman's skins, hair and eyes; skips without it or without anny."""
    pytest.importorskip("anny", reason="synthetic people need the package anny")
    return _existing(shared / "data" / "makehuman")


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is absent")
    return path


@pytest.fixture(scope="session")
def person_assets(makehuman: Path):
    """What synthetic people are made of."""
    from dgtalker.people import PersonAssets

    return PersonAssets(makehuman)


@pytest.fixture(scope="session")
def fake_identity(tmp_path_factory) -> Path:
    """Folder of a small identity with the right format and random weights."""
    from fakes.identity import make_fake_identity

    folder = tmp_path_factory.mktemp("checkpoints") / "identities" / "fake"  # a valid $DGTALKER_CHECKPOINTS too
    make_fake_identity(folder)
    return folder


@pytest.fixture(scope="session")
def fake_identity_with_controls(tmp_path_factory) -> Path:
    """Folder of the same identity with face controls."""
    from fakes.identity import make_fake_identity

    return make_fake_identity(tmp_path_factory.mktemp("controls") / "identities" / "fake", controls=True)


@pytest.fixture(scope="session")
def identity(fake_identity: Path):
    """The small identity, loaded; tests that change one load their own."""
    from dgtalker.identity import Identity

    return Identity.from_pretrained(fake_identity)


@pytest.fixture(scope="session")
def playwright_driver():
    """Playwright, started once: a process can have it running only once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        yield driver
