"""The three custom components, gallery, viewport and sliders: their HTML, CSS and JavaScript lie in assets/."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from dgtalker.errors import UserError
from dgtalker.studio.engine import Engine

log = logging.getLogger(__name__)
ASSETS = Path(__file__).parent / "assets"


def gallery(engine: Engine) -> gr.HTML:
    """Identities with their previews, read anew at each page load; choosing one fills the page's store."""

    def describe(name):
        return engine.describe(name)

    return _component("gallery", [describe], value=engine.gallery)


def viewport(engine: Engine) -> gr.HTML:
    """The live picture. Its value is unused: the browser sends the whole view with every request."""

    def frame(data):
        return engine.frame(engine.parse_view(data))

    def snapshot(data):
        return engine.snapshot(engine.parse_view(data))

    def export(data):
        return engine.export(engine.parse_view(data))

    def badges(data=None):
        return engine.badges()

    return _component("viewport", [frame, snapshot, export, badges])


def sliders(engine: Engine) -> gr.HTML:
    """One slider per coefficient of the chosen identity, in two groups, and blink; below, pictures of what they do."""

    def coefficient_sheet(name):
        return engine.coefficient_sheet(name)

    return _component("sliders", [coefficient_sheet])


def _component(name: str, server_functions: list[Callable], **options: Any) -> gr.HTML:
    """The component whose files are assets/NAME.*; its JavaScript calls server_functions by their names."""
    read = {kind: (ASSETS / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    store = (ASSETS / "store.js").read_text(encoding="utf-8")
    return gr.HTML(
        html_template=read["html"],
        css_template=read["css"],
        js_on_load=f"{store}\n{read['js']}",
        apply_default_css=False,
        server_functions=[_explain_failure(function) for function in server_functions],
        elem_id=f"dg-{name}",
        elem_classes=["dg-component"],
        **options,
    )


def _explain_failure(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """`function`, whose failure becomes {problem: one sentence} for the browser instead of an HTTP 500."""

    @functools.wraps(function)
    def explained(*data):
        try:
            return function(*data)
        except UserError as error:
            return {"problem": str(error)}
        except Exception:
            log.exception("the viewport's request failed")
            return {"problem": "The picture could not be drawn: the server's log says why."}

    return explained
