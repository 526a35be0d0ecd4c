"""Compiled projection of 3D Gaussians to screen space, and its derivative (EWA splatting, Zwicker et al. 2002).

With W, t the camera's rotation and translation, M = R(q) diag(s), J the Jacobian of the perspective at the centre:
    covariance on screen = U U^T + eps2d I,   U = J W M  (2x3).
"""

from __future__ import annotations

import math

import numpy as np

from dgtalker.render.parallel import float_as_bits, jit, next_chunk

CHUNK = 512  # Gaussians a thread takes at once
TILE_WIDTH = 8  # one vector of 8 float32
TILE_HEIGHT = 32
RECORD = 10
# Screen-space record of one Gaussian, in units where its alpha is 2^-(a dx^2 + b dx dy + c dy^2 - log2 opacity):
X, Y, A, B, C, LOG_OPACITY, REACH, TOP_DX, CURVE, DEPTH = range(RECORD)
HALF_LOG2E = np.float32(0.5 / math.log(2.0))
LOG2_255 = np.float32(math.log2(255.0))


@jit
def rotation(w, x, y, z):
    """Rows of the rotation matrix of a unit quaternion."""
    two = np.float32(2)
    one = np.float32(1)
    return (
        one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y),
        two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x),
        two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y),
    )  # fmt: skip


@jit
def project(
    counter, means, quats, scales, opacities, colors, view, intrinsics, width, height, near, eps2d,
    records, tile_boxes, tile_counts,
):  # fmt: skip
    """Fill records [C,N,RECORD], tile_boxes [C,N,4] (first and past-the-end tile in x and y) and tile_counts [C*N].

    Gaussians behind the near plane, outside the image, too transparent to show, or not finite get no tiles.
    """
    cameras, count = records.shape[:2]
    per_camera = (count + CHUNK - 1) // CHUNK
    tiles_x = (width + TILE_WIDTH - 1) // TILE_WIDTH
    tiles_y = (height + TILE_HEIGHT - 1) // TILE_HEIGHT
    one = np.float32(1)
    while True:
        chunk = next_chunk(counter)
        if chunk >= cameras * per_camera:
            return
        camera = chunk // per_camera
        first = (chunk - camera * per_camera) * CHUNK
        w = view[camera]
        fx, fy = intrinsics[camera, 0, 0], intrinsics[camera, 1, 1]
        cx, cy = intrinsics[camera, 0, 2], intrinsics[camera, 1, 2]
        margin_x = np.float32(0.15) * width / fx
        margin_y = np.float32(0.15) * height / fy
        low_x, high_x = -cx / fx - margin_x, (width - cx) / fx + margin_x
        low_y, high_y = -cy / fy - margin_y, (height - cy) / fy + margin_y
        for n in range(first, min(first + CHUNK, count)):
            item = camera * count + n
            tile_counts[item] = 0
            px, py, pz = means[n, 0], means[n, 1], means[n, 2]
            z = w[2, 0] * px + w[2, 1] * py + w[2, 2] * pz + w[2, 3]
            opacity = opacities[n]
            if not (z > near and opacity * np.float32(255) >= one):  # also true for NaN
                continue
            x = w[0, 0] * px + w[0, 1] * py + w[0, 2] * pz + w[0, 3]
            y = w[1, 0] * px + w[1, 1] * py + w[1, 2] * pz + w[1, 3]
            qw, qx, qy, qz = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
            inverse = one / max(math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz), np.float32(1e-12))
            r = rotation(qw * inverse, qx * inverse, qy * inverse, qz * inverse)
            iz = one / z
            u = min(max(x * iz, low_x), high_x)
            v = min(max(y * iz, low_y), high_y)
            j00, j02, j11, j12 = fx * iz, -fx * u * iz, fy * iz, -fy * v * iz
            # rows of J W
            a0, a1, a2 = j00 * w[0, 0] + j02 * w[2, 0], j00 * w[0, 1] + j02 * w[2, 1], j00 * w[0, 2] + j02 * w[2, 2]
            b0, b1, b2 = j11 * w[1, 0] + j12 * w[2, 0], j11 * w[1, 1] + j12 * w[2, 1], j11 * w[1, 2] + j12 * w[2, 2]
            s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
            u00, u10 = s0 * (a0 * r[0] + a1 * r[3] + a2 * r[6]), s0 * (b0 * r[0] + b1 * r[3] + b2 * r[6])
            u01, u11 = s1 * (a0 * r[1] + a1 * r[4] + a2 * r[7]), s1 * (b0 * r[1] + b1 * r[4] + b2 * r[7])
            u02, u12 = s2 * (a0 * r[2] + a1 * r[5] + a2 * r[8]), s2 * (b0 * r[2] + b1 * r[5] + b2 * r[8])
            cov_xx = u00 * u00 + u01 * u01 + u02 * u02 + eps2d
            cov_xy = u00 * u10 + u01 * u11 + u02 * u12
            cov_yy = u10 * u10 + u11 * u11 + u12 * u12 + eps2d
            determinant = cov_xx * cov_yy - cov_xy * cov_xy
            screen_x, screen_y = fx * x * iz + cx, fy * y * iz + cy
            check = determinant + screen_x + screen_y + opacity + z
            for k in range(colors.shape[1]):
                check += colors[n, k]
            if not (determinant > 0 and abs(check) < np.float32(1e30)):
                continue
            log_opacity = np.float32(math.log2(opacity))
            reach = log_opacity + LOG2_255  # alpha >= 1/255 where the quadratic form is at most this
            extent = math.sqrt(reach / HALF_LOG2E)  # the same in standard deviations
            sigma_y = math.sqrt(cov_yy)
            half_width, half_height = extent * math.sqrt(cov_xx), extent * sigma_y
            # pixels whose centres lie inside the box
            left = max(math.ceil(screen_x - half_width - np.float32(0.5)), np.float32(0))
            right = min(math.floor(screen_x + half_width - np.float32(0.5)), np.float32(width - 1))
            top = max(math.ceil(screen_y - half_height - np.float32(0.5)), np.float32(0))
            bottom = min(math.floor(screen_y + half_height - np.float32(0.5)), np.float32(height - 1))
            if not (left <= right and top <= bottom):
                continue
            scale = HALF_LOG2E / determinant
            record = records[camera, n]
            record[X], record[Y] = screen_x, screen_y
            record[A], record[B], record[C] = cov_yy * scale, np.float32(-2) * cov_xy * scale, cov_xx * scale
            record[LOG_OPACITY], record[REACH] = log_opacity, reach
            record[TOP_DX] = extent * cov_xy / sigma_y  # where the ellipse is highest
            record[CURVE], record[DEPTH] = (
                np.float32(4) * HALF_LOG2E * scale,
                z,
            )  # CURVE = 4 a c - b^2, without cancellation
            box = tile_boxes[camera, n]
            box[0], box[1] = int(left) // TILE_WIDTH, min(int(right) // TILE_WIDTH + 1, tiles_x)
            box[2], box[3] = int(top) // TILE_HEIGHT, min(int(bottom) // TILE_HEIGHT + 1, tiles_y)
            tile_counts[item] = (box[1] - box[0]) * (box[3] - box[2])


@jit
def sort_into_tiles(counter, records, tile_boxes, slots, tiles_x, tiles_y, tile_starts, tile_items, tile_slots):
    """Per camera: order the visible Gaussians by depth (radix sort) and list them for every tile they may touch.

    slots [C*N+1]: running sum of tile_counts. A (Gaussian, tile) pair has a slot in Gaussian order, where its
    gradient goes, and a place in its tile's list. Fills tile_starts [C*tiles+1], tile_items and tile_slots [pairs].
    """
    cameras, count = records.shape[:2]
    tiles = tiles_x * tiles_y
    while True:
        camera = next_chunk(counter)
        if camera >= cameras:
            return
        keys, other_keys = np.empty(count, np.int32), np.empty(count, np.int32)
        order, other = np.empty(count, np.int32), np.empty(count, np.int32)
        histogram = np.zeros((3, 2048), np.int32)
        fill = np.zeros(tiles, np.int64)
        visible = 0
        for n in range(count):
            item = camera * count + n
            if slots[item + 1] > slots[item]:
                key = float_as_bits(records[camera, n, DEPTH])  # depths are positive: their bits sort like they do
                keys[visible], order[visible] = key, n
                visible += 1
                histogram[0, key & 2047] += 1
                histogram[1, (key >> 11) & 2047] += 1
                histogram[2, key >> 22] += 1
                box = tile_boxes[camera, n]
                for ty in range(box[2], box[3]):
                    for tx in range(box[0], box[1]):
                        fill[ty * tiles_x + tx] += 1
        for digit in range(3):
            total = 0
            for k in range(2048):
                number = histogram[digit, k]
                histogram[digit, k] = total
                total += number
            for i in range(visible):
                key = keys[i]
                k = (key >> (11 * digit)) & 2047
                place = histogram[digit, k]
                histogram[digit, k] = place + 1
                other_keys[place], other[place] = key, order[i]
            keys, other_keys = other_keys, keys
            order, other = other, order
        place = slots[camera * count]
        for tile in range(tiles):
            number = fill[tile]
            tile_starts[camera * tiles + tile] = place
            fill[tile] = place
            place += number
        if camera == cameras - 1:
            tile_starts[cameras * tiles] = place
        for i in range(visible):
            n = order[i]
            item = camera * count + n
            slot = slots[item]
            box = tile_boxes[camera, n]
            for ty in range(box[2], box[3]):
                for tx in range(box[0], box[1]):
                    tile = ty * tiles_x + tx
                    tile_items[fill[tile]] = item
                    tile_slots[fill[tile]] = slot
                    fill[tile] += 1
                    slot += 1


@jit
def project_backward(
    counter, pair_gradients, slots, means, quats, scales, opacities, view, intrinsics, width, height, records,
    v_means, v_quats, v_scales, v_opacities, v_colors, v_view,
):  # fmt: skip
    """Sum each Gaussian's pair gradients over tiles and cameras and pull them back to its five attributes.

    pair_gradients [pairs, 6+D]: sums over pixels of w, w dx, w dy, w dx^2, w dx dy, w dy^2 (w = dL/d log alpha),
    then the colour gradients. v_view [chunks, C, 3, 4] receives partial sums of the camera's gradient, if not empty.
    """
    cameras, count = records.shape[:2]
    channels = v_colors.shape[1]
    one, two, half = np.float32(1), np.float32(2), np.float32(0.5)
    while True:
        chunk = next_chunk(counter)
        if chunk * CHUNK >= count:
            return
        for n in range(chunk * CHUNK, min((chunk + 1) * CHUNK, count)):
            drawn = False
            for camera in range(cameras):
                drawn |= slots[camera * count + n + 1] > slots[camera * count + n]
            v_colors[n] = 0
            if not drawn:  # may hold values that are not finite, which must not spread
                v_means[n], v_quats[n], v_scales[n], v_opacities[n] = 0, 0, 0, 0
                continue
            qw, qx, qy, qz = quats[n, 0], quats[n, 1], quats[n, 2], quats[n, 3]
            inverse = one / max(math.sqrt(qw * qw + qx * qx + qy * qy + qz * qz), np.float32(1e-12))
            qw, qx, qy, qz = qw * inverse, qx * inverse, qy * inverse, qz * inverse
            r = rotation(qw, qx, qy, qz)
            s0, s1, s2 = scales[n, 0], scales[n, 1], scales[n, 2]
            px, py, pz = means[n, 0], means[n, 1], means[n, 2]
            m00, m01, m02 = r[0] * s0, r[1] * s1, r[2] * s2
            m10, m11, m12 = r[3] * s0, r[4] * s1, r[5] * s2
            m20, m21, m22 = r[6] * s0, r[7] * s1, r[8] * s2
            g00 = g01 = g02 = g10 = g11 = g12 = g20 = g21 = g22 = np.float32(0)  # dL/dM
            gx = gy = gz = g_opacity = np.float32(0)
            for camera in range(cameras):
                item = camera * count + n
                if slots[item + 1] == slots[item]:
                    continue
                w0 = wx = wy = wxx = wxy = wyy = np.float32(0)
                for slot in range(slots[item], slots[item + 1]):
                    w0 += pair_gradients[slot, 0]
                    wx += pair_gradients[slot, 1]
                    wy += pair_gradients[slot, 2]
                    wxx += pair_gradients[slot, 3]
                    wxy += pair_gradients[slot, 4]
                    wyy += pair_gradients[slot, 5]
                    for k in range(channels):
                        v_colors[n, k] += pair_gradients[slot, 6 + k]
                g_opacity += w0
                record = records[camera, n]
                # conic in natural units; d = centre - pixel; log alpha = log o - (a dx^2 + c dy^2) / 2 - b dx dy
                a, b, c = record[A] / HALF_LOG2E, record[B] / (two * HALF_LOG2E), record[C] / HALF_LOG2E
                v_x, v_y = -(a * wx + b * wy), -(b * wx + c * wy)
                ga, gb, gc = -half * wxx, -half * wxy, -half * wyy  # gradient of the conic as a symmetric matrix
                # covariance: -conic G conic
                t00, t01, t10, t11 = a * ga + b * gb, a * gb + b * gc, b * ga + c * gb, b * gb + c * gc
                h00, h01, h11 = -(t00 * a + t01 * b), -(t00 * b + t01 * c), -(t10 * b + t11 * c)
                w = view[camera]
                fx, fy = intrinsics[camera, 0, 0], intrinsics[camera, 1, 1]
                cx, cy = intrinsics[camera, 0, 2], intrinsics[camera, 1, 2]
                x = w[0, 0] * px + w[0, 1] * py + w[0, 2] * pz + w[0, 3]
                y = w[1, 0] * px + w[1, 1] * py + w[1, 2] * pz + w[1, 3]
                z = w[2, 0] * px + w[2, 1] * py + w[2, 2] * pz + w[2, 3]
                iz = one / z
                margin_x = np.float32(0.15) * width / fx
                margin_y = np.float32(0.15) * height / fy
                u = min(max(x * iz, -cx / fx - margin_x), (width - cx) / fx + margin_x)
                v = min(max(y * iz, -cy / fy - margin_y), (height - cy) / fy + margin_y)
                j00, j02, j11, j12 = fx * iz, -fx * u * iz, fy * iz, -fy * v * iz
                a0, a1, a2 = j00 * w[0, 0] + j02 * w[2, 0], j00 * w[0, 1] + j02 * w[2, 1], j00 * w[0, 2] + j02 * w[2, 2]
                b0, b1, b2 = j11 * w[1, 0] + j12 * w[2, 0], j11 * w[1, 1] + j12 * w[2, 1], j11 * w[1, 2] + j12 * w[2, 2]
                u00, u10 = a0 * m00 + a1 * m10 + a2 * m20, b0 * m00 + b1 * m10 + b2 * m20
                u01, u11 = a0 * m01 + a1 * m11 + a2 * m21, b0 * m01 + b1 * m11 + b2 * m21
                u02, u12 = a0 * m02 + a1 * m12 + a2 * m22, b0 * m02 + b1 * m12 + b2 * m22
                # dL/dU = 2 H U
                e00, e10 = two * (h00 * u00 + h01 * u10), two * (h01 * u00 + h11 * u10)
                e01, e11 = two * (h00 * u01 + h01 * u11), two * (h01 * u01 + h11 * u11)
                e02, e12 = two * (h00 * u02 + h01 * u12), two * (h01 * u02 + h11 * u12)
                g00 += a0 * e00 + b0 * e10
                g10 += a1 * e00 + b1 * e10
                g20 += a2 * e00 + b2 * e10
                g01 += a0 * e01 + b0 * e11
                g11 += a1 * e01 + b1 * e11
                g21 += a2 * e01 + b2 * e11
                g02 += a0 * e02 + b0 * e12
                g12 += a1 * e02 + b1 * e12
                g22 += a2 * e02 + b2 * e12
                # dL/d(J W) = dL/dU M^T, rows f (from a) and k (from b)
                f0, k0 = e00 * m00 + e01 * m01 + e02 * m02, e10 * m00 + e11 * m01 + e12 * m02
                f1, k1 = e00 * m10 + e01 * m11 + e02 * m12, e10 * m10 + e11 * m11 + e12 * m12
                f2, k2 = e00 * m20 + e01 * m21 + e02 * m22, e10 * m20 + e11 * m21 + e12 * m22
                v_j00, v_j02 = f0 * w[0, 0] + f1 * w[0, 1] + f2 * w[0, 2], f0 * w[2, 0] + f1 * w[2, 1] + f2 * w[2, 2]
                v_j11, v_j12 = k0 * w[1, 0] + k1 * w[1, 1] + k2 * w[1, 2], k0 * w[2, 0] + k1 * w[2, 1] + k2 * w[2, 2]
                # camera-space centre: through its screen position and through J
                v_u, v_v = -j00 * v_j02, -j11 * v_j12
                vx, vy = j00 * v_x, j11 * v_y
                vz = -iz * (j00 * x * v_x + j11 * y * v_y + j00 * v_j00 + j02 * v_j02 + j11 * v_j11 + j12 * v_j12)
                if u == x * iz:
                    vx += v_u * iz
                    vz -= v_u * u * iz
                if v == y * iz:
                    vy += v_v * iz
                    vz -= v_v * v * iz
                gx += w[0, 0] * vx + w[1, 0] * vy + w[2, 0] * vz
                gy += w[0, 1] * vx + w[1, 1] * vy + w[2, 1] * vz
                gz += w[0, 2] * vx + w[1, 2] * vy + w[2, 2] * vz
                if v_view.shape[0] > 0:
                    g = v_view[chunk, camera]
                    g[0, 0] += vx * px + j00 * f0
                    g[0, 1] += vx * py + j00 * f1
                    g[0, 2] += vx * pz + j00 * f2
                    g[1, 0] += vy * px + j11 * k0
                    g[1, 1] += vy * py + j11 * k1
                    g[1, 2] += vy * pz + j11 * k2
                    g[2, 0] += vz * px + j02 * f0 + j12 * k0
                    g[2, 1] += vz * py + j02 * f1 + j12 * k1
                    g[2, 2] += vz * pz + j02 * f2 + j12 * k2
                    g[0, 3] += vx
                    g[1, 3] += vy
                    g[2, 3] += vz
            v_means[n, 0], v_means[n, 1], v_means[n, 2] = gx, gy, gz
            v_opacities[n] = g_opacity / opacities[n]
            v_scales[n, 0] = r[0] * g00 + r[3] * g10 + r[6] * g20
            v_scales[n, 1] = r[1] * g01 + r[4] * g11 + r[7] * g21
            v_scales[n, 2] = r[2] * g02 + r[5] * g12 + r[8] * g22
            # dL/dR = dL/dM diag(s)
            g00, g10, g20 = g00 * s0, g10 * s0, g20 * s0
            g01, g11, g21 = g01 * s1, g11 * s1, g21 * s1
            g02, g12, g22 = g02 * s2, g12 * s2, g22 * s2
            vw = two * (qx * (g21 - g12) + qy * (g02 - g20) + qz * (g10 - g01))
            vqx = two * (-two * qx * (g11 + g22) + qy * (g01 + g10) + qz * (g02 + g20) + qw * (g21 - g12))
            vqy = two * (qx * (g01 + g10) - two * qy * (g00 + g22) + qz * (g12 + g21) + qw * (g02 - g20))
            vqz = two * (qx * (g02 + g20) + qy * (g12 + g21) - two * qz * (g00 + g11) + qw * (g10 - g01))
            along = qw * vw + qx * vqx + qy * vqy + qz * vqz  # normalisation removes the radial part
            v_quats[n, 0] = (vw - qw * along) * inverse
            v_quats[n, 1] = (vqx - qx * along) * inverse
            v_quats[n, 2] = (vqy - qy * along) * inverse
            v_quats[n, 3] = (vqz - qz * along) * inverse
