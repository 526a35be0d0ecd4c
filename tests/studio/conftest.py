"""The real app.py in its own process on tiny identities, and a headless Chromium to drive it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from fakes.chromium import start_chromium

ROOT = Path(__file__).resolve().parents[2]
LONGEST_AUDIO = 30  # seconds, for the app under test


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """A checkpoint root with four identities.

    fake (3 + 3 coefficients), named (the same, described and with face controls), other (2 + 4), and a damaged one.
    """
    import torch
    from fakes.identity import fake_head, make_fake_identity

    from dgtalker.identity import Identity
    from dgtalker.navigation.model import Navigation, NavigationConfig

    root = tmp_path_factory.mktemp("checkpoints")
    make_fake_identity(root / "identities" / "fake")
    torch.manual_seed(1)
    navigation = Navigation(NavigationConfig(latent=16, feature_dim=80, n_exp=2, n_lip=4, hidden=16))
    navigation.limits.copy_(torch.tensor([-3.0, 3.0]).repeat(6, 1))
    other = Identity("other", navigation, fake_head(), {"title": "Other person", "feature_kind": "log-mel"})
    other.save_pretrained(root / "identities" / "other")
    damaged = make_fake_identity(root / "identities" / "zz-damaged", "zz-damaged")
    (damaged / "model.safetensors").write_bytes(b"not a checkpoint")
    _describe(make_fake_identity(root / "identities" / "named", "named", controls=True))
    return root


def _describe(folder: Path) -> None:
    """Describe it, then give one coefficient a name: an invented head has none."""
    import json

    from dgtalker.coefficients.describe import describe_identity_folder

    describe_identity_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config["coefficients"]["lip"][1] |= {"name": "rounding", "match": 0.61, "low": -1.5, "high": 2.5}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def app(checkpoints, tmp_path_factory):
    """Address of a running studio."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = tmp_path_factory.mktemp("log") / "app.log"
    environment = os.environ | {
        "DGTALKER_CHECKPOINTS": str(checkpoints),
        "DGTALKER_MAX_AUDIO_SECONDS": str(LONGEST_AUDIO),
        "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("gradio")),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "http_proxy": "http://127.0.0.1:9",  # a proxy that does not reach this machine must not keep the app from it
    }
    with open(log_path, "w") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", str(port)],
            env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}/"
        try:
            _wait_for(url, process, log_path)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 180  # a busy machine takes long to import
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(url, timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"app.py did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def browser(playwright_driver):
    """A headless Chromium with a profile of its own; skips where there is none."""
    with start_chromium(playwright_driver, ["--disable-gpu"]) as browser:
        yield browser


@pytest.fixture
def open_studio(app, browser):
    """Call it to open the studio in a new browser context, with its own user, and wait for the first picture."""
    contexts = []

    def open_page(**options):
        context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(app)
        page.wait_for_selector("canvas[data-drawn]")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_studio):
    """One open studio."""
    return open_studio()
