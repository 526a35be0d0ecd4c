"""A browser that draws in software, and pages with the renderer."""

from __future__ import annotations

import pytest
from fakes.chromium import SOFTWARE_GL, start_chromium
from fakes.renderer_page import write_page

PATIENCE = 180_000  # milliseconds: a busy machine compiles shaders and draws slowly


@pytest.fixture(scope="session")
def browser(playwright_driver):
    """A headless Chromium with WebGL2 in software."""
    with start_chromium(playwright_driver, SOFTWARE_GL) as browser:
        yield browser


@pytest.fixture
def open_page(browser, tmp_path):
    """Call it for a page, opened from disk, with the renderer and canvases #view0, #view1 .. of `size` CSS pixels."""
    contexts = []

    def open_it(size: int = 96, canvases: int = 1, **options):
        context = browser.new_context(viewport={"width": 800, "height": 600}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(write_page(tmp_path / "renderer.html", size, canvases))
        page.wait_for_function("() => Boolean(window.Viewport)")
        return page

    yield open_it
    for context in contexts:
        context.close()
