"""What the server keeps per user: a temporary folder and the switch that cancels their running job."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Session:
    """One browser tab."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)


class Sessions:
    """Sessions by Gradio's session hash; dropped, with their files, when the tab closes."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def start_job(self, key: str) -> Session:
        """A session with a new folder and a fresh stop switch; the user's previous job is stopped, its folder gone."""
        with self._lock:
            old = self._sessions.get(key)
            if old:
                old.stop.set()
                shutil.rmtree(old.folder, ignore_errors=True)
            session = Session(Path(tempfile.mkdtemp(prefix="dgtalker-")))
            self._sessions[key] = session
        return session

    def current(self, key: str) -> Session:
        """The session of the job that the user started last."""
        with self._lock:
            session = self._sessions.get(key)
        return session or self.start_job(key)

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
