"""Compiled compositing of projected Gaussians, tile by tile, and its derivative.

A tile is 8 pixels wide, one vector register of float32: the loops over `lane` compile to single instructions.
Each Gaussian visits only the rows of the tile that its ellipse (alpha >= 1/255) really crosses, and rows whose pixels
are all opaque are skipped. State of a tile row lies together in one buffer so that the compiler can see that nothing
overlaps. Kernels composite three colour channels at a time; `group` says which three.
"""

from __future__ import annotations

import math

import numpy as np

from dgtalker.render.cpu_projection import (
    HALF_HEIGHT,
    LOG_OPACITY,
    REACH,
    TILE_HEIGHT,
    TILE_WIDTH,
    TOP_DX,
    A,
    B,
    C,
    X,
    Y,
)
from dgtalker.render.parallel import bits_as_float, jit, next_chunk

MAX_ALPHA = np.float32(0.999)
MIN_TRANSMITTANCE = np.float32(1e-4)
FORWARD_ROW = 5 * TILE_WIDTH  # transmittance while alive, transmittance where stopped, three channels
BACKWARD_ROW = 5 * TILE_WIDTH  # transmittance while alive, light still to come, gradient of three channels


@jit
def exp2(x):
    """2^x for x <= 0.5, relative error 2e-7: a minimax polynomial on [-.5, .5] and the exponent bits."""
    x = max(x, np.float32(-30))
    whole = np.int32(x - np.float32(0.5))
    f = x - np.float32(whole)
    p = np.float32(0.0013276470) * f + np.float32(0.0096755410)
    p = p * f + np.float32(0.0555071346)
    p = p * f + np.float32(0.2402212024)
    p = p * f + np.float32(0.6931469440)
    p = p * f + np.float32(1.0000001192)
    return p * bits_as_float(np.int32((whole + np.int32(127)) << np.int32(23)))


@jit
def rows_crossed(record, left, top, bottom):
    """First and past-the-end row of [top, bottom) where the Gaussian's ellipse crosses the columns left..left+7."""
    a, b, c, reach = record[A], record[B], record[C], record[REACH]
    # pixel centres relative to the Gaussian's centre; the boundary is highest at TOP_DX, or at the nearest column
    first = left + np.float32(0.5) - record[X]
    last = first + np.float32(TILE_WIDTH - 1)
    bend = np.float32(0.5) / c
    d = min(max(record[TOP_DX], first), last)
    root = (b * b - np.float32(4) * a * c) * d * d + np.float32(4) * c * reach
    high = (-b * d + math.sqrt(max(root, np.float32(0)))) * bend
    d = min(max(-record[TOP_DX], first), last)
    other = (b * b - np.float32(4) * a * c) * d * d + np.float32(4) * c * reach
    low = (-b * d - math.sqrt(max(other, np.float32(0)))) * bend
    y = record[Y] - np.float32(0.5)
    slack = np.float32(1e-3)  # rounding must not cost a row; the exact test is per pixel
    return max(int(math.ceil(y + low - slack)), top), min(int(math.floor(y + high + slack)) + 1, bottom)


@jit
def rasterize(
    counter, records, tile_starts, tile_items, colors, group, background, width, height,
    images, alphas, bytes_out, write_bytes,
):  # fmt: skip
    """Composite every tile front to back into images [C,H,W,D] and alphas [C,H,W], or bytes_out uint8 [C,H,W,3]."""
    cameras, count = records.shape[:2]
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles_y = (height + TILE_HEIGHT - 1) // TILE_HEIGHT
    flat = records.reshape((-1, records.shape[2]))
    channels = min(3, images.shape[3] - 3 * group)
    state = np.empty((TILE_HEIGHT, FORWARD_ROW), np.float32)
    alive = np.empty(TILE_HEIGHT, np.bool_)
    zero, one = np.float32(0), np.float32(1)
    while True:
        tile = next_chunk(counter)
        if tile >= cameras * tiles_x * tiles_y:
            return
        camera = tile // (tiles_x * tiles_y)
        ty = tile // tiles_x - camera * tiles_y
        tx = tile % tiles_x
        left, top = tx * TILE_WIDTH, ty * TILE_HEIGHT
        bottom = min(top + TILE_HEIGHT, height)
        state[:, :] = zero
        state[:, :TILE_WIDTH] = one
        alive[:] = True
        rows_alive = bottom - top
        for place in range(tile_starts[tile], tile_starts[tile + 1]):
            item = tile_items[place]
            record = flat[item]
            first, last = rows_crossed(record, np.float32(left), top, bottom)
            n = item - camera * count
            c0, c1, c2 = colors[n, 3 * group], colors[n, 3 * group + 1], colors[n, 3 * group + 2]
            a, log_opacity, reach = record[A], record[LOG_OPACITY], record[REACH]
            dx0 = record[X] - np.float32(left) - np.float32(0.5)
            for y in range(first, last):
                if not alive[y - top]:
                    continue
                dy = record[Y] - np.float32(y) - np.float32(0.5)
                b = record[B] * dy
                c = record[C] * dy * dy
                row = state[y - top]
                total = zero
                for lane in range(8):
                    dx = dx0 - np.float32(lane)
                    form = dx * (a * dx + b) + c
                    alpha = min(exp2(log_opacity - form), MAX_ALPHA) if form <= reach else zero
                    t = row[lane]
                    after = t * (one - alpha)
                    live = after > MIN_TRANSMITTANCE
                    weight = alpha * t if live else zero
                    row[lane] = after if live else zero
                    row[8 + lane] += zero if live else t
                    row[16 + lane] += weight * c0
                    row[24 + lane] += weight * c1
                    row[32 + lane] += weight * c2
                    total += after if live else zero
                if total == zero:
                    alive[y - top] = False
                    rows_alive -= 1
            if rows_alive == 0:
                break
        for y in range(top, bottom):
            row = state[y - top]
            for lane in range(min(TILE_WIDTH, width - left)):
                t = row[lane] + row[8 + lane]
                if write_bytes:
                    for k in range(3):
                        value = (row[16 + 8 * k + lane] + t * background[k]) * np.float32(255) + np.float32(0.5)
                        bytes_out[camera, y, left + lane, k] = np.uint8(min(max(value, zero), np.float32(255)))
                else:
                    alphas[camera, y, left + lane] = one - t
                    for k in range(channels):
                        images[camera, y, left + lane, 3 * group + k] = (
                            row[16 + 8 * k + lane] + t * background[3 * group + k]
                        )


@jit
def rasterize_backward(
    counter, records, tile_starts, tile_items, tile_slots, colors, group, images, alphas, v_images, v_alphas,
    pair_gradients,
):  # fmt: skip
    """Gradients of every (Gaussian, tile) pair from those of the images [C,H,W,D] and alphas [C,H,W].

    Composites once more from front to back. The light that is still to come behind a Gaussian, which the derivative
    by its alpha needs, is the finished pixel minus what has been composited so far. Adds into pair_gradients
    [pairs, 6+D] (see project_backward). Gradients of alphas are counted in group 0 only.
    """
    cameras, height, width = alphas.shape
    count = records.shape[1]
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles_y = (height + TILE_HEIGHT - 1) // TILE_HEIGHT
    flat = records.reshape((-1, records.shape[2]))
    channels = min(3, images.shape[3] - 3 * group)
    state = np.empty((TILE_HEIGHT, BACKWARD_ROW), np.float32)
    sums = np.empty(6 * TILE_WIDTH, np.float32)
    alive = np.empty(TILE_HEIGHT, np.bool_)
    zero, one = np.float32(0), np.float32(1)
    while True:
        tile = next_chunk(counter)
        if tile >= cameras * tiles_x * tiles_y:
            return
        if tile_starts[tile] == tile_starts[tile + 1]:
            continue
        camera = tile // (tiles_x * tiles_y)
        ty = tile // tiles_x - camera * tiles_y
        tx = tile % tiles_x
        left, top = tx * TILE_WIDTH, ty * TILE_HEIGHT
        bottom = min(top + TILE_HEIGHT, height)
        state[:, :] = zero
        alive[:] = True
        rows_alive = bottom - top
        for y in range(top, bottom):
            row = state[y - top]
            for lane in range(min(TILE_WIDTH, width - left)):
                x = left + lane
                row[lane] = one
                to_come = zero
                if group == 0:
                    to_come = -(one - alphas[camera, y, x]) * v_alphas[camera, y, x]
                for k in range(channels):
                    v = v_images[camera, y, x, 3 * group + k]
                    row[16 + 8 * k + lane] = v
                    to_come += v * images[camera, y, x, 3 * group + k]
                row[8 + lane] = to_come
        for place in range(tile_starts[tile], tile_starts[tile + 1]):
            item = tile_items[place]
            record = flat[item]
            first, last = rows_crossed(record, np.float32(left), top, bottom)
            if first >= last:
                continue
            n = item - camera * count
            c0, c1, c2 = colors[n, 3 * group], colors[n, 3 * group + 1], colors[n, 3 * group + 2]
            a, log_opacity, reach = record[A], record[LOG_OPACITY], record[REACH]
            dx0 = record[X] - np.float32(left) - np.float32(0.5)
            sums[:] = zero
            for y in range(first, last):
                if not alive[y - top]:
                    continue
                dy = record[Y] - np.float32(y) - np.float32(0.5)
                b = record[B] * dy
                c = record[C] * dy * dy
                row = state[y - top]
                total = zero
                for lane in range(8):
                    dx = dx0 - np.float32(lane)
                    form = dx * (a * dx + b) + c
                    raw = exp2(log_opacity - form) if form <= reach else zero
                    alpha = min(raw, MAX_ALPHA)
                    t = row[lane]
                    after = t * (one - alpha)
                    live = after > MIN_TRANSMITTANCE
                    weight = alpha * t if live else zero
                    v0, v1, v2 = row[16 + lane], row[24 + lane], row[32 + lane]
                    light = c0 * v0 + c1 * v1 + c2 * v2
                    to_come = row[8 + lane] - weight * light
                    row[8 + lane] = to_come
                    row[lane] = after if live else zero
                    total += after if live else zero
                    # dL/d log alpha; a clamped alpha has no gradient
                    w = weight * light - to_come * alpha / (one - alpha) if live and raw <= MAX_ALPHA else zero
                    sums[lane] += w
                    sums[8 + lane] += w * dy
                    sums[16 + lane] += w * dy * dy
                    sums[24 + lane] += weight * v0
                    sums[32 + lane] += weight * v1
                    sums[40 + lane] += weight * v2
                if total == zero:
                    alive[y - top] = False
                    rows_alive -= 1
            out = pair_gradients[tile_slots[place]]
            w0 = wx = wy = wxx = wxy = wyy = g0 = g1 = g2 = zero
            for lane in range(8):
                dx = dx0 - np.float32(lane)
                w0 += sums[lane]
                wx += sums[lane] * dx
                wxx += sums[lane] * dx * dx
                wy += sums[8 + lane]
                wxy += sums[8 + lane] * dx
                wyy += sums[16 + lane]
                g0 += sums[24 + lane]
                g1 += sums[32 + lane]
                g2 += sums[40 + lane]
            out[0] += w0
            out[1] += wx
            out[2] += wy
            out[3] += wxx
            out[4] += wxy
            out[5] += wyy
            out[6 + 3 * group] = g0
            if channels > 1:
                out[7 + 3 * group] = g1
            if channels > 2:
                out[8 + 3 * group] = g2
            if rows_alive == 0:
                break
