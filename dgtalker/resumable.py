"""Long runs that can be stopped and continued.

A run is asked to stop (Ctrl-C, or a `cancelled` callable), saves its state at the next safe moment and raises
TrainingStopped. The state is one safetensors file with a JSON header, written atomically: tensors (weights, optimiser
moments) and plain values (step, settings); nothing is pickled. A run continued from it takes the same steps as one
that was never stopped; its log and its time budget go on.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dgtalker.errors import UserError
from dgtalker.files import write_atomic

Progress = Callable[[float, float | None, str | None], None]  # (done, total, message)
Cancelled = Callable[[], bool]


class TrainingStopped(KeyboardInterrupt):
    """Stopped on request after the state was saved; the same command with --resume continues."""


def no_progress(done: float, total: float | None = None, message: str | None = None) -> None:
    """Progress callable that says nothing."""


def always_false() -> bool:
    """Cancelled callable of a run that nobody stops."""
    return False


@contextlib.contextmanager
def stop_on_interrupt(cancelled: Cancelled = always_false) -> Generator[Cancelled]:
    """Inside, Ctrl-C only makes the yielded callable true (a second Ctrl-C interrupts at once)."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancelled  # signals reach the main thread only
        return

    def handler(number, frame):
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: interrupted.is_set() or cancelled()
    finally:
        signal.signal(signal.SIGINT, before)


# ---- the state ----


def save_state(path: str | Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able values to one safetensors file, atomically. UserError if it cannot be written."""
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, save(plain, metadata={"values": json.dumps(dict(values))}))
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}.") from error


def load_state(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what save_state wrote. FileNotFoundError if there is none, UserError if it is damaged."""
    from safetensors import safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no mapping)
            return tensors, json.loads((file.metadata() or {}).get("values", "{}"))
    except Exception as error:  # safetensors' own error class, or JSON's
        raise UserError(f"The training state '{path}' is damaged; start again without --resume.") from error


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as `prefix/NAME`, so that several dictionaries share a file."""
    return {f"{prefix}/{k}": v for k, v in tensors.items()}


def select_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of add_prefix: tensors named `prefix/NAME`, as NAME."""
    return {k[len(prefix) + 1 :]: v for k, v in tensors.items() if k.startswith(prefix + "/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counters of an optimiser, named INDEX.NAME."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": torch.as_tensor(v) for i, entry in state.items() for k, v in entry.items() if v is not None}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors from optimizer_tensors back; learning rates stay those of `optimizer`."""
    entries: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        entries.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})


# ---- what goes on over all parts of a run ----


class RunLog:
    """Appends JSON lines {"t": seconds since start, ...} to a file."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.start = time.monotonic()

    def __call__(self, **values: Any) -> None:
        """Append one record; tensors become floats."""
        plain = {k: float(v) if isinstance(v, Tensor) else v for k, v in values.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"t": round(time.monotonic() - self.start, 2), **plain}) + "\n")


class IntervalTimer:
    """Callable that is true at most once per `seconds`: `if checkpoint_due(): ...`."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.last = time.monotonic()

    def __call__(self) -> bool:
        """Whether the time has come; if so, the next interval begins."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class TimeBudget:
    """A budget of minutes, of which `used_s` seconds were spent by earlier runs."""

    def __init__(self, minutes: float, used_s: float = 0.0):
        self.total = minutes * 60.0
        self.start = time.monotonic() - used_s

    @property
    def used_s(self) -> float:
        """Seconds spent, all runs together."""
        return time.monotonic() - self.start

    @property
    def fraction(self) -> float:
        """Part of the budget that is spent, at most 1."""
        return min(1.0, self.used_s / self.total) if self.total > 0 else 1.0

    @property
    def over(self) -> bool:
        """True when the budget is spent."""
        return self.used_s >= self.total
