"""Worker processes, progress and bad inputs of preprocessing."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import torch

from dgtalker.errors import UserError
from dgtalker.video.landmarks import block_mediapipe_usage_reports

log = logging.getLogger(__name__)

Progress = Callable[[float, float | None, str | None], None]


class PreprocessStopped(KeyboardInterrupt):
    """Stopped on request; the same command again keeps what is finished."""


class InputProblems:
    """Faults of the inputs: warnings while something usable is left, else an error."""

    def __init__(self):
        self.found: dict[str, UserError] = {}  # by sentence: several workers may meet the same one
        self.warned = 0

    def add(self, error: UserError) -> None:
        """Remember a fault; the same sentence counts once."""
        self.found.setdefault(str(error), error)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> bool:
        if isinstance(error, UserError):
            self.add(error)
            return True
        return False

    def warn_or_raise(self, usable) -> None:
        """Warn about what was found since the last call; with nothing usable, raise the first fault instead."""
        if not usable:
            raise next(iter(self.found.values()), UserError("No usable clip is left."))
        for sentence in list(self.found)[self.warned :]:
            log.warning("%s", sentence)
        self.warned = len(self.found)


class ProgressCounter:
    """Progress over both passes; cropping a frame costs about three times as much as finding its face."""

    def __init__(self, progress: Progress, frames: int):
        self.progress, self.done, self.total = progress, 0.0, 4.0 * frames

    def add(self, frames: float, message: str) -> None:
        """Report that `frames` more are done."""
        self.done = min(self.total, self.done + frames)
        self.progress(self.done, self.total, message)


class WorkerPool:
    """Worker processes for MediaPipe and pixels; they have no network (see landmarks.py)."""

    def __init__(self, workers: int, cancelled: Callable[[], bool]):
        self.workers, self.cancelled = workers, cancelled

    def __enter__(self) -> WorkerPool:
        context = multiprocessing.get_context("spawn")  # torch and MediaPipe do not survive a fork
        self.executor = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.executor.shutdown(wait=kind is None, cancel_futures=True)

    def run(self, function: Callable, jobs: list[tuple]) -> Iterator[tuple[int, object]]:
        """Yields (index of the job, result or UserError) as jobs finish; raises PreprocessStopped."""
        futures: dict[Future, int] = {self.executor.submit(function, *job): i for i, job in enumerate(jobs)}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            if self.cancelled():
                raise PreprocessStopped("Preprocessing was stopped; run it again to continue.")
            for future in done:
                try:
                    yield futures[future], future.result()
                except UserError as error:
                    yield futures[future], error
                except BrokenProcessPool as error:
                    raise UserError(
                        "A worker process of preprocess died, probably for lack of memory; close other programs."
                    ) from error


def _start_worker() -> None:
    import cv2

    block_mediapipe_usage_reports()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MediaPipe's C++ log; exceptions reach the parent anyway
    os.nice(5)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
