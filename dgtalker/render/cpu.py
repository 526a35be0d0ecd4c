"""CPU backend: the compiled projection and rasteriser as one differentiable PyTorch operation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgtalker.render import parallel
from dgtalker.render.cpu_projection import (
    CHUNK,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
    project,
    project_backward,
    sort_into_tiles,
)
from dgtalker.render.cpu_raster import rasterize, rasterize_backward

# Stand-ins for the outputs that a call does not want, of the types the kernel was compiled for.
NO_BYTES = np.empty((0, 0, 0, 3), np.uint8)
NO_IMAGES = np.empty((0, 0, 0, 3), np.float32)
NO_ALPHAS = np.empty((0, 0, 0), np.float32)


class Tiles(NamedTuple):
    """Projected Gaussians listed by tile; see cpu_projection."""

    records: np.ndarray  # [C, N, RECORD] float32
    slots: np.ndarray  # [C*N + 1] int64
    starts: np.ndarray  # [C*tiles + 1] int64
    items: np.ndarray  # [pairs] int32
    pair_slots: np.ndarray  # [pairs] int32


def _array(tensor: Tensor) -> np.ndarray:
    """Contiguous float32 numpy view of a CPU tensor (a copy only where needed)."""
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def _pad_channels(values: np.ndarray) -> np.ndarray:
    """Pad the last axis with zeros to a multiple of three, the number of channels a kernel composites at once."""
    missing = -values.shape[-1] % 3
    return np.ascontiguousarray(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])) if missing else values


def _make_tiles(means, quats, scales, opacities, colors, view, intrinsics, width, height, near, eps2d) -> Tiles:
    cameras, count = len(view), len(means)
    tiles_x, tiles_y = -(-width // TILE_WIDTH), -(-height // TILE_HEIGHT)
    records = np.empty((cameras, count, RECORD), np.float32)
    boxes = np.empty((cameras, count, 4), np.int32)
    counts = np.empty(cameras * count, np.int32)
    parallel.run(
        project, means, quats, scales, opacities, colors, view, intrinsics, width, height,
        np.float32(near), np.float32(eps2d), records, boxes, counts, chunks=cameras * -(-count // CHUNK),
    )  # fmt: skip
    slots = np.zeros(cameras * count + 1, np.int64)
    np.cumsum(counts, out=slots[1:])
    starts = np.empty(cameras * tiles_x * tiles_y + 1, np.int64)
    items, pair_slots = np.empty(slots[-1], np.int32), np.empty(slots[-1], np.int32)
    parallel.run(
        sort_into_tiles, records, boxes, slots, tiles_x, tiles_y, starts, items, pair_slots, chunks=cameras
    )  # fmt: skip
    return Tiles(records, slots, starts, items, pair_slots)


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, means, quats, scales, opacities, colors, view, background, intrinsics, width, height, near, eps2d
    ):  # fmt: skip
        inputs = [_array(tensor) for tensor in (means, quats, scales, opacities)]
        padded_colors, padded_background = _pad_channels(_array(colors)), _pad_channels(_array(background))
        view_array, intrinsics_array = _array(view), _array(intrinsics)
        tiles = _make_tiles(*inputs, padded_colors, view_array, intrinsics_array, width, height, near, eps2d)
        cameras, channels = len(view_array), colors.shape[-1]
        images = np.empty((cameras, height, width, channels), np.float32)
        alphas = np.empty((cameras, height, width), np.float32)
        for group in range(padded_colors.shape[1] // 3):
            parallel.run(
                rasterize, tiles.records, tiles.starts, tiles.items, padded_colors, group,
                padded_background, width, height, images, alphas, NO_BYTES, False, chunks=len(tiles.starts) - 1,
            )  # fmt: skip
        image_tensor, alpha_tensor = torch.from_numpy(images), torch.from_numpy(alphas)[..., None]
        # saved as tensors, so that autograd notices if the caller changes one in place before the backward pass
        ctx.save_for_backward(means, quats, scales, opacities, colors, view, intrinsics, image_tensor, alpha_tensor)
        ctx.tiles = tiles
        return image_tensor, alpha_tensor

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_images, v_alphas):
        *inputs, colors, view, intrinsics, images, alphas = map(_array, ctx.saved_tensors)
        colors, alphas, tiles = _pad_channels(colors), alphas[..., 0], ctx.tiles
        count, channels = len(inputs[0]), images.shape[-1]
        v_images_array, v_alphas_array = _array(v_images), _array(v_alphas[..., 0])
        cameras, height, width = alphas.shape
        pair_gradients = np.zeros((len(tiles.items), 6 + channels), np.float32)
        for group in range(colors.shape[1] // 3):
            parallel.run(
                rasterize_backward, tiles.records, tiles.starts, tiles.items, tiles.pair_slots, colors, group,
                images, alphas, v_images_array, v_alphas_array, pair_gradients, chunks=len(tiles.starts) - 1,
            )  # fmt: skip
        gradients = [np.empty_like(array) for array in inputs]
        v_colors = np.empty((count, channels), np.float32)
        chunks = -(-count // CHUNK)
        v_view = np.zeros((chunks if ctx.needs_input_grad[5] else 0, cameras, 4, 4), np.float64)
        parallel.run(
            project_backward, pair_gradients, tiles.slots, *inputs, view, intrinsics, width, height, tiles.records,
            *gradients, v_colors, v_view, chunks=chunks,
        )  # fmt: skip
        v_background = None
        if ctx.needs_input_grad[6]:
            v_background = torch.from_numpy(np.einsum("chw,chwd->d", 1 - alphas, v_images_array))
        return (
            *map(torch.from_numpy, (*gradients, v_colors)),
            torch.from_numpy(v_view.sum(0)).float() if ctx.needs_input_grad[5] else None,
            v_background,
            *[None] * 5,
        )


def render_cpu(
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
    """Images [C,H,W,D] and alphas [C,H,W,1]. Differentiable by the five attributes, the view and the background."""
    return _Render.apply(
        means, quats, scales, opacities, colors, view, background, intrinsics, width, height, near, eps2d
    )


def render_bytes(
    means: np.ndarray, quats: np.ndarray, scales: np.ndarray, opacities: np.ndarray, colors: np.ndarray,
    view: np.ndarray, intrinsics: np.ndarray, width: int, height: int, background: np.ndarray,
    near: float, eps2d: float,
) -> np.ndarray:  # fmt: skip
    """Forward only, straight to uint8 [C,H,W,3]; contiguous float32 arrays shaped as in render_cpu, D = 3."""
    tiles = _make_tiles(means, quats, scales, opacities, colors, view, intrinsics, width, height, near, eps2d)
    frames = np.empty((len(view), height, width, 3), np.uint8)
    parallel.run(
        rasterize, tiles.records, tiles.starts, tiles.items, colors, 0, background, width, height,
        NO_IMAGES, NO_ALPHAS, frames, True, chunks=len(tiles.starts) - 1,
    )  # fmt: skip
    return frames
