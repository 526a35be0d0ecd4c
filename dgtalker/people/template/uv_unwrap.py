"""Flattening of disc-shaped meshes onto rectangles with a chosen texel density (maintainers' tool for the template).

Tutte's embedding never folds; from there an energy with a barrier against folds evens out density and shape.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu, spsolve


def boundary_loop(triangles: np.ndarray) -> np.ndarray:
    """The one boundary loop [L] of a disc-shaped mesh, in the direction of its triangles. Raises ValueError if not."""
    edges = {(int(a), int(b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    following = {a: b for a, b in edges if (b, a) not in edges}
    start = next(iter(following))
    loop = [start]
    while (step := following[loop[-1]]) != start:
        loop.append(step)
    if len(loop) != len(following):
        raise ValueError(f"The mesh has more than one boundary ({len(loop)} of {len(following)} edges in the first).")
    return np.array(loop)


def flatten_patch(
    vertices: np.ndarray,  # [V, 3]
    triangles: np.ndarray,  # [F, 3]
    corners: list[int],  # four boundary vertices, in loop order: (0,0), (1,0), (1,1), (0,1) of the rectangle
    aspect: float,  # width / height of the rectangle
    density: np.ndarray | None = None,  # [F] wanted texels per area, relative
    iterations: int = 150,
    rounds: int = 3,
) -> np.ndarray:  # [V, 2] in [0,1]^2
    """Flatten a disc onto the unit square, to be stretched to `aspect` later."""
    density = np.ones(len(triangles)) if density is None else density
    loop = boundary_loop(triangles)
    loop = np.roll(loop, -int(np.flatnonzero(loop == corners[0])[0]))
    edge_density = np.zeros(len(vertices))
    count = np.zeros(len(vertices))
    np.add.at(edge_density, triangles.ravel(), np.repeat(density, 3))
    np.add.at(count, triangles.ravel(), 1)
    scale = np.sqrt(edge_density / np.maximum(count, 1))
    lengths = np.linalg.norm(vertices[np.roll(loop, -1)] - vertices[loop], axis=1) * scale[loop]

    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    at = [int(np.flatnonzero(loop == c)[0]) for c in corners] + [len(loop)]
    if sorted(at) != at:
        raise ValueError("The corners are not in loop order.")
    uv = np.zeros((len(vertices), 2))
    for side in range(4):
        ids = np.arange(at[side], at[side + 1] + 1)
        along = np.concatenate([[0], np.cumsum(lengths[ids[:-1]])])
        along /= along[-1]
        # Keep some room for every boundary edge, however small its triangles.
        along = 0.8 * along + 0.2 * np.linspace(0, 1, len(along))
        uv[loop[ids % len(loop)]] = square[side] + along[:, None] * (square[(side + 1) % 4] - square[side])

    inner = np.ones(len(vertices), bool)
    inner[loop] = False
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    springs = sp.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(vertices),) * 2).tocsr()
    springs = springs.maximum(springs.T)
    system = (sp.diags(np.asarray(springs.sum(1)).ravel()) - springs).tocsr()[inner]
    uv[inner] = spsolve(system[:, inner].tocsc(), -system[:, ~inner] @ uv[~inner])

    # Boundary vertices may slide along their side of the rectangle; corners stay.
    free = np.repeat(inner[:, None], 2, axis=1)
    for side in range(4):
        ids = loop[np.arange(at[side] + 1, at[side + 1])]
        free[ids, 0 if side % 2 == 0 else 1] = True
    # The energy also wants angles kept, so it falls short of the wanted density: ask for more where it did.
    uv, asked = uv * [aspect, 1.0], density
    for _ in range(rounds):
        uv = _relax(vertices, triangles, uv, free, asked, iterations)
        area = (
            np.linalg.norm(
                np.cross(
                    vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
                    vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
                ),
                axis=1,
            )
            / 2
        )
        at_vertex = np.zeros((2, len(vertices)))
        for row, values in enumerate((np.abs(_signed_area(uv, triangles)), density * area)):
            np.add.at(at_vertex[row], triangles.ravel(), np.repeat(values, 3))
        missing = (at_vertex[1] / at_vertex[1].sum()) / np.maximum(at_vertex[0] / at_vertex[0].sum(), 1e-9)
        asked = asked * np.clip(missing[triangles].mean(1), 0.4, 2.5) ** 0.7
    return uv / [aspect, 1.0]


def _relax(vertices, triangles, uv, free, density, iterations):
    """Minimise the symmetric Dirichlet energy (Smith and Schaefer 2015) by Laplacian-preconditioned descent.

    Its barrier keeps triangles from folding; the surface is enlarged by `density` and scaled to the chart's area.
    """
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    x = np.linalg.norm(b - a, axis=1)
    axis = (b - a) / np.maximum(x, 1e-12)[:, None]
    cx = ((c - a) * axis).sum(1)
    cy = np.linalg.norm(c - a - cx[:, None] * axis, axis=1)
    area = 0.5 * x * cy
    keep = area > area.mean() * 1e-5
    floor = area.mean() * 1e-3  # slivers weigh nothing but must not fold either
    size = np.sqrt(density)
    orientation = np.sign(np.median(_signed_area(uv, triangles)))
    chart_area = np.abs(_signed_area(uv, triangles)).sum()
    size = size * np.sqrt(chart_area / (area * size**2)[keep].sum())
    x, cx, cy = x * size, cx * size, np.maximum(cy, 1e-4 * x) * size
    area = np.maximum(0.5 * x * cy, floor * size**2)
    # J = [p1 - p0, p2 - p0] @ inverse([[x, cx], [0, cy]])
    i00, i01, i11 = 1 / x, -cx / (x * cy), 1 / cy

    def energy(p, gradient=True):
        e1, e2 = p[triangles[:, 1]] - p[triangles[:, 0]], p[triangles[:, 2]] - p[triangles[:, 0]]
        u, v = e1 * i00[:, None], e1 * i01[:, None] + e2 * i11[:, None]  # columns of J
        det = (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) * orientation
        if det.min() <= 0:
            return np.inf, None
        norm = (u**2).sum(1) + (v**2).sum(1)
        value = (area * norm * (1 + 1 / det**2)).sum()
        if not gradient:
            return value, None
        outer = (area * 2 * (1 + 1 / det**2))[:, None]
        inner_det = (area * norm * -2 / det**3 * orientation)[:, None]
        gu = outer * u + inner_det * np.stack([v[:, 1], -v[:, 0]], 1)
        gv = outer * v + inner_det * np.stack([-u[:, 1], u[:, 0]], 1)
        g1, g2 = gu * i00[:, None] + gv * i01[:, None], gv * i11[:, None]
        g = np.zeros_like(p)
        np.add.at(g, triangles[:, 1], g1)
        np.add.at(g, triangles[:, 2], g2)
        np.add.at(g, triangles[:, 0], -g1 - g2)
        return value, np.where(free, g, 0)

    # Stiffness of the current map's metric, renewed now and then, preconditions both coordinates.
    value, g = energy(uv)
    for step in range(iterations):
        if step % 10 == 0:
            solve = [_preconditioner(uv, triangles, i00, i01, i11, area, orientation, free[:, k]) for k in range(2)]
        d = np.zeros_like(uv)
        for k in range(2):
            d[free[:, k], k] = -solve[k](g[free[:, k], k])
        slope, t = (g * d).sum(), 1.0
        while t > 1e-7:
            trial, _ = energy(uv + t * d, False)
            if trial < value + 1e-4 * t * slope:
                break
            t *= 0.6
        else:
            break
        uv = uv + t * d
        value, g = energy(uv)
    return uv


def _preconditioner(uv, triangles, i00, i01, i11, area, orientation, free):
    """Solver for the Laplacian weighted by how strongly the energy's barrier curves in each triangle."""
    e1, e2 = uv[triangles[:, 1]] - uv[triangles[:, 0]], uv[triangles[:, 2]] - uv[triangles[:, 0]]
    u, v = e1 * i00[:, None], e1 * i01[:, None] + e2 * i11[:, None]
    det = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
    norm = (u**2).sum(1) + (v**2).sum(1)
    weight = area * (2 + 2 / det**2 + 6 * norm**2 / det**4 * 0.5)
    # Gradient of a linear function on the reference triangle: rows for d/dx and d/dy.
    rows = np.stack([np.stack([-i00, i00, np.zeros_like(i00)], 1), np.stack([-i01 - i11, i01, i11], 1)], 1)
    local = np.einsum("fki,fkj->fij", rows, rows) * weight[:, None, None]
    i, j = np.repeat(triangles, 3, axis=1).ravel(), np.tile(triangles, (1, 3)).ravel()
    matrix = sp.coo_matrix((local.ravel(), (i, j)), shape=(len(uv),) * 2).tocsr()[free][:, free]
    return splu((matrix + sp.identity(matrix.shape[0]) * 1e-9).tocsc()).solve


def _signed_area(uv, triangles):
    e1, e2 = uv[triangles[:, 1]] - uv[triangles[:, 0]], uv[triangles[:, 2]] - uv[triangles[:, 0]]
    return 0.5 * (e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0])
