"""The studio's page: who and what on the left, the picture in the middle, the controls on the right."""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from dgtalker.assets import shipped_folder
from dgtalker.errors import UserError
from dgtalker.performance.blinks import MAX_RATE, RATE
from dgtalker.studio import components
from dgtalker.studio import session_io as keeping
from dgtalker.studio.engine import Engine
from dgtalker.studio.generate import CANCELLED, Job, Progress, run
from dgtalker.studio.session_io import CAMERAS, SIZES, Inputs
from dgtalker.studio.user_state import Sessions

EXAMPLES = shipped_folder("examples")
EXAMPLE_LABELS = {"ljspeech-printing.flac": "A woman reading", "jfk-ask-not.flac": "A man speaking"}
QUEUE_LIMIT = 16  # waiting users
KEEP_SECONDS = 6 * 3600
NOTE = (
    "Everything shown here is synthetic: it was never said by the person it resembles. Animate only people who agreed "
    "to it, and say that the result is synthetic wherever you share it."
)
# The sliders and the camera live in the browser; this puts them in the first input at the moment of the click.
SEND_VIEW = "(...inputs) => [window.dgtalker.view(), ...inputs.slice(1)]"
# What the server says to the browser's store: sliders to restore, a file to save.
RECEIVE = "(text) => { window.dgtalker.receive(text); return ''; }"


def longest_audio() -> float:
    """Seconds of audio that one job may have: $DGTALKER_MAX_AUDIO_SECONDS, or five minutes."""
    try:
        return float(os.environ["DGTALKER_MAX_AUDIO_SECONDS"])
    except (KeyError, ValueError):
        return 300.0


def status(kind: str, message: str, fraction: float = 0.0) -> str:
    """The line under the Generate button, as HTML; kind is idle, working, done, cancelled or failed."""
    bar = f'<div class="bar"><i style="width:{100 * fraction:.1f}%"></i></div>' if kind == "working" else ""
    role = "alert" if kind == "failed" else "status"
    return f'<div class="dg-status {kind}" role="{role}">{html.escape(message)}{bar}</div>'


def build(engine: Engine | None = None) -> gr.Blocks:
    """The page as Blocks, not launched. `engine` is the one shared by all users."""
    engine = engine or Engine()
    sessions = Sessions()
    limit = longest_audio()

    with gr.Blocks(title="DGTalker studio", fill_width=True, delete_cache=(3600, KEEP_SECONDS)) as page:
        gr.HTML((components.ASSETS / "header.html").read_text(encoding="utf-8"), elem_id="dg-header")
        with gr.Row(elem_id="dg-main"):
            with gr.Column(elem_id="dg-left", min_width=0):
                with gr.Column(elem_classes="dg-card", min_width=0):
                    gr.HTML('<h2 class="dg-title">Identity</h2>')
                    components.gallery(engine)
                with gr.Column(elem_classes="dg-card", min_width=0):
                    gr.HTML('<h2 class="dg-title">Voice</h2>')
                    audio = gr.Audio(
                        label="Speech", sources=["upload", "microphone"], type="filepath", show_label=False,
                        elem_id="dg-audio", editable=False, buttons=[],
                    )  # fmt: skip
                    _examples(audio)
                    with gr.Accordion("Expression", open=False, elem_id="dg-expression"):
                        blinks = gr.Textbox(
                            label="Blinks at (s)", placeholder="natural – or 1.2, 3.4 – or none", max_lines=1,
                            elem_id="dg-blinks",
                        )  # fmt: skip
                        rate = gr.Slider(0, MAX_RATE, RATE, step=1, label="Blinks a minute", elem_id="dg-rate")
                        with gr.Row():
                            variant = gr.Number(0, label="Variant", precision=0, min_width=60, elem_id="dg-variant")
                            seed = gr.Number(0, label="Seed", precision=0, min_width=60, elem_id="dg-seed")
                        gr.HTML(
                            '<p class="dg-hint">A variant moves the upper face in another way; the lips stay. A second '
                            "voice can move it, too:</p>"
                        )
                        other = gr.Audio(
                            label="Expression from", sources=["upload", "microphone"], type="filepath",
                            show_label=False, elem_id="dg-other-audio", editable=False, buttons=[],
                        )  # fmt: skip
                with gr.Column(elem_classes="dg-card", min_width=0):
                    gr.HTML('<h2 class="dg-title">Video</h2>')
                    camera = gr.Radio(list(CAMERAS), value="Front", label="Camera", elem_id="dg-camera")
                    size = gr.Radio([(f"{s} px", s) for s in SIZES], value=SIZES[0], label="Size", elem_id="dg-size")
                    generate = gr.Button("Generate video", variant="primary", elem_id="dg-generate")
                    cancel = gr.Button("Cancel", visible=False, elem_id="dg-cancel")
                    report = gr.HTML("", elem_id="dg-report")
                    with gr.Row(elem_id="dg-session"):
                        save = gr.Button("Save session", size="sm", min_width=60, elem_id="dg-save")
                        load = gr.UploadButton(
                            "Load session", file_types=[".json"], size="sm", min_width=60, elem_id="dg-load"
                        )
                    kept = gr.State(None)  # this tab's curves
                    ticket = gr.Number(visible="hidden", precision=0, elem_id="dg-ticket")  # of this tab's last job
                    courier = gr.Textbox(visible="hidden", show_label=False, container=False, elem_id="dg-courier")
            with gr.Column(elem_id="dg-centre", min_width=0), gr.Tabs(elem_id="dg-tabs") as tabs:
                with gr.Tab("Live", id="live"):
                    view = components.viewport(engine)
                with gr.Tab("Video", id="video"):
                    video = gr.Video(
                        label="Talking video", show_label=False, interactive=False, autoplay=True, elem_id="dg-video",
                        buttons=["download"],
                    )  # fmt: skip
                    table = gr.DownloadButton(
                        "Download the coefficients (CSV)", visible=False, size="sm", elem_id="dg-table"
                    )
            with gr.Column(elem_id="dg-right", min_width=0), gr.Column(elem_classes="dg-card", min_width=0):
                components.sliders(engine)
        gr.HTML(f'<p class="dg-note">{NOTE}</p>')

        def on_generate(data: Any, kept: Any, number: float, request: gr.Request, *inputs: Any) -> Iterator[dict]:
            session = sessions.find(request.session_hash, number)
            if session is None:
                return
            for progress in run(engine, Job(data, Inputs(*inputs), kept), session, limit):
                if sessions.find(request.session_hash, number) is None:
                    return  # the user has started another job, whose reports are the ones to see
                yield show(progress)

        def on_save(data: Any, kept: Any, *inputs: Any) -> dict:
            try:
                return {courier: keeping.to_browser(keeping.save(engine, data, Inputs(*inputs), kept))}
            except UserError as error:
                return {report: status("failed", str(error))}

        def on_load(path: str | None, chosen: str | None) -> dict:
            try:
                found = keeping.load(engine, path, [chosen, *_example_files()])
            except UserError as error:
                return {report: status("failed", str(error))}
            values = dataclasses.astuple(found.inputs)
            return dict(zip(inputs, values, strict=True)) | {
                kept: found.kept,
                courier: keeping.to_browser({"restore": found.view}),
                report: status("done", found.message),
            }

        def show(progress: Progress) -> dict:
            working = progress.kind == "working"
            changes: dict = {  # buttons too: the last word of a cancelled job may come after the next one's click
                report: status(progress.kind, progress.message, progress.fraction),
                generate: gr.update(visible=not working),
                cancel: gr.update(visible=working),
            }
            if progress.kind == "done":
                changes |= {
                    video: str(progress.video),
                    table: gr.update(value=str(progress.table), visible=True),
                    tabs: gr.update(selected="video"),
                    kept: progress.kept,
                }
            return changes

        def on_click(request: gr.Request) -> dict:
            session = sessions.start_job(request.session_hash)  # here, so that Cancel works while the job still waits
            return {
                ticket: session.ticket,
                generate: gr.update(visible=False),
                cancel: gr.update(visible=True),
                report: status("working", "Waiting for a free place"),
            }

        def on_failure() -> dict:
            return show(Progress("failed", "The studio could not take the job: try again in a moment."))

        def on_cancel(request: gr.Request) -> dict:
            sessions.cancel(request.session_hash)
            return show(Progress("cancelled", CANCELLED))

        def on_unload(request: gr.Request) -> None:
            sessions.drop(request.session_hash)

        inputs = [audio, camera, size, other, blinks, rate, variant, seed]  # the fields of Inputs
        outputs = [generate, cancel, report, video, table, tabs, kept]
        # A cancelled job ends by itself, at its next frame or when its turn comes. Gradio's own `cancels` would only
        # kill the reports, and its notice of that could overtake the answer to the click.
        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        clicked = generate.click(on_click, outputs=[*outputs, ticket], queue=False, **quiet)
        job = clicked.then(
            on_generate, [view, kept, ticket, *inputs], outputs, js=SEND_VIEW, concurrency_limit=1,
            concurrency_id="talk", trigger_mode="multiple", **quiet,
        )  # fmt: skip
        saved = save.click(on_save, [view, kept, *inputs], [courier, report], js=SEND_VIEW, queue=False, **quiet)
        restored = load.upload(on_load, [load, audio], [*inputs, kept, courier, report], queue=False, **quiet)
        for sent in (saved, restored):
            sent.then(None, courier, courier, js=RECEIVE, queue=False, **quiet)
        job.failure(on_failure, outputs=outputs, queue=False, **quiet)
        cancel.click(on_cancel, outputs=outputs, queue=False, **quiet)
        page.unload(on_unload)
    page.queue(max_size=QUEUE_LIMIT, default_concurrency_limit=4)
    return page


def _example_files() -> list[Path]:
    return [EXAMPLES / name for name in EXAMPLE_LABELS if (EXAMPLES / name).is_file()]


def _examples(audio: gr.Audio) -> None:
    if files := _example_files():
        gr.Examples(
            [[str(f)] for f in files], [audio], example_labels=[EXAMPLE_LABELS[f.name] for f in files],
            label="Or try", elem_id="dg-examples",
        )  # fmt: skip
