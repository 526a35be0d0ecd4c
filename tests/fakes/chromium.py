"""A headless Chromium for tests that look at pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

ARGUMENTS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


@contextmanager
def start_chromium(driver, arguments: Sequence[str]) -> Iterator:
    """A browser of Playwright's `driver`, with `arguments` beside ARGUMENTS; skips the test if there is no Chromium."""
    executable = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if not executable:
        pytest.skip("no Chromium: install it, or name it in $CHROMIUM")
    browser = driver.chromium.launch(executable_path=executable, args=[*ARGUMENTS, *arguments])
    try:
        yield browser
    finally:
        browser.close()
