"""The studio: the Gradio interface. Nothing else in the package imports Gradio."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgtalker.studio.engine import Engine

UPLOAD_LIMIT = "64mb"


def launch(host: str | None = None, port: int | None = None, engine: Engine | None = None, **options: Any):
    """Serve the studio; blocks until stopped unless prevent_thread_lock=True is among the options for Gradio's launch.

    Host and port None are left to Gradio: its environment variables, else 127.0.0.1 and the first free one from 7860.
    Raises UserError where Gradio is not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    _reach_loopback_directly()  # Gradio asks its own server whether it runs
    from dgtalker.errors import UserError
    from dgtalker.studio.engine import Engine

    engine = engine or Engine()
    threading.Thread(target=engine.warm_up, name="dgtalker-warm-up", daemon=True).start()  # beside Gradio's own import
    try:
        from dgtalker.studio.layout import build_page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("The studio needs Gradio: pip install -r requirements.txt.") from error
    from dgtalker.studio.examples import EXAMPLES
    from dgtalker.studio.theme import CSS, theme

    return build_page(engine).launch(
        server_name=host,
        server_port=port,
        theme=theme(),
        css=CSS.read_text(encoding="utf-8"),
        max_file_size=UPLOAD_LIMIT,
        allowed_paths=[str(EXAMPLES)],  # a loaded session takes its sound from there, if it is an example
        footer_links=[],
        ssr_mode=False,
        show_error=True,
        **options,
    )


def _reach_loopback_directly() -> None:
    """Take this machine's own addresses out of the environment's proxies: no proxy reaches them."""
    for variable in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(variable, "").split(",") if host]
        os.environ[variable] = ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]))
