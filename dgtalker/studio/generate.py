"""The job behind the Generate button: makes a talking video in a thread and reports its progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError
from dgtalker.media.ffmpeg import Cancelled
from dgtalker.studio.engine import Engine
from dgtalker.studio.session_io import CAMERAS, CachedPerformance, Inputs
from dgtalker.studio.user_state import UserJob

log = logging.getLogger(__name__)
CANCELLED = "Cancelled. Your sliders and settings are as you left them."
POLL_SECONDS = 0.1
SILENCE = 1e-3  # full scale is 1: a recording that never gets louder holds no speech


@dataclass(frozen=True)
class Job:
    """What the user asked for."""

    view: Any  # as the browser sent it
    inputs: Inputs
    cached: CachedPerformance | None = None  # curves to show again, if they are those of the inputs


@dataclass(frozen=True)
class JobReport:
    """One report of a running job. `kind` is working, done, cancelled or failed."""

    kind: str
    message: str
    fraction: float = 0.0
    video: Path | None = None
    table: Path | None = None
    cached: CachedPerformance | None = None  # the curves of the finished video


def run_job(engine: Engine, job: Job, user_job: UserJob, max_seconds: float) -> Iterator[JobReport]:
    """Make the video of `job` in the user's folder; yields reports, the last of kind done, cancelled or failed.

    Closing the iterator early stops the job.
    """
    latest = ("Listening to the audio", 0.0)
    final: list[JobReport | None] = []

    def progress(done: float, total: float | None = None, message: str | None = None) -> None:
        nonlocal latest
        latest = (message or latest[0], done / total if total else 0.0)

    def work() -> None:
        try:
            report = make_video(engine, job, user_job, max_seconds, progress)
        except Cancelled:
            report = None
        except UserError as error:
            report = JobReport("failed", str(error))
        except Exception:
            log.exception("the video could not be made")
            sentence = "The video could not be made: the server's log says why; your settings are untouched."
            report = JobReport("failed", sentence)
        final.append(report)

    if user_job.stop.is_set():
        yield JobReport("cancelled", CANCELLED)
        return
    start = time.monotonic()
    thread = threading.Thread(target=work, name="dgtalker-talk", daemon=True)
    thread.start()
    try:
        shown = None
        while thread.is_alive() and not user_job.stop.is_set():
            now = latest
            if now != shown:
                yield JobReport("working", _with_time_left(*now, time.monotonic() - start), now[1])
                shown = now
            thread.join(POLL_SECONDS)
        if user_job.stop.is_set():
            yield JobReport("cancelled", CANCELLED)  # said at once, whatever the work still has to finish
            thread.join()
        elif final[0]:
            yield final[0]
    finally:
        user_job.stop.set()


def make_video(
    engine: Engine, job: Job, user_job: UserJob, max_seconds: float, progress: Callable[..., None]
) -> JobReport | None:
    """The report of the finished video; None or ffmpeg.Cancelled once the user has cancelled.

    Raises UserError for bad input.
    """
    start, cancelled = time.monotonic(), user_job.stop.is_set
    inputs, cached = job.inputs, job.cached
    if not inputs.audio:
        if cached and cached.loaded and cached.session.audio:
            raise UserError(f"The session needs its sound '{cached.session.audio.name}': give it under Voice.")
        raise UserError("There is no audio yet: upload a file, record yourself or take an example.")
    check_audio(inputs.audio, max_seconds, cancelled)
    if inputs.other:
        check_audio(inputs.other, max_seconds, cancelled)
    inputs.check_choices()
    view, settings = engine.parse_view(job.view), inputs.settings
    if cached:
        from dgtalker.performance.session import Sound

        sounds = Sound.of(inputs.audio), Sound.of(inputs.other) if inputs.other else None
        cached = cached if cached.matches(view, *sounds, settings) else None
    made = engine.talk(
        view=view,
        audio=inputs.audio,
        folder=user_job.folder,
        camera=CAMERAS[inputs.camera],
        size=inputs.size,
        expression_from=inputs.other,
        settings=settings,
        cached=cached.session if cached else None,
        progress=progress,
        cancelled=cancelled,
    )
    if made is None:
        return None
    video, table, session = made
    if cached:  # the second voice of a loaded session need not be here
        session = replace(session, expression_audio=cached.session.expression_audio)
    ready = f"Ready in {time.monotonic() - start:.1f} s."
    return JobReport("done", ready, 1.0, video, table, CachedPerformance(session))


def check_audio(path: str, max_seconds: float, cancelled: Callable[[], bool]) -> None:
    """UserError unless `path` is a readable recording of at most `max_seconds` in which something can be heard.

    Raises ffmpeg.Cancelled once cancelled() is true.
    """
    from dgtalker.media.audio import load_audio

    if abs(load_audio(path, max_seconds=max_seconds, cancelled=cancelled)).max() < SILENCE:
        raise UserError("The recording is silent: check the microphone, or choose another file.")


def _with_time_left(message: str, fraction: float, elapsed: float) -> str:
    if fraction < 0.05 or elapsed < 2.0:
        return message
    return f"{message} · about {elapsed / fraction * (1 - fraction):.0f} s left"
