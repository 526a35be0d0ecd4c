"""The three custom components, gallery, viewport and sliders: their HTML, CSS and JavaScript lie in assets/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from dgtalker.studio.engine import Engine, answer

ASSETS = Path(__file__).parent / "assets"


def _component(name: str, functions: list[Callable] | None = None, **options: Any) -> gr.HTML:
    read = {kind: (ASSETS / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    store = (ASSETS / "store.js").read_text(encoding="utf-8")
    return gr.HTML(
        html_template=read["html"],
        css_template=read["css"],
        js_on_load=f"{store}\n{read['js']}",
        apply_default_css=False,
        server_functions=functions,
        elem_id=f"dg-{name}",
        elem_classes=["dg-component"],
        **options,
    )


def gallery(engine: Engine) -> gr.HTML:
    """Identities with their previews, read anew at each page load; choosing one fills the page's store."""

    def describe(name):
        return answer(engine.describe, name)

    return _component("gallery", [describe], value=engine.gallery)


def viewport(engine: Engine) -> gr.HTML:
    """The live picture. Its value is unused: the browser sends the whole view with every request."""

    def frame(data):
        return answer(lambda d: engine.frame(engine.parse(d)), data)

    def snapshot(data):
        return answer(lambda d: engine.snapshot(engine.parse(d)), data)

    def export(data):
        return answer(lambda d: engine.export(engine.parse(d)), data)

    def badges(data=None):
        return answer(lambda d: engine.badges(), data)

    return _component("viewport", [frame, snapshot, export, badges])


def sliders(engine: Engine) -> gr.HTML:
    """One slider per coefficient of the chosen identity, in two groups, and blink; below, pictures of what they do."""

    def strip(name):
        return answer(engine.strip, name)

    return _component("sliders", [strip])
