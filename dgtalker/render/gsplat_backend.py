"""CUDA backend: gsplat (Ye et al. 2024).

Importing this module neither imports gsplat nor compiles anything. The first call may compile gsplat's kernels, which
takes minutes and needs the CUDA toolkit.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from dgtalker.errors import UserError


def gsplat_available() -> bool:
    """Whether the gsplat package is installed (nothing is imported)."""
    return find_spec("gsplat") is not None


def render_gsplat(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    colors: Tensor,  # [N, D]
    view: Tensor,  # [C, 4, 4]
    intrinsics: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    background: Tensor,  # [D]
    near: float,
    eps2d: float,
) -> tuple[Tensor, Tensor]:
    """Images [C,H,W,D] and alphas [C,H,W,1]. Raises UserError off CUDA or without gsplat."""
    if not means.is_cuda:
        raise UserError("The gsplat backend needs tensors on a CUDA device; use the cpu backend.")
    try:
        from gsplat import rasterization  # ty: ignore[import-not-found] (optional package)
    except ImportError as error:
        raise UserError("The gsplat backend needs the package gsplat: pip install gsplat.") from error
    # Values that are not finite must not reach the kernels: such Gaussians become transparent.
    attributes = torch.cat([means, quats, scales, opacities[:, None], colors], dim=-1)
    is_finite = attributes.isfinite().all(dim=-1)
    means, quats, scales, colors = (
        torch.where(is_finite[:, None], tensor, 1.0) for tensor in (means, quats, scales, colors)
    )  # fmt: skip
    images, alphas, _ = rasterization(
        means,
        quats,
        scales,
        torch.where(is_finite, opacities, 0.0),
        colors,
        view,
        intrinsics,
        width,
        height,
        near_plane=near,
        eps2d=eps2d,
        packed=False,
        backgrounds=background.expand(len(view), -1),
    )
    return images, alphas
