"""Compiled compositing of projected Gaussians, tile by tile, and its derivative.

A tile is 8 pixels wide, so that one row of it is one vector (simd.Vec8). Each Gaussian visits only the rows of the tile
that its ellipse (alpha >= 1/255) really crosses, and rows whose pixels are all opaque are skipped.
Kernels composite three colour channels at a time; `group` says which three.
"""

from __future__ import annotations

import math

import numpy as np

from dgtalker.render.cpu_projection import (
    CURVE,
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
from dgtalker.render.parallel import jit, next_chunk
from dgtalker.render.simd import (
    any_lane,
    lane_numbers,
    load,
    mask_and,
    maximum,
    minimum,
    power_of_two,
    select,
    splat,
    store,
    sum_lanes,
    truncate,
)

MAX_ALPHA = np.float32(0.999)
MIN_TRANSMITTANCE = np.float32(1e-4)
FORWARD_ROW = 5 * TILE_WIDTH  # transmittance while alive, transmittance where stopped, three channels
BACKWARD_ROW = 5 * TILE_WIDTH  # transmittance while alive, light still to come, gradient of three channels


@jit
def exp2(x):
    """2^x of a Vec8 for x <= 0.5, relative error 2e-7: a minimax polynomial on [-.5, .5] and the exponent's bits."""
    x = maximum(x, np.float32(-30))
    whole = truncate(x - np.float32(0.5))
    f = x - whole
    p = np.float32(0.0013276470) * f + np.float32(0.0096755410)
    p = p * f + np.float32(0.0555071346)
    p = p * f + np.float32(0.2402212024)
    p = p * f + np.float32(0.6931469440)
    p = p * f + np.float32(1.0000001192)
    return p * power_of_two(whole)


@jit
def rows_crossed(record, left, top, bottom):
    """First and past-the-end row of [top, bottom) where the Gaussian's ellipse crosses the columns left..left+7."""
    b, curve, constant = record[B], record[CURVE], np.float32(4) * record[C] * record[REACH]
    # pixel centres relative to the Gaussian's centre; the boundary is highest at TOP_DX, or at the nearest column
    first = left + np.float32(0.5) - record[X]
    last = first + np.float32(TILE_WIDTH - 1)
    bend = np.float32(0.5) / record[C]
    d = min(max(record[TOP_DX], first), last)
    high = (math.sqrt(max(constant - curve * d * d, np.float32(0))) - b * d) * bend
    d = min(max(-record[TOP_DX], first), last)
    low = -(math.sqrt(max(constant - curve * d * d, np.float32(0))) + b * d) * bend
    y = record[Y] - np.float32(0.5)
    slack = np.float32(0.01)  # rounding must not cost a row; the exact test is per pixel
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
    state = np.empty(TILE_HEIGHT * FORWARD_ROW, np.float32)
    alive = np.empty(TILE_HEIGHT, np.bool_)
    zero, one = np.float32(0), np.float32(1)
    zeros = splat(zero)
    while True:
        tile = next_chunk(counter)
        if tile >= cameras * tiles_x * tiles_y:
            return
        camera = tile // (tiles_x * tiles_y)
        ty = tile // tiles_x - camera * tiles_y
        tx = tile % tiles_x
        left, top = tx * TILE_WIDTH, ty * TILE_HEIGHT
        bottom = min(top + TILE_HEIGHT, height)
        centres = lane_numbers() + (np.float32(left) + np.float32(0.5))
        for y in range(bottom - top):
            row = y * FORWARD_ROW
            store(state, row, splat(one))
            for k in range(1, 5):
                store(state, row + 8 * k, zeros)
            alive[y] = True
        rows_alive = bottom - top
        for place in range(tile_starts[tile], tile_starts[tile + 1]):
            item = tile_items[place]
            record = flat[item]
            first, last = rows_crossed(record, np.float32(left), top, bottom)
            n = item - camera * count
            c0, c1, c2 = colors[n, 3 * group], colors[n, 3 * group + 1], colors[n, 3 * group + 2]
            log_opacity = record[LOG_OPACITY]
            dx = record[X] - centres
            square, slope = record[A] * dx * dx, record[B] * dx
            for y in range(first, last):
                if not alive[y - top]:
                    continue
                dy = record[Y] - np.float32(y) - np.float32(0.5)
                form = square + dy * (slope + record[C] * dy)
                alpha = minimum(exp2(log_opacity - form), MAX_ALPHA)
                alpha = select(form <= record[REACH], alpha, zeros)
                row = (y - top) * FORWARD_ROW
                t = load(state, row)
                after = t - t * alpha
                live = after > MIN_TRANSMITTANCE
                weight = select(live, t * alpha, zeros)
                store(state, row, select(live, after, zeros))
                store(state, row + 8, load(state, row + 8) + select(live, zeros, t))
                store(state, row + 16, load(state, row + 16) + weight * c0)
                store(state, row + 24, load(state, row + 24) + weight * c1)
                store(state, row + 32, load(state, row + 32) + weight * c2)
                if not any_lane(live):
                    alive[y - top] = False
                    rows_alive -= 1
            if rows_alive == 0:
                break
        for y in range(top, bottom):
            row = (y - top) * FORWARD_ROW
            for lane in range(min(TILE_WIDTH, width - left)):
                at = row + lane
                t = state[at] + state[at + 8]
                if write_bytes:
                    for k in range(3):
                        value = (state[at + 16 + 8 * k] + t * background[k]) * np.float32(255) + np.float32(0.5)
                        bytes_out[camera, y, left + lane, k] = np.uint8(min(max(value, zero), np.float32(255)))
                else:
                    alphas[camera, y, left + lane] = one - t
                    for k in range(channels):
                        value = state[at + 16 + 8 * k] + t * background[3 * group + k]
                        images[camera, y, left + lane, 3 * group + k] = value


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
    state = np.empty(TILE_HEIGHT * BACKWARD_ROW, np.float32)
    alive = np.empty(TILE_HEIGHT, np.bool_)
    zero, one = np.float32(0), np.float32(1)
    zeros = splat(zero)
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
        centres = lane_numbers() + (np.float32(left) + np.float32(0.5))
        state[:] = zero
        rows_alive = bottom - top
        for y in range(top, bottom):
            alive[y - top] = True
            for lane in range(min(TILE_WIDTH, width - left)):
                x = left + lane
                at = (y - top) * BACKWARD_ROW + lane
                state[at] = one
                to_come = zero
                if group == 0:
                    to_come = (alphas[camera, y, x] - one) * v_alphas[camera, y, x]
                for k in range(channels):
                    v = v_images[camera, y, x, 3 * group + k]
                    state[at + 16 + 8 * k] = v
                    to_come += v * images[camera, y, x, 3 * group + k]
                state[at + 8] = to_come
        for place in range(tile_starts[tile], tile_starts[tile + 1]):
            item = tile_items[place]
            record = flat[item]
            first, last = rows_crossed(record, np.float32(left), top, bottom)
            if first >= last:
                continue
            n = item - camera * count
            c0, c1, c2 = colors[n, 3 * group], colors[n, 3 * group + 1], colors[n, 3 * group + 2]
            log_opacity = record[LOG_OPACITY]
            dx = record[X] - centres
            square, slope = record[A] * dx * dx, record[B] * dx
            sum_w, sum_wy, sum_wyy, sum_0, sum_1, sum_2 = zeros, zeros, zeros, zeros, zeros, zeros
            for y in range(first, last):
                if not alive[y - top]:
                    continue
                dy = record[Y] - np.float32(y) - np.float32(0.5)
                form = square + dy * (slope + record[C] * dy)
                raw = select(form <= record[REACH], exp2(log_opacity - form), zeros)
                alpha = minimum(raw, MAX_ALPHA)
                row = (y - top) * BACKWARD_ROW
                t = load(state, row)
                after = t - t * alpha
                live = after > MIN_TRANSMITTANCE
                weight = select(live, t * alpha, zeros)
                v0, v1, v2 = load(state, row + 16), load(state, row + 24), load(state, row + 32)
                light = weight * (c0 * v0 + c1 * v1 + c2 * v2)
                to_come = load(state, row + 8) - light
                store(state, row, select(live, after, zeros))
                store(state, row + 8, to_come)
                # dL/d log alpha; a clamped alpha has no gradient
                w = select(mask_and(live, raw <= MAX_ALPHA), light - to_come * (alpha / (one - alpha)), zeros)
                sum_w += w
                sum_wy += w * dy
                sum_wyy += w * (dy * dy)
                sum_0 += weight * v0
                sum_1 += weight * v1
                sum_2 += weight * v2
                if not any_lane(live):
                    alive[y - top] = False
                    rows_alive -= 1
            out = pair_gradients[tile_slots[place]]
            out[0] += sum_lanes(sum_w)
            out[1] += sum_lanes(sum_w * dx)
            out[2] += sum_lanes(sum_wy)
            out[3] += sum_lanes(sum_w * dx * dx)
            out[4] += sum_lanes(sum_wy * dx)
            out[5] += sum_lanes(sum_wyy)
            out[6 + 3 * group] = sum_lanes(sum_0)
            if channels > 1:
                out[7 + 3 * group] = sum_lanes(sum_1)
            if channels > 2:
                out[8 + 3 * group] = sum_lanes(sum_2)
            if rows_alive == 0:
                break
