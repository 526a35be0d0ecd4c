"""Mixed precision for the generator's convolutions, where it is faster."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from dgtalker.errors import UserError
from dgtalker.head.generator import Generator

PRECISIONS = ("float32", "bfloat16", "auto")


def choose_precision(generator: Generator, wanted: str, batch: int) -> str:
    """Return "float32" or "bfloat16": `wanted`, or for "auto" the faster one on this GPU (on a CPU always float32).

    bfloat16 autocast is about a hundred times slower than float32 on CPUs without the instructions for it.
    """
    if wanted not in PRECISIONS:
        raise UserError(f"There is no precision '{wanted}': choose from {', '.join(PRECISIONS)}.")
    if wanted != "auto":
        return wanted
    if generator.w_mean.device.type != "cuda":
        return "float32"
    w = generator.w_mean.expand(batch, -1).clone()
    seconds = {name: _measure_seconds(generator, name, w) for name in ("float32", "bfloat16")}
    return min(seconds, key=seconds.__getitem__)


def set_precision(generator: Generator, name: str) -> None:
    """Run the convolutions, and nothing else, in this precision; their output is float32 either way."""
    module, device = generator.synthesis, generator.w_mean.device.type
    vars(module).pop("forward", None)
    if name == "bfloat16":
        plain = module.forward

        def forward(w: Tensor) -> Tensor:
            with torch.autocast(device, torch.bfloat16):
                return plain(w).float()

        module.forward = forward


def _measure_seconds(generator: Generator, name: str, w: Tensor, steps: int = 10) -> float:
    set_precision(generator, name)
    times = []
    for _ in range(steps):
        torch.cuda.synchronize()
        start = time.perf_counter()
        generator.synthesis(w).square().mean().backward()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    generator.zero_grad(set_to_none=True)
    set_precision(generator, "float32")
    return min(times)
