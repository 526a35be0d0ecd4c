"""What each button of the page does. The job behind Generate, `run_job`, is in generate.py."""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import gradio as gr

from dgtalker.errors import UserError
from dgtalker.studio import session_io
from dgtalker.studio.engine import Engine
from dgtalker.studio.examples import example_files
from dgtalker.studio.generate import CANCELLED, Job, JobReport, run_job
from dgtalker.studio.session_io import CachedPerformance, Inputs
from dgtalker.studio.user_state import UserJobs

# The sliders and the camera live in the browser; this puts them in the first input at the moment of the click.
SEND_VIEW = "(...inputs) => [window.dgtalker.view(), ...inputs.slice(1)]"
# Gives the server's message to the browser's store: sliders to restore, or a file to download.
RECEIVE_MESSAGE = "(text) => { window.dgtalker.receive(text); return ''; }"


class _Quiet(TypedDict):
    show_progress: Literal["hidden"]
    api_visibility: Literal["private"]


QUIET: _Quiet = {"show_progress": "hidden", "api_visibility": "private"}  # for every event


@dataclass(frozen=True)
class VoiceCard:
    """Components under Voice."""

    audio: gr.Audio
    blinks: gr.Textbox
    rate: gr.Slider
    variant: gr.Number
    seed: gr.Number
    other: gr.Audio  # the voice that moves the upper face


@dataclass(frozen=True)
class VideoCard:
    """Components under Video. The last three are invisible."""

    camera: gr.Radio
    size: gr.Radio
    generate: gr.Button
    cancel: gr.Button
    report: gr.HTML
    save: gr.Button
    load: gr.UploadButton
    cached: gr.State  # this tab's CachedPerformance
    job_number: gr.Number  # of this tab's last job
    message: gr.Textbox  # from the server to the browser's store, as JSON


@dataclass(frozen=True)
class PictureTabs:
    """Components of the tabs Live and Video."""

    tabs: gr.Tabs
    view: gr.HTML
    video: gr.Video
    table: gr.DownloadButton


class Handlers:
    """The event handlers of the page. They share the engine and the users' jobs; all else comes with the event."""

    def __init__(self, engine: Engine, voice: VoiceCard, card: VideoCard, picture: PictureTabs) -> None:
        self.engine = engine
        self.voice, self.card, self.picture = voice, card, picture
        self.jobs = UserJobs()
        self.max_seconds = max_audio_seconds()
        self.inputs = [  # the fields of Inputs
            voice.audio, card.camera, card.size, voice.other, voice.blinks, voice.rate, voice.variant, voice.seed
        ]  # fmt: skip

    def connect(self, page: gr.Blocks) -> None:
        """Attach every handler to its button."""
        voice, card, picture = self.voice, self.card, self.picture
        job_outputs = [
            card.generate, card.cancel, card.report, picture.video, picture.table, picture.tabs, card.cached
        ]  # fmt: skip
        # A cancelled job ends by itself, at its next frame or when its turn comes. Gradio's own `cancels` would only
        # kill the reports, and its notice of that could overtake the answer to the click.
        clicked = card.generate.click(self.start_job, outputs=[*job_outputs, card.job_number], queue=False, **QUIET)
        job = clicked.then(
            self.generate, [picture.view, card.cached, card.job_number, *self.inputs], job_outputs, js=SEND_VIEW,
            concurrency_limit=1, concurrency_id="talk", trigger_mode="multiple", **QUIET,
        )  # fmt: skip
        job.failure(self.report_full_queue, outputs=job_outputs, queue=False, **QUIET)
        card.cancel.click(self.cancel, outputs=job_outputs, queue=False, **QUIET)
        saved = card.save.click(
            self.save, [picture.view, card.cached, *self.inputs], [card.message, card.report], js=SEND_VIEW,
            queue=False, **QUIET,
        )  # fmt: skip
        loaded = card.load.upload(
            self.load, [card.load, voice.audio], [*self.inputs, card.cached, card.message, card.report],
            queue=False, **QUIET,
        )  # fmt: skip
        for event in (saved, loaded):
            event.then(None, card.message, card.message, js=RECEIVE_MESSAGE, queue=False, **QUIET)
        page.unload(self.close_tab)

    # -- Generate and Cancel --------------------------------------------------------------------------------------

    def start_job(self, request: gr.Request) -> dict:
        """Generate, first: takes a job number, before the job waits in the queue, so that Cancel works at once."""
        card = self.card
        return {
            card.job_number: self.jobs.start(_user(request)).number,
            card.generate: gr.update(visible=False),
            card.cancel: gr.update(visible=True),
            card.report: status_html("working", "Waiting for a free place"),
        }

    def generate(
        self, view: Any, cached: CachedPerformance | None, number: float, request: gr.Request, *inputs: Any
    ) -> Iterator[dict]:
        """Generate, when the job's turn has come: makes the video and shows the reports of its progress."""
        user_job = self.jobs.find(_user(request), number)
        if user_job is None:
            return
        for report in run_job(self.engine, Job(view, Inputs(*inputs), cached), user_job, self.max_seconds):
            if self.jobs.find(_user(request), number) is None:
                return  # the user has started another job, whose reports are the ones to see
            yield self.show_report(report)

    def show_report(self, report: JobReport) -> dict:
        """The changes of the page that show a job's report."""
        card, picture = self.card, self.picture
        working = report.kind == "working"
        changes: dict = {  # buttons too: the last report of a cancelled job may come after the next one's click
            card.report: status_html(report.kind, report.message, report.fraction),
            card.generate: gr.update(visible=not working),
            card.cancel: gr.update(visible=working),
        }
        if report.kind == "done":
            changes |= {
                picture.video: str(report.video),
                picture.table: gr.update(value=str(report.table), visible=True),
                picture.tabs: gr.update(selected="video"),
                card.cached: report.cached,
            }
        return changes

    def report_full_queue(self) -> dict:
        """Gradio refused the job."""
        return self.show_report(JobReport("failed", "The studio could not take the job: try again in a moment."))

    def cancel(self, request: gr.Request) -> dict:
        """Cancel: stops the user's job."""
        self.jobs.cancel(_user(request))
        return self.show_report(JobReport("cancelled", CANCELLED))

    def close_tab(self, request: gr.Request) -> None:
        """The tab was closed or reloaded: stops the user's job and deletes its files."""
        self.jobs.drop(_user(request))

    # -- Save and Load session ------------------------------------------------------------------------------------

    def save(self, view: Any, cached: CachedPerformance | None, *inputs: Any) -> dict:
        """Save session: sends a session file to the browser."""
        try:
            download = session_io.save_session(self.engine, view, Inputs(*inputs), cached)
        except UserError as error:
            return {self.card.report: status_html("failed", str(error))}
        return {self.card.message: session_io.to_message(download=download)}

    def load(self, path: str | None, audio: str | None) -> dict:
        """Load session: sets the inputs here and the sliders in the browser."""
        card = self.card
        try:
            loaded = session_io.load_session(self.engine, path, [*([audio] if audio else []), *example_files()])
        except UserError as error:
            return {card.report: status_html("failed", str(error))}
        return dict(zip(self.inputs, dataclasses.astuple(loaded.inputs), strict=True)) | {
            card.cached: loaded.cached,
            card.message: session_io.to_message(restore=loaded.view),
            card.report: status_html("done", loaded.notes),
        }


def status_html(kind: str, message: str, fraction: float = 0.0) -> str:
    """The line under the Generate button; kind is working, done, cancelled or failed, fraction that of the bar."""
    bar = f'<div class="bar"><i style="width:{100 * fraction:.1f}%"></i></div>' if kind == "working" else ""
    role = "alert" if kind == "failed" else "status"
    return f'<div class="dg-status {kind}" role="{role}">{html.escape(message)}{bar}</div>'


def max_audio_seconds() -> float:
    """Seconds of audio that one job may have: $DGTALKER_MAX_AUDIO_SECONDS, or five minutes."""
    try:
        return float(os.environ["DGTALKER_MAX_AUDIO_SECONDS"])
    except (KeyError, ValueError):
        return 300.0


def _user(request: gr.Request) -> str:
    """What tells one browser tab from another."""
    return request.session_hash or ""
