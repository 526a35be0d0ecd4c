"""How much of the ARKit face units W can express, and whether the splats follow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgtalker.evaluation.prior.geometry import MILLIMETRES
from dgtalker.head.generator import Generator

MOVING = 0.05  # share of a unit's largest motion from which a point counts as moving
RIDGE = 1e-4  # weight of the pull of w towards rest, relative to the mean squared motion


@torch.no_grad()
def measure_face_units(generator: Generator) -> dict:
    """Fit every unit at score 1 on the mean head by moving w from rest, and compare the splats' motion with it.

    The vertices are linear in w, so the fit is a least-squares solution over all shape and expression coordinates with
    a weak pull to rest. W reaches it by construction unless units are entangled. The splats need not follow: the
    convolutions add offsets at this w, which may cancel an expression.

    Returns:
        mean, worst and units of: vertex_mm, error of the moving vertices; vertex_share, the share of their squared
        motion that is reached (R²); splat_mm and splat_share, the same of the splats' means against their texels.
    """
    template, surface = generator.template, generator.surface
    scale = torch.cat([generator.w_std[generator.slices[name]] for name in ("shape", "expression")])
    scale[-len(template.expression_basis) :] *= generator.expression_std
    basis = generator.vertex_basis.double() * scale.double()[:, None]  # per whitened coordinate
    gram = basis @ basis.T
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    rest = generator.attributes(generator.w_mean[None])["means"][0]
    rest_texels = surface.positions(generator.rest_vertices[None])[0]
    rest_vertices = generator.vertices(generator.w_mean[None])[0]
    units = {}
    for name, delta in zip(template.expression_names, template.expression_basis.float(), strict=True):
        step = torch.linalg.solve(gram, basis @ delta.double().flatten()).float()
        w = generator.w_mean.clone()
        shape, expression = generator.slices["shape"], generator.slices["expression"]
        split = shape.stop - shape.start
        w[shape] += step[:split] * generator.w_std[shape]
        w[expression] += step[split:] * generator.w_std[expression]
        vertex = _error(generator.vertices(w[None])[0] - rest_vertices, delta)
        wanted = surface.positions((generator.rest_vertices + delta)[None])[0] - rest_texels
        splat = _error(generator.attributes(w[None])["means"][0] - rest, wanted)
        units[name] = {
            "vertex_mm": vertex[0], "vertex_share": vertex[1], "splat_mm": splat[0], "splat_share": splat[1],
        }  # fmt: skip
    keys = ("vertex_mm", "vertex_share", "splat_mm", "splat_share")
    worst = min(units, key=lambda name: units[name]["splat_share"])
    return {
        "mean": {key: float(np.nanmean([u[key] for u in units.values()])) for key in keys},
        "worst": {"unit": worst, **units[worst]},
        "units": units,
    }


def _error(motion: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Mean error in millimetres and R² of a motion [V,3] over the points that should move."""
    length = wanted.norm(dim=-1)
    moving = length > MOVING * length.max()
    miss = (motion - wanted)[moving]
    total = wanted[moving].square().sum()
    return float(miss.norm(dim=-1).mean()) * MILLIMETRES, float(1 - miss.square().sum() / total)
