"""A page with the browser's renderer on it, opened from disk, and its pictures."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from dgtalker.web.script import renderer_script

PAGE = """<!doctype html><meta charset="utf-8">
<style>body {{ margin: 0 }} canvas {{ width: {size}px; height: {size}px }}</style>
{canvases}<script type="module">{script}
Object.assign(window, {{ Head, Viewport }});
</script>"""
READ = """async (view) => {
    const { width, height, data } = await view.pixels();
    let text = "";
    for (let i = 0; i < data.length; i += 30000) text += String.fromCharCode(...data.subarray(i, i + 30000));
    return { width, height, data: btoa(text) };
}"""


def write_page(path: Path, size: int, canvases: int) -> str:
    """Address of a page with canvases #view0, #view1 .. of `size` CSS pixels, and Head and Viewport on its window."""
    tags = "".join(f'<canvas id="view{i}"></canvas>' for i in range(canvases))
    path.write_text(PAGE.format(size=size, canvases=tags, script=renderer_script()), encoding="utf-8")
    return path.as_uri()


def give_pack(page, pack: bytes) -> None:
    """Put bytes into a page, as window.pack."""
    text = base64.b64encode(pack).decode()
    page.evaluate("text => { window.pack = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer; }", text)


def show_head(page, pack: bytes, views: int = 1) -> None:
    """Load a pack as window.head and show it on the page's canvases, as window.views."""
    give_pack(page, pack)
    page.evaluate(
        """async (views) => {
            window.head = await Head.load(window.pack);
            window.views = [];
            for (let i = 0; i < views; i++) window.views.push(new Viewport(document.querySelector(`#view${i}`), head));
        }""",
        views,
    )


def read_picture(page, view: int = 0) -> np.ndarray:
    """What a viewport shows of what is set, uint8 [H, W, 3]."""
    picture = page.evaluate_handle(f"window.views[{view}]").evaluate(READ)
    values = np.frombuffer(base64.b64decode(picture["data"]), np.uint8)
    return values.reshape(picture["height"], picture["width"], 4)[..., :3]


def decibels(picture: np.ndarray, expected: np.ndarray) -> float:
    """PSNR of two uint8 pictures."""
    error = np.square(picture.astype(np.float64) - expected).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
