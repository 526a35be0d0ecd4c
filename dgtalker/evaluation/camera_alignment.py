"""Align a rendered head with the real frame on the upper face only.

Cameras of held-out frames come from landmarks alone and jitter by a pixel, which costs more PSNR than a wrong mouth.
Here an image-plane similarity (shift, scale, roll) is found by Gauss-Newton on the luminance under the upper mask
(Lucas and Kanade 1981), and becomes part of the camera. The mouth is never used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.metrics import luminance

if TYPE_CHECKING:
    from dgtalker.camera import Camera

ROUNDS = 3
MAX_SHIFT = 3.0  # pixels a round; a larger one has diverged
BLUR = 1.0  # pixels; lets the gradient reach further


def refine_camera(render: Callable[[Camera], np.ndarray], camera: Camera, real: np.ndarray, mask: np.ndarray) -> Camera:
    """Move the camera in its image plane so that `render(camera)` matches `real` under `mask`.

    render(camera) -> uint8 [H,W,3]; camera single; real uint8 [H,W,3]; mask [H,W] in [0,1], the upper face.
    The best of the tried cameras is returned, so the alignment error never rises.
    """
    target = _blur(luminance(real))
    best, best_error = camera, np.inf
    for _ in range(ROUNDS + 1):
        picture = _blur(luminance(render(camera)))
        error = float((mask * (picture - target) ** 2).sum())
        if error >= best_error:
            break
        best, best_error = camera, error
        step = similarity_step(picture, target, mask)
        if step is None:
            break
        camera = _move_camera(camera, *step)
    return best


def similarity_step(
    picture: np.ndarray, target: np.ndarray, mask: np.ndarray
) -> tuple[float, float, np.ndarray, np.ndarray] | None:
    """One Gauss-Newton step: (scale, roll, centre [2], shift [2]), or None if the region has too little texture.

    It moves picture's pixels x onto target's at centre + scale * R(roll) @ (x - centre) + shift.
    """
    rows, columns = np.nonzero(mask > 0.05)
    if len(rows) < 100:
        return None
    weight = mask[rows, columns]
    x, y = columns + 0.5, rows + 0.5
    centre = np.array([np.average(x, weights=weight), np.average(y, weights=weight)])
    dy, dx = np.gradient(picture)
    gx, gy = dx[rows, columns], dy[rows, columns]
    rx, ry = x - centre[0], y - centre[1]
    # Wanted: target(x) = picture(x - m), m = (scale - 1) r + roll perp(r) + shift; to first order picture - grad . m.
    jacobian = np.stack([gx * rx + gy * ry, -gx * ry + gy * rx, gx, gy], -1)
    residual = (picture - target)[rows, columns]
    normal = jacobian.T @ (jacobian * weight[:, None])
    if np.linalg.cond(normal) > 1e9:
        return None
    zoom, roll, *shift = np.linalg.solve(normal, jacobian.T @ (residual * weight))
    shift = np.clip(shift, -MAX_SHIFT, MAX_SHIFT)
    return 1 + float(np.clip(zoom, -0.05, 0.05)), float(np.clip(roll, -0.05, 0.05)), centre, shift


def _move_camera(camera: Camera, scale: float, roll: float, centre: np.ndarray, shift: np.ndarray) -> Camera:
    """Put shift and scale into the intrinsics, roll into a turn about the optical axis (square pixels assumed)."""
    import torch

    c, s = np.cos(roll), np.sin(roll)
    turn = np.array([[c, -s], [s, c]])
    principal = camera.intrinsics[:2, 2].double().numpy()
    moved = centre + scale * turn @ (principal - centre) + shift
    intrinsics = camera.intrinsics.clone()
    intrinsics[0, 0] *= scale
    intrinsics[1, 1] *= scale
    intrinsics[:2, 2] = torch.from_numpy(moved).to(intrinsics)
    spin = torch.eye(4, dtype=camera.world_to_camera.dtype)
    spin[:2, :2] = torch.from_numpy(turn).to(spin)
    return replace(camera, world_to_camera=spin @ camera.world_to_camera, intrinsics=intrinsics)


def _blur(image: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, BLUR)
