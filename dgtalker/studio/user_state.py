"""What the server keeps per user: a temporary folder and the switch that cancels their running job."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Session:
    """The last job of one browser tab."""

    folder: Path
    ticket: int  # of the job: no other job of this server has it
    stop: threading.Event = field(default_factory=threading.Event)


class Sessions:
    """Sessions by Gradio's session hash; dropped, with their files, when the tab closes."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._tickets = itertools.count(1)
        self._lock = threading.Lock()

    def start_job(self, key: str) -> Session:
        """A session with a new folder and a fresh stop switch; the user's previous job is stopped, its folder gone."""
        with self._lock:
            old = self._sessions.get(key)
            if old:
                old.stop.set()
                shutil.rmtree(old.folder, ignore_errors=True)
            session = Session(Path(tempfile.mkdtemp(prefix="dgtalker-")), next(self._tickets))
            self._sessions[key] = session
        return session

    def find(self, key: str, ticket: float | None) -> Session | None:
        """The user's session if `ticket` is that of the job they started last; else None: the job is out of date."""
        with self._lock:
            session = self._sessions.get(key)
        return session if session and session.ticket == ticket else None

    def cancel(self, key: str) -> None:
        """Ask the user's running job to stop; nothing happens when there is none."""
        with self._lock:
            session = self._sessions.get(key)
        if session:
            session.stop.set()

    def drop(self, key: str) -> None:
        """Forget the user and delete their files."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session:
            session.stop.set()
            shutil.rmtree(session.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._sessions)
