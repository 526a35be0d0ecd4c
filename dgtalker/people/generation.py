"""Makes the people that a cache lacks, in worker processes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from dgtalker import resumable
from dgtalker.errors import UserError
from dgtalker.people.cache_key import code_fingerprint
from dgtalker.people.target_cache import HELD_OUT, PeopleCache, bytes_per_person

PEOPLE_PER_WORKER = 8  # a worker loads 12 seconds long: not worth it for fewer
MAX_WORKERS = 16  # unless asked for: each takes 1 GB
STOPPED = "Stopped; the same command again continues."

log = logging.getLogger(__name__)


def list_wanted_people(people: int, captured: int, held_out: int) -> list[tuple[int, bool]]:
    """(number, with pictures?) of everyone to make: held-out people, then training people, those with pictures first.

    Raises UserError for impossible counts.
    """
    if people < 1 or not 0 <= captured <= people or held_out < 0:
        raise UserError(f"{captured} people with pictures of {people} people and {held_out} held-out ones: impossible.")
    return [(HELD_OUT + i, True) for i in range(held_out)] + [(i, i < captured) for i in range(people)]


def make_people(
    cache: PeopleCache,
    wanted: Sequence[tuple[int, bool]],
    workers: int | None = None,
    progress: resumable.Progress = resumable.no_progress,
    cancelled: resumable.Cancelled = resumable.always_false,
    enough: Callable[[], bool] = resumable.always_false,
) -> None:
    """Make whoever of `wanted` the cache lacks, in their order.

    Args:
        cache: where they are kept.
        wanted: (number, with pictures?) of everyone, from `list_wanted_people`.
        workers: processes, of about 1 GB each; 1 makes them in this one. Default: one a core, at most 16.
        progress: progress(done, total, message) in people.
        cancelled: asked after every person.
        enough: no further people once this is true.

    Raises:
        UserError: the disk is full, assets are missing, a worker died.
        TrainingStopped: `cancelled` was true; the people made so far stay.
    """
    missing = [job for job in wanted if not cache.has(*job)]
    if not missing:
        return
    _check_disk(cache, missing)
    workers = min(workers or min(count_cores(), MAX_WORKERS), -(-len(missing) // PEOPLE_PER_WORKER))
    done = len(wanted) - len(missing)
    log.info("%d people to make in %s", len(missing), cache.folder)
    progress(done, len(wanted), "people")
    run = _make_here if workers <= 1 else _make_in_workers
    for count, index in enumerate(run(cache, missing, workers, cancelled, enough), done + 1):
        progress(count, len(wanted), f"people: {'held-out ' if index >= HELD_OUT else ''}{index % HELD_OUT}")


def count_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_disk(cache: PeopleCache, missing: Sequence[tuple[int, bool]]) -> None:
    texels = cache.config.map_size**2
    need = sum(bytes_per_person(cache.config, texels, pictures) for _, pictures in missing)
    there = next(p for p in (cache.folder, *cache.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise UserError(
            f"{len(missing)} people need about {need / 1e9:.1f} GB, and {cache.folder} has {free / 1e9:.1f} GB left."
        )


def _make_person(cache: PeopleCache, index: int, pictures: bool) -> int:
    cache.texels(index)
    if pictures:
        cache.views(index)
    return index


def _make_here(
    cache: PeopleCache,
    missing: Sequence[tuple[int, bool]],
    workers: int,
    cancelled: resumable.Cancelled,
    enough: Callable[[], bool],
) -> Iterator[int]:
    for job in missing:
        if cancelled():
            raise resumable.TrainingStopped(STOPPED)
        if enough():
            return
        yield _make_person(cache, *job)


def _make_in_workers(
    cache: PeopleCache,
    missing: Sequence[tuple[int, bool]],
    workers: int,
    cancelled: resumable.Cancelled,
    enough: Callable[[], bool],
) -> Iterator[int]:
    context = multiprocessing.get_context("spawn")  # torch and VTK do not survive a fork
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(cache, code_fingerprint())
    )
    queue, pending, finished = iter(missing), set(), False
    try:
        while True:
            # Few at a time: those begun are finished whatever happens, so that a stop takes seconds.
            if not enough():
                pending |= {
                    pool.submit(_make_in_this_worker, *job) for job in islice(queue, 2 * workers - len(pending))
                }
            if not pending:
                break
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            if cancelled():
                raise resumable.TrainingStopped(STOPPED)
        finished = True
    except BrokenProcessPool as error:
        raise UserError(
            "A worker process died, probably for lack of memory: close other programs or lower --workers."
        ) from error
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)


_cache: PeopleCache | None = None  # of this worker process


def _start_worker(cache: PeopleCache, code: str) -> None:
    global _cache
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # VTK's complaints about displays; exceptions reach the parent anyway
    os.nice(5)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _cache = cache if code == code_fingerprint() else None


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()  # returns when the parent is gone, even if it was killed
    os._exit(1)


def _make_in_this_worker(index: int, pictures: bool) -> int:
    if _cache is None:
        raise UserError("The code that makes people was changed while it ran; start the command again.")
    return _make_person(_cache, index, pictures)
