"""Smoothness of W: how evenly the picture changes along the straight line between two people's latents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgtalker.evaluation.prior.held_out import cameras_of
from dgtalker.head.generator import Generator
from dgtalker.render import render

STEPS = 9


@torch.no_grad()
def measure_interpolation(
    generator: Generator, first: Tensor, last: Tensor, size: int, steps: int = STEPS
) -> dict[str, float]:
    """Measure `steps` equal steps from w `first` [W] to `last` [W] in frontal pictures; distances are RMSE.

    Returns:
        largest_step: the largest step over the mean one. 1: even; one jump: `steps`.
        curvature: root mean square second difference over the mean step. 0: a cross-fade; 1.4: unrelated steps.
        path: length of the path over the distance of its ends. 1: a cross-fade; moving edges make it longer.
    """
    shares = torch.linspace(0, 1, steps + 1)
    cameras = cameras_of(((0.0, 0.0),), size)
    pictures = torch.stack(
        [render(generator(torch.lerp(first, last, share)[None])[0], cameras)[0][0].clamp(0, 1) for share in shares]
    )
    moves = rmse(pictures[1:], pictures[:-1])
    bends = rmse(pictures[2:] + pictures[:-2], 2 * pictures[1:-1])
    mean = moves.mean().clamp_min(1e-9)
    return {
        "largest_step": float(moves.max() / mean),
        "curvature": float(bends.square().mean().sqrt() / mean),
        "path": float(moves.sum() / rmse(pictures[-1:], pictures[:1])[0].clamp_min(1e-9)),
    }


def rmse(a: Tensor, b: Tensor) -> Tensor:  # [n,H,W,3] x 2 -> [n]
    """Root mean square difference of pictures."""
    return (a - b).square().mean(dim=(1, 2, 3)).sqrt()


def mean_interpolation(generator: Generator, latents: list[Tensor], size: int) -> dict[str, float]:
    """Means over interpolations from each latent to the next one, and the worst of the largest steps."""
    walks = [measure_interpolation(generator, a, b, size) for a, b in zip(latents, latents[1:], strict=False)]
    if not walks:
        return {"walks": 0}
    figures = {name: float(np.mean([w[name] for w in walks])) for name in walks[0]}
    return {**figures, "worst_largest_step": max(w["largest_step"] for w in walks), "walks": len(walks)}
