"""Running one compiled loop on all cores: cached compilation, an atomic counter, and a small thread pool.

Kernels are functions that release the interpreter lock and take chunks from a shared counter until none is left.
Unlike numba's own `prange` this needs no threading layer (whose fallback aborts the process when two threads, such
as two users of the app, render at once), balances the load even when other programs use the cores, and compiles faster.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import FunctionType

import numba
import numpy as np
from numba import extending, types
from numba.core import cgutils

# No "nnan"/"ninf": masked lanes may hold garbage, and bad input must not become undefined behaviour.
FAST = {"contract", "reassoc", "arcp", "nsz"}


@cache
def _sources_hash() -> str:
    """Hash of the source files of this folder."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def jit(function: FunctionType) -> Callable:
    """numba.njit for kernels, cached on disk where a folder can be written (package, user cache, NUMBA_CACHE_DIR)."""
    # numba recompiles a cached function when its own file changes, but not when an imported constant or helper does;
    # the hash of all sources in the name makes them part of the cache's key.
    function.__qualname__ += "_" + _sources_hash()
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")(function)
    except RuntimeError:  # numba found no folder that it can write
        return numba.njit(nogil=True, fastmath=FAST, error_model="numpy")(function)


def intrinsic(generate: Callable) -> Callable:
    """numba.extending.intrinsic, with the type of what kernels call: a function without `typing_context`."""
    return extending.intrinsic(generate)


@intrinsic
def next_chunk(typing_context, counter):
    """Atomically take counter[0] and add one to it. counter: int64 array [1]."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, context.get_constant(types.int64, 1), "seq_cst")

    return types.int64(counter), generate


@intrinsic
def float_as_bits(typing_context, value):
    """Reinterpret a float32 as int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], cgutils.int32_t)

    return types.int32(types.float32), generate


@cache
def thread_count() -> int:
    """Cores this process may use: numba's count (affinity, NUMBA_NUM_THREADS), capped by a container's CPU quota."""
    count = numba.config.NUMBA_NUM_THREADS  # ty: ignore[missing-attribute] (set while numba loads)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no such limit on this system
    return count


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, thread_count() - 1), thread_name_prefix="render")


def run(kernel: Callable, *arguments, chunks: int) -> None:
    """Call kernel(counter, *arguments) on the calling thread and on pool threads; each takes chunks from the counter.

    A pool thread that has not begun when the caller has finished is not waited for.
    """
    counter = np.zeros(1, np.int64)
    helpers = min(thread_count(), chunks) - 1
    futures = [_pool(os.getpid()).submit(kernel, counter, *arguments) for _ in range(helpers)]
    try:
        kernel(counter, *arguments)
    finally:
        for future in futures:
            if not future.cancel():
                future.result()
