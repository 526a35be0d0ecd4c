"""Takes docs/studio.webp: the studio with a head turned and its sliders moved. Needs playwright and Chromium.

python -m docs.make_screenshot
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IDENTITY = "actor2"
DRAG = (-105, 12)  # pixels that the mouse drags the head
SLIDERS = {"lip1": 1.6, "lip2": 0.8, "exp1": 1.2}
WINDOW = {"width": 1440, "height": 970}


def start_studio() -> tuple[subprocess.Popen, str]:
    """A running app.py and its address. Raises RuntimeError if it does not start within two minutes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(ROOT / "app.py"), "--host", "127.0.0.1", "--port", str(port)])
    url = f"http://127.0.0.1:{port}/"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            opener.open(url, timeout=5)
            return process, url
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError("app.py did not start")


def arrange(page: Page) -> None:
    """Choose a sound and a head, turn it, move some sliders, and wait until the picture stands still."""
    page.wait_for_selector("canvas[data-drawn]")
    page.locator("#dg-examples button, #dg-examples .gallery-item").first.click()
    page.locator(f'#dg-left [data-name="{IDENTITY}"]').click()
    page.wait_for_function("name => window.dgtalker.state.identity?.name === name", arg=IDENTITY)
    for name, value in SLIDERS.items():
        page.locator(f"#dg-{name}").evaluate(
            "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value
        )
    box = page.locator("#dg-viewport canvas").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + DRAG[0], y + DRAG[1], steps=8)
    page.mouse.up()
    page.wait_for_timeout(6000)


def main() -> None:
    """Write the screenshot."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    process, url = start_studio()
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport=WINDOW, color_scheme="light")
            page.set_default_timeout(120_000)
            page.goto(url)
            arrange(page)
            image = Image.open(io.BytesIO(page.screenshot(timeout=120_000)))
            browser.close()
    finally:
        process.terminate()
        process.wait(20)
    path = ROOT / "docs" / "studio.webp"
    image.convert("RGB").save(path, quality=85, method=6)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
