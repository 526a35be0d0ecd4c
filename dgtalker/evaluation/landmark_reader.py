"""Landmarks of many pictures, by MediaPipe in worker processes.

Real and rendered frames go through the same detector, each frame on its own, so that neither is smoothed over time.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from dgtalker.video.landmarks import (
    FACE_LANDMARKER,
    LANDMARKS,
    Landmarker,
    block_mediapipe_usage_reports,
    find_model,
    import_mediapipe,
)

CHUNK = 16  # pictures a task: enough to hide the cost of sending them
_landmarker: Landmarker | None = None  # of this worker process


class LandmarkReader:
    """Callable that reads landmarks with `processes` workers; a context manager.

    Raises UserError if MediaPipe or its model is absent.
    """

    def __init__(self, model: str | Path | None = None, processes: int = 2):
        import_mediapipe()
        path = str(find_model(FACE_LANDMARKER, model))
        processes = max(1, min(processes, os.cpu_count() or 1))
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the parent's threads half-way
        self._pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_start, initargs=(path,))

    def __enter__(self) -> LandmarkReader:
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Landmarks float32 [T,478,2] in pixels of uint8 pictures [T] of [H,W,3]; NaN where no face was found."""
        chunks = [np.stack(pictures[i : i + CHUNK]) for i in range(0, len(pictures), CHUNK)]
        try:
            return np.concatenate(list(self._pool.map(_read, chunks)))
        except BrokenProcessPool as error:
            raise RuntimeError("the landmark reader's process ended unexpectedly") from error


def _start(model: str) -> None:
    import atexit
    import signal

    global _landmarker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MediaPipe's C++ log; exceptions reach the parent anyway
    block_mediapipe_usage_reports()
    _landmarker = Landmarker(model, max_faces=1)
    atexit.register(_landmarker.close)


def _read(pictures: np.ndarray) -> np.ndarray:
    assert _landmarker is not None  # set by _start
    points = np.full((len(pictures), LANDMARKS, 2), np.nan, np.float32)
    for i, picture in enumerate(pictures):
        faces = _landmarker.detect(picture)
        if faces:
            points[i] = faces[0].landmarks
    return points
