"""The processes of one training, as started by torchrun; a training started without it is a single one.

All processes draw the same global batch from the same random numbers and take their share of it, so that the sum of
their gradients is the gradient of a single process. Only the first process looks at the clock, writes, measures and can
be stopped; it broadcasts its decisions, so that all processes take the same steps.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from dgtalker.errors import UserError
from dgtalker.resumable import TrainingStopped

GROUP_TIMEOUT = timedelta(days=1)  # the others wait while the first process generates people


def world_size() -> int:
    """Number of processes of this training, from torchrun's environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def split_cores() -> None:
    """Give the renderer of each process its share of the cores. Call it before numba is imported.

    torchrun limits torch's own threads (OMP_NUM_THREADS).
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if local > 1:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // local)))


class ProcessGroup:
    """The processes of one training, seen from one of them; use as a context manager.

    Attributes:
        rank: number of this process.
        world: number of processes.
        device: where this process computes.
    """

    def __init__(self, device: str = "cpu"):
        self.world, self.device = world_size(), device
        self.rank = int(os.environ.get("RANK", "0")) if self.world > 1 else 0
        if self.world > 1 and device == "cuda":
            local = int(os.environ.get("LOCAL_RANK", "0"))
            if local >= torch.cuda.device_count():
                raise UserError(f"{local + 1} processes need as many GPUs; there are {torch.cuda.device_count()}.")
            torch.cuda.set_device(local)
            self.device = f"cuda:{local}"

    def __enter__(self) -> ProcessGroup:
        if self.world > 1:
            backend = "gloo" if self.device == "cpu" else "cpu:gloo,cuda:nccl"
            dist.init_process_group(backend, timeout=GROUP_TIMEOUT)
        return self

    def __exit__(self, *_) -> None:
        if self.world > 1:
            dist.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """True for the process that decides and writes."""
        return self.rank == 0

    def take_share(self, batch: Sequence) -> Sequence:
        """Return this process's items of a global batch: none, if there are more processes than items."""
        return batch[self.rank :: self.world]

    def broadcast_numbers(self, *numbers: float) -> list[float]:
        """Return the first process's numbers in every process."""
        if self.world == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def run_on_first(self, work: Callable[[], object]) -> None:
        """Run `work` in the first process only; the others wait, and fail if it failed.

        Raises what `work` raised; in the other processes TrainingStopped or UserError with the same sentence.
        """
        error: BaseException | None = None
        if self.is_first:
            try:
                work()
            except BaseException as caught:  # sent to the others before it is raised
                error = caught
        if self.world > 1:
            message: list[tuple[bool, str] | None] = [
                None if error is None else (isinstance(error, KeyboardInterrupt), str(error))
            ]
            dist.broadcast_object_list(message, 0, device=torch.device("cpu"))
            if error is None and message[0] is not None:
                stopped, sentence = message[0]
                raise TrainingStopped(sentence) if stopped else UserError(sentence)
        if error is not None:
            raise error

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by the sum over processes, in one message; a missing one counts as zero."""
        if self.world == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        totals = flat.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, total in zip(parameters, gradients, totals, strict=True):
            parameter.grad = gradient.copy_(total.view_as(gradient))

    def sum_by_name(self, values: Mapping[str, float | Tensor]) -> dict[str, float]:
        """Sum values of the same name over processes."""
        here = {name: float(value) for name, value in values.items()}
        if self.world == 1:
            return here
        every: list[dict[str, float]] = [{}] * self.world
        dist.all_gather_object(every, here)
        names = dict.fromkeys(name for some in every for name in some)
        return {name: math.fsum(some.get(name, 0.0) for some in every) for name in names}
