"""How fast rendering is on this machine: a head-sized scene of any number of Gaussians, timed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from dgtalker.camera import orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.render import render, render_frame


@dataclass(frozen=True)
class RenderTiming:
    """Median milliseconds of one view."""

    gaussians: int  # N
    size: int  # pixels, square
    frame_ms: float  # render_frame: forward only, uint8
    forward_ms: float  # render, no gradient wanted
    forward_backward_ms: float  # render and the gradients of all five attributes


def head_scene(count: int, seed: int = 0) -> Gaussians:
    """A stand-in for a head: flat, overlapping, nearly opaque Gaussians on the surface of an ellipsoid 2.5 dm tall.

    Spacing and footprint are those of the texels of a UV map: the standard deviation in the surface is 0.6 of the
    spacing, and 0.15 across it.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.tensor([0.8, 1.25, 1.0])
    index = torch.arange(count) + 0.5  # Fibonacci sphere: even spacing
    height = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    ring = (1 - height * height).sqrt()
    sphere = torch.stack([ring * angle.cos(), height, ring * angle.sin()], dim=-1)
    normal = torch.nn.functional.normalize(sphere / axes, dim=-1)
    # the rotation that takes z to the normal: half-way quaternion
    quats = torch.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], torch.zeros(count)], dim=-1)
    spacing = math.sqrt(13.0 / count)  # the ellipsoid's area is 13 dm^2
    wobble = torch.exp(0.2 * torch.randn(count, 3, generator=generator))
    return Gaussians(
        means=sphere * axes,
        quats=torch.nn.functional.normalize(quats + 1e-4, dim=-1),
        scales=torch.tensor([0.6, 0.6, 0.15]) * spacing * wobble,
        opacities=0.6 + 0.39 * torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


def benchmark_render(count: int = 16384, size: int = 256, seconds: float = 1.0) -> RenderTiming:
    """Time `count` Gaussians at `size` x `size` on the CPU, about `seconds` per kind; compilation is not counted."""
    gaussians = head_scene(count)
    camera = orbit_camera(20, 5, size)
    leaves = [tensor.requires_grad_() for tensor in vars(gaussians.detach()).values()]
    trained = Gaussians(*leaves)

    def train() -> None:
        images, alphas = render(trained, camera, backend="cpu")
        torch.autograd.grad(images.sum() + alphas.sum(), leaves)

    return RenderTiming(
        count,
        size,
        frame_ms=_median_ms(lambda: render_frame(gaussians, camera), seconds),
        forward_ms=_median_ms(lambda: render(gaussians, camera, backend="cpu"), seconds),
        forward_backward_ms=_median_ms(train, seconds),
    )


def _median_ms(function, seconds: float) -> float:
    function()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[len(times) // 2]
