"""What training stages share: one optimisation loop with a budget, a log, progress and cancellation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.gaussians import Gaussians
from dgtalker.resumable import Cancelled, Progress, RunLog, TimeBudget, TrainingStopped, always_false, no_progress

FINAL_RATE = 0.05  # of the learning rate, at the end of the cosine schedule


def default_render(gaussians: Gaussians, cameras: Camera) -> tuple[Tensor, Tensor]:
    """The project's renderer on white."""
    from dgtalker.render import render

    return render(gaussians, cameras)


@dataclass(frozen=True)
class Stage:
    """Where a stage reports, when it stops, how it renders, on which device it computes."""

    name: str = "stage"
    log: RunLog | None = None
    progress: Progress = no_progress
    cancelled: Cancelled = always_false
    span: tuple[float, float] = (0.0, 1.0)  # this stage's part of the whole pipeline's progress
    render: Callable[[Gaussians, Camera], tuple[Tensor, Tensor]] = field(default=default_render)
    device: torch.device = torch.device("cpu")
    seed: int = 0

    def report(self, fraction: float, message: str) -> None:
        """Progress within the stage; raises TrainingStopped when asked to stop."""
        if self.cancelled():
            raise TrainingStopped("Stopped; the finished stages are kept, --resume continues after them.")
        start, end = self.span
        self.progress(start + (end - start) * fraction, 1.0, f"{self.name}: {message}")

    def substage(self, start: float, end: float) -> Stage:
        """A part of this stage, from `start` to `end` as fractions of its span."""
        first, last = self.span
        return replace(self, span=(first + (last - first) * start, first + (last - first) * end))

    def log_values(self, **values) -> None:
        """Write one line to the log."""
        if self.log is not None:
            self.log(stage=self.name, **values)

    def optimise(
        self,
        groups: list[dict],
        step: Callable[[int, float], dict[str, Tensor]],
        minutes: float,
        max_steps: int,
        after: Callable[[], None] | None = None,
    ) -> int:
        """Adam on parameter groups until the minutes or the steps are used up; the learning rates fall by a cosine.

        step(number, fraction) returns named losses; "loss" is minimised, the others are logged. Returns the steps done.
        """
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
        rates = [group["lr"] for group in optimizer.param_groups]
        box, number, totals = TimeBudget(minutes), 0, {}
        while number < max_steps and not box.over:
            fraction = max(box.fraction, number / max_steps)
            factor = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * fraction))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor * min(1.0, (number + 1) / 10)
            losses = step(number, fraction)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()
            optimizer.step()
            if after is not None:
                after()
            for key, value in losses.items():
                value = float(value.detach())
                totals[key] = 0.95 * totals.get(key, value) + 0.05 * value
            if number % 20 == 0:
                self.log_values(step=number, **{key: round(value, 5) for key, value in totals.items()})
            self.report(fraction, f"step {number}, loss {totals['loss']:.4f}")
            number += 1
        self.log_values(
            step=number, seconds=round(box.used_s, 1), **{key: round(value, 5) for key, value in totals.items()}
        )
        return number


class ShuffledIndices:
    """Endless random order of 0..count-1, each number once per epoch."""

    def __init__(self, count: int, seed: int = 0):
        self.count, self.random = count, torch.Generator().manual_seed(seed)
        self.pending: list[int] = []

    def next_indices(self, size: int) -> list[int]:
        """Return the next `size` numbers."""
        while len(self.pending) < size:
            self.pending += torch.randperm(self.count, generator=self.random).tolist()
        indices, self.pending = self.pending[:size], self.pending[size:]
        return indices
