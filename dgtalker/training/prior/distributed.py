"""The processes of one training, as started by torchrun; a training started without it is a single one.

All processes draw the same global batch from the same random numbers and take their share of it, so that the sum of
their gradients is the gradient that one process would have found. The first one alone looks at the clock, writes,
measures and is stopped; the others do as it says, so that they can never part.
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

GROUP_TIMEOUT = timedelta(days=1)  # the others wait for the first one while it makes people


def world_size() -> int:
    """Processes of this training, from torchrun's environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def split_cores() -> None:
    """Give the renderer's threads of each process their part of the machine; before numba is imported.

    torch's own threads are torchrun's affair (it sets OMP_NUM_THREADS).
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if local > 1:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // local)))


class ProcessGroup:
    """This process among the others; use as a context manager.

    Attributes:
        rank, world: number of this process, and how many there are.
        device: where it computes.
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
        """This process's items of a global batch; none, if it has fewer items than there are processes."""
        return batch[self.rank :: self.world]

    def broadcast_numbers(self, *decisions: float) -> list[float]:
        """The first process's numbers, everywhere."""
        if self.world == 1:
            return list(decisions)
        told = torch.tensor(decisions, dtype=torch.float64)
        dist.broadcast(told, 0)
        return told.tolist()

    def run_on_first(self, work: Callable[[], object]) -> None:
        """Let the first process do something alone; the others wait, and fail if it failed.

        Raises whatever `work` raised; elsewhere TrainingStopped or UserError with the same sentence.
        """
        error: BaseException | None = None
        if self.is_first:
            try:
                work()
            except BaseException as caught:  # told to the others before it goes on its way
                error = caught
        if self.world > 1:
            told = [None if error is None else (isinstance(error, KeyboardInterrupt), str(error))]
            dist.broadcast_object_list(told, 0, device=torch.device("cpu"))
            if error is None and told[0] is not None:
                stopped, sentence = told[0]
                raise TrainingStopped(sentence) if stopped else UserError(sentence)
        if error is not None:
            raise error

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with the first process's."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by the sum over processes, in one message; a missing one counts as zero."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([p.grad.flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad.copy_(part.view_as(parameter))

    def sum_by_name(self, values: Mapping[str, float | Tensor]) -> dict[str, float]:
        """Sums over processes, by name, of what each of them has."""
        here = {name: float(value) for name, value in values.items()}
        if self.world == 1:
            return here
        every: list = [None] * self.world
        dist.all_gather_object(every, here)
        names = dict.fromkeys(name for some in every for name in some)
        return {name: math.fsum(some.get(name, 0.0) for some in every) for name in names}
