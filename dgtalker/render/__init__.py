"""Rendering: `render` over three backends with the semantics of gsplat's `rasterization`.

reference  dense PyTorch, slow; the other backends are tested against it (reference.py)
cpu        compiled with numba, forward and backward, on all cores (cpu.py)
gsplat     CUDA, for tensors on a GPU (gsplat_backend.py)

`render_frame` is the forward-only fast path of viewport and video. Splats are blended in cpu_raster.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.gaussians import Gaussians

BACKENDS = ("auto", "cpu", "reference", "gsplat")
NEAR_PLANE = 0.01  # decimetres
LOW_PASS = 0.3  # pixels^2 added to every covariance on screen, so that nothing falls between pixels
MAX_SIZE = 8192

__all__ = ["BACKENDS", "render", "render_frame"]


def render(
    gaussians: Gaussians,
    cameras: Camera,
    background: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    backend: str = "auto",
    *,
    near: float = NEAR_PLANE,
    eps2d: float = LOW_PASS,
) -> tuple[Tensor, Tensor]:
    """Render one set of N Gaussians from C cameras: images float32 [C,H,W,D] and alphas [C,H,W,1] in [0,1].

    A single camera counts as a batch of one. Colours may have any number of channels D; `background` has D values, or
    one for all channels (the default stands for white whatever D is). Differentiable by means, quats (normalised
    inside), scales, opacities, colours, background and world_to_camera. Images are not clamped. Gaussians with a
    value that is not finite are not drawn. backend "auto" is gsplat for tensors on CUDA where it is installed,
    else cpu, which computes in float32.
    Raises ValueError if shapes do not fit or the backend is unknown; UserError if the backend cannot run here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"Unknown render backend {backend!r}; choose one of {', '.join(BACKENDS)}.")
    _check(gaussians, cameras)
    device, channels = gaussians.means.device, gaussians.colors.shape[-1]
    # half precision and whole numbers are rendered in float32; only the reference keeps float64
    dtype = torch.float64 if gaussians.means.dtype == torch.float64 and backend == "reference" else torch.float32
    background = torch.as_tensor(background, dtype=dtype, device=device)
    if background.ndim == 1 and len(background) not in (0, channels) and bool((background == background[0]).all()):
        background = background[0]  # one value for all channels
    if background.ndim > 1 or (background.ndim == 1 and len(background) != channels):
        raise ValueError(f"background has {background.numel()} values, but colours have {channels} channels.")
    means, quats, scales, opacities, colors = (
        getattr(gaussians, name).to(device, dtype) for name in ("means", "quats", "scales", "opacities", "colors")
    )
    view, intrinsics = (
        (tensor[None] if tensor.ndim == 2 else tensor).to(device, dtype)
        for tensor in (cameras.world_to_camera, cameras.intrinsics)
    )
    width, height, background = cameras.width, cameras.height, background.expand(channels)
    if backend == "auto":
        from dgtalker.render.gsplat_backend import gsplat_available

        backend = "gsplat" if means.is_cuda and gsplat_available() else "cpu"
    if backend == "gsplat":
        from dgtalker.render.gsplat_backend import render_gsplat

        return render_gsplat(
            means, quats, scales, opacities, colors, view, intrinsics, width, height, background, near, eps2d
        )
    if backend == "reference":
        from dgtalker.render.reference import render_reference

        return render_reference(
            means, quats, scales, opacities, colors, view, intrinsics, width, height, background, near, eps2d
        )
    from dgtalker.render.cpu import render_cpu

    images, alphas = render_cpu(  # off the CPU, gradients flow back through the copies
        means.cpu(), quats.cpu(), scales.cpu(), opacities.cpu(), colors.cpu(), view.cpu(), intrinsics.cpu(),
        width, height, background.cpu(), near, eps2d,
    )  # fmt: skip
    return images.to(device), alphas.to(device)


def render_frame(gaussians: Gaussians, camera: Camera, background: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """One picture, forward only: uint8 [H,W,3]. The fast path of viewport and video; RGB colours, one camera.

    Equal to `render` up to rounding. Raises ValueError if shapes do not fit.
    """
    _check(gaussians, camera)
    if gaussians.colors.shape[-1] != 3 or camera.world_to_camera.ndim != 2 or len(background) != 3:
        raise ValueError("render_frame takes RGB colours, an RGB background and a single camera.")
    if gaussians.means.is_cuda:
        image = render(gaussians.detach(), camera, background)[0][0]
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
    from dgtalker.render.cpu import render_bytes

    arrays = [
        np.ascontiguousarray(tensor.detach().numpy(), np.float32)
        for tensor in (
            gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors,
            camera.world_to_camera[None], camera.intrinsics[None],
        )
    ]  # fmt: skip
    return render_bytes(
        *arrays, camera.width, camera.height, np.asarray(background, np.float32), NEAR_PLANE, LOW_PASS
    )[0]  # fmt: skip


def _check(gaussians: Gaussians, cameras: Camera) -> None:
    means = gaussians.means
    if means.ndim != 2:
        raise ValueError(f"render takes one set of Gaussians, means [N, 3], not {list(means.shape)}; index the batch.")
    count = means.shape[0]
    expected = {"means": (count, 3), "quats": (count, 4), "scales": (count, 3), "opacities": (count,)}
    for name, shape in expected.items():
        if tuple(getattr(gaussians, name).shape) != shape:
            raise ValueError(f"{name} must be {list(shape)}, not {list(getattr(gaussians, name).shape)}.")
    colors = gaussians.colors
    if colors.ndim != 2 or colors.shape[0] != count or colors.shape[1] < 1:
        raise ValueError(f"colors must be [{count}, D], not {list(colors.shape)}.")
    view, intrinsics = cameras.world_to_camera, cameras.intrinsics
    if view.ndim not in (2, 3) or view.shape[-2:] != (4, 4) or intrinsics.shape != (*view.shape[:-2], 3, 3):
        raise ValueError(
            f"Cameras must be [C, 4, 4] and [C, 3, 3], not {list(view.shape)} and {list(intrinsics.shape)}."
        )
    if not (1 <= cameras.width <= MAX_SIZE and 1 <= cameras.height <= MAX_SIZE):
        raise ValueError(f"Image size must lie between 1 and {MAX_SIZE}, not {cameras.width} x {cameras.height}.")
