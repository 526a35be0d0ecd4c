"""The studio's page: who and what on the left, the picture in the middle, the controls on the right.

This is how the page looks; what its buttons do is in handlers.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import gradio as gr

from dgtalker.performance.blinks import MAX_RATE, RATE
from dgtalker.studio import components
from dgtalker.studio.engine import Engine
from dgtalker.studio.examples import LABELS, example_files
from dgtalker.studio.handlers import Handlers, PictureTabs, VideoCard, VoiceCard
from dgtalker.studio.session_io import CAMERAS, SIZES

QUEUE_LIMIT = 16  # waiting users
KEEP_SECONDS = 6 * 3600  # then Gradio deletes uploads and videos
NOTE = (
    "Everything shown here is synthetic: it was never said by the person it resembles. Animate only people who agreed "
    "to it, and say that the result is synthetic wherever you share it."
)


def build_page(engine: Engine) -> gr.Blocks:
    """The page, not launched. `engine` is shared by all users."""
    with gr.Blocks(title="DGTalker studio", fill_width=True, delete_cache=(3600, KEEP_SECONDS)) as page:
        gr.HTML((components.ASSETS / "header.html").read_text(encoding="utf-8"), elem_id="dg-header")
        with gr.Row(elem_id="dg-main"):
            with gr.Column(elem_id="dg-left", min_width=0):
                with _card("Identity"):
                    components.gallery(engine)
                with _card("Voice"):
                    voice = _voice()
                with _card("Video"):
                    video = _video()
            with gr.Column(elem_id="dg-centre", min_width=0):
                picture = _picture(engine)
            with gr.Column(elem_id="dg-right", min_width=0), _card():
                components.sliders(engine)
        gr.HTML(f'<p class="dg-note">{NOTE}</p>')
        Handlers(engine, voice, video, picture).connect(page)
    page.queue(max_size=QUEUE_LIMIT, default_concurrency_limit=4)
    return page


@contextlib.contextmanager
def _card(title: str = "") -> Generator[None]:
    with gr.Column(elem_classes="dg-card", min_width=0):
        if title:
            gr.HTML(f'<h2 class="dg-title">{title}</h2>')
        yield


def _audio_input(label: str, elem_id: str) -> gr.Audio:
    return gr.Audio(
        label=label, sources=["upload", "microphone"], type="filepath", show_label=False, elem_id=elem_id,
        editable=False, buttons=[],
    )  # fmt: skip


def _voice() -> VoiceCard:
    audio = _audio_input("Speech", "dg-audio")
    if files := example_files():
        gr.Examples(
            [[str(f)] for f in files], [audio], example_labels=[LABELS[f.name] for f in files], label="Or try",
            elem_id="dg-examples",
        )  # fmt: skip
    with gr.Accordion("Expression", open=False, elem_id="dg-expression"):
        blinks = gr.Textbox(
            label="Blinks at (s)", placeholder="natural – or 1.2, 3.4 – or none", max_lines=1, elem_id="dg-blinks"
        )
        rate = gr.Slider(0, MAX_RATE, RATE, step=1, label="Blinks a minute", elem_id="dg-rate")
        with gr.Row():
            variant = gr.Number(0, label="Variant", precision=0, min_width=60, elem_id="dg-variant")
            seed = gr.Number(0, label="Seed", precision=0, min_width=60, elem_id="dg-seed")
        gr.HTML(
            '<p class="dg-hint">A variant moves the upper face in another way; the lips stay. A second voice can move '
            "it, too:</p>"
        )
        other = _audio_input("Expression from", "dg-other-audio")
    return VoiceCard(audio, blinks, rate, variant, seed, other)


def _video() -> VideoCard:
    camera = gr.Radio(list(CAMERAS), value="Front", label="Camera", elem_id="dg-camera")
    size = gr.Radio([(f"{s} px", s) for s in SIZES], value=SIZES[0], label="Size", elem_id="dg-size")
    generate = gr.Button("Generate video", variant="primary", elem_id="dg-generate")
    cancel = gr.Button("Cancel", visible=False, elem_id="dg-cancel")
    report = gr.HTML("", elem_id="dg-report")
    with gr.Row(elem_id="dg-session"):
        save = gr.Button("Save session", size="sm", min_width=60, elem_id="dg-save")
        load = gr.UploadButton("Load session", file_types=[".json"], size="sm", min_width=60, elem_id="dg-load")
    cached = gr.State(None)
    job_number = gr.Number(visible="hidden", precision=0, elem_id="dg-job-number")
    message = gr.Textbox(visible="hidden", show_label=False, container=False, elem_id="dg-message")
    return VideoCard(camera, size, generate, cancel, report, save, load, cached, job_number, message)


def _picture(engine: Engine) -> PictureTabs:
    with gr.Tabs(elem_id="dg-tabs") as tabs:
        with gr.Tab("Live", id="live"):
            view = components.viewport(engine)
        with gr.Tab("Video", id="video"):
            video = gr.Video(
                label="Talking video", show_label=False, interactive=False, autoplay=True, elem_id="dg-video",
                buttons=["download"],
            )  # fmt: skip
            table = gr.DownloadButton("Download the coefficients (CSV)", visible=False, size="sm", elem_id="dg-table")
    return PictureTabs(tabs, view, video, table)
