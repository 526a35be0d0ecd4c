"""What the server keeps per user: a temporary folder and the switch that cancels their running job."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class UserJob:
    """The last job of one browser tab."""

    folder: Path
    number: int  # no other job of this server has it
    stop: threading.Event = field(default_factory=threading.Event)


class UserJobs:
    """Each user's last job, by Gradio's session hash; dropped, with its files, when the tab closes."""

    def __init__(self) -> None:
        self._jobs: dict[str, UserJob] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, user: str) -> UserJob:
        """A job with a new folder and a fresh stop switch; the user's previous job and its folder go."""
        with self._lock:
            old = self._jobs.get(user)
            if old:
                old.stop.set()
                shutil.rmtree(old.folder, ignore_errors=True)
            job = UserJob(Path(tempfile.mkdtemp(prefix="dgtalker-")), next(self._numbers))
            self._jobs[user] = job
        return job

    def find(self, user: str, number: float | None) -> UserJob | None:
        """The user's last job if it has this number; else None: the job is out of date."""
        with self._lock:
            job = self._jobs.get(user)
        return job if job and job.number == number else None

    def cancel(self, user: str) -> None:
        """Ask the user's running job to stop; nothing happens when there is none."""
        with self._lock:
            job = self._jobs.get(user)
        if job:
            job.stop.set()

    def drop(self, user: str) -> None:
        """Forget the user: stop their job and delete its files."""
        with self._lock:
            job = self._jobs.pop(user, None)
        if job:
            job.stop.set()
            shutil.rmtree(job.folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._jobs)
