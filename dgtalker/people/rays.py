"""Brute-force ray casting on small meshes (numba)."""

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True)
def _cast(origins, directions, corners, spheres, max_hits):
    count = len(origins)
    distance = np.full((count, max_hits), np.inf)
    triangle = np.full((count, max_hits), -1, np.int64)
    bary = np.zeros((count, max_hits, 3))
    for i in prange(count):
        ox, oy, oz = origins[i, 0], origins[i, 1], origins[i, 2]
        dx, dy, dz = directions[i, 0], directions[i, 1], directions[i, 2]
        d2 = dx * dx + dy * dy + dz * dz
        for f in range(len(corners)):
            # Scalars, not slices: a slice would allocate inside the innermost loop.
            ax, ay, az = corners[f, 0, 0], corners[f, 0, 1], corners[f, 0, 2]
            # Bounding sphere first: most triangles are far from the ray.
            mx, my, mz = spheres[f, 0] - ox, spheres[f, 1] - oy, spheres[f, 2] - oz
            along = mx * dx + my * dy + mz * dz
            if (mx * mx + my * my + mz * mz) * d2 - along * along > spheres[f, 3] * d2:
                continue
            e1x, e1y, e1z = corners[f, 1, 0] - ax, corners[f, 1, 1] - ay, corners[f, 1, 2] - az
            e2x, e2y, e2z = corners[f, 2, 0] - ax, corners[f, 2, 1] - ay, corners[f, 2, 2] - az
            px, py, pz = dy * e2z - dz * e2y, dz * e2x - dx * e2z, dx * e2y - dy * e2x
            det = e1x * px + e1y * py + e1z * pz
            if abs(det) < 1e-14:
                continue
            tx, ty, tz = ox - ax, oy - ay, oz - az
            u = (tx * px + ty * py + tz * pz) / det
            if u < -1e-7 or u > 1 + 1e-7:
                continue
            qx, qy, qz = ty * e1z - tz * e1y, tz * e1x - tx * e1z, tx * e1y - ty * e1x
            v = (dx * qx + dy * qy + dz * qz) / det
            if v < -1e-7 or u + v > 1 + 1e-7:
                continue
            t = (e2x * qx + e2y * qy + e2z * qz) / det
            if t < 0 or t >= distance[i, max_hits - 1]:
                continue
            k = max_hits - 1
            while k > 0 and distance[i, k - 1] > t:
                distance[i, k] = distance[i, k - 1]
                triangle[i, k] = triangle[i, k - 1]
                bary[i, k] = bary[i, k - 1]
                k -= 1
            distance[i, k] = t
            triangle[i, k] = f
            bary[i, k, 0], bary[i, k, 1], bary[i, k, 2] = 1 - u - v, u, v
    return distance, triangle, bary


def cast_rays(
    origins: np.ndarray,  # [R, 3]
    directions: np.ndarray,  # [R, 3]
    vertices: np.ndarray,  # [V, 3]
    triangles: np.ndarray,  # [F, 3]
    max_hits: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest `max_hits` hits of each ray, either side of a triangle.

    Returns distances [R, max_hits] in units of the direction's length (inf: none), triangles [R, max_hits] (-1: none)
    and barycentric coordinates [R, max_hits, 3] (Moeller and Trumbore 1997).
    """
    corners = np.ascontiguousarray(vertices[triangles], dtype=np.float64)
    centre = corners.mean(1)
    radius2 = ((corners - centre[:, None]) ** 2).sum(-1).max(1) * 1.0001 + 1e-12
    spheres = np.concatenate([centre, radius2[:, None]], 1)
    return _cast(
        np.ascontiguousarray(origins, dtype=np.float64),
        np.ascontiguousarray(directions, dtype=np.float64),
        corners,
        spheres,
        max_hits,
    )
