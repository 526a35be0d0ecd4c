"""The Generate button: a talking video made in a thread, reported as a stream of progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError
from dgtalker.studio.engine import Engine
from dgtalker.studio.session_io import CAMERAS, Inputs, Kept
from dgtalker.studio.user_state import Session

log = logging.getLogger(__name__)
CANCELLED = "Cancelled. Your sliders and settings are as you left them."
POLL_SECONDS = 0.1
SILENCE = 1e-3  # full scale is 1: a recording that never gets louder holds no speech


@dataclass(frozen=True)
class Progress:
    """One report of a running job. `kind` is working, done, cancelled or failed."""

    kind: str
    message: str
    fraction: float = 0.0
    video: Path | None = None
    table: Path | None = None
    kept: Kept | None = None  # the curves of the finished video


@dataclass(frozen=True)
class Job:
    """What the user asked for."""

    view: Any  # as the browser sent it
    inputs: Inputs
    kept: Kept | None = None  # curves to show again, if they are those of the inputs


def check_audio(path: str | None, longest: float) -> None:
    """UserError unless `path` is a readable recording of at most `longest` seconds in which something can be heard."""
    if not path:
        raise UserError("There is no audio yet: upload a file, record yourself or take an example.")
    from dgtalker.media.audio import load_audio

    if abs(load_audio(path, max_seconds=longest)).max() < SILENCE:
        raise UserError("The recording is silent: check the microphone, or choose another file.")


def run(engine: Engine, job: Job, session: Session, longest: float) -> Iterator[Progress]:
    """Make the video of `job` in the session's folder; yields reports, the last of kind done, cancelled or failed.

    Closing the iterator early stops the job.
    """
    reports: dict[str, Any] = {"fraction": 0.0, "message": "Listening to the audio"}
    outcome: dict[str, Any] = {}

    def progress(done: float, total: float | None = None, message: str | None = None) -> None:
        reports.update(fraction=done / total if total else 0.0, message=message or reports["message"])

    def work() -> None:
        try:
            inputs = job.inputs
            if not inputs.audio and job.kept and job.kept.loaded and job.kept.session.audio:
                raise UserError(f"The session needs its sound '{job.kept.session.audio.name}': give it under Voice.")
            check_audio(inputs.audio, longest)
            if inputs.other:
                check_audio(inputs.other, longest)
            inputs.check_choices()
            outcome["files"] = engine.talk(
                view=engine.parse(job.view),
                audio=inputs.audio,
                folder=session.folder,
                camera=CAMERAS[inputs.camera],
                size=inputs.size,
                expression_from=inputs.other,
                settings=inputs.settings,
                kept=job.kept,
                progress=progress,
                cancelled=session.stop.is_set,
            )
        except UserError as error:
            outcome["error"] = str(error)
        except Exception:
            log.exception("the video could not be made")
            outcome["error"] = "The video could not be made: the server's log says why; your settings are untouched."

    if session.stop.is_set():
        yield Progress("cancelled", CANCELLED)
        return
    start = time.monotonic()
    thread = threading.Thread(target=work, name="dgtalker-talk", daemon=True)
    thread.start()
    try:
        last = None
        while thread.is_alive() and not session.stop.is_set():
            now = (reports["fraction"], reports["message"])
            if now != last:
                yield Progress("working", _with_time_left(now[1], now[0], time.monotonic() - start), now[0])
                last = now
            thread.join(POLL_SECONDS)
        if session.stop.is_set():
            yield Progress("cancelled", CANCELLED)  # said at once, whatever the work still has to finish
            thread.join()
        elif "error" in outcome:
            yield Progress("failed", outcome["error"])
        else:
            video, table, made = outcome["files"]
            kept = made and Kept(made)
            yield Progress("done", f"Ready in {time.monotonic() - start:.1f} s.", 1.0, video, table, kept)
    finally:
        session.stop.set()


def _with_time_left(message: str, fraction: float, elapsed: float) -> str:
    if fraction < 0.05 or elapsed < 2.0:
        return message
    return f"{message} · about {elapsed / fraction * (1 - fraction):.0f} s left"
