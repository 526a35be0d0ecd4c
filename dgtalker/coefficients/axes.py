"""Turn an identity's axes until each coefficient is one named motion.

Inside a branch any rotation of the unit directions leaves every latent, hence every picture, as it is (Navigation).
Sought is the one whose displacements have the largest squared cosines to distinct named motions: an orthogonal
Procrustes problem in the metric of visible motion, solved by turns of Hungarian assignment and L-BFGS on the rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.coefficients.motions import MotionFields, assign_motions

STARTS, ROUNDS, STEPS = 6, 12, 60  # random first rotations; assignments; L-BFGS steps after each
MIN_GAIN = 0.02  # of the mean match, from which axes are turned


@dataclass(frozen=True)
class NamedAxes:
    """A rotation [K, K] of unit directions, and the mean match 0..1 with distinct names before and after."""

    rotation: Tensor
    before: float
    after: float

    @property
    def better(self) -> bool:
        """Whether it is worth to turn."""
        return self.after - self.before >= MIN_GAIN


def find_named_axes(displacements: Tensor, motions: MotionFields, seed: int = 0) -> NamedAxes:
    """The rotation of one branch's axes; displacements [K, M, 3] per step along each unit direction, float."""
    steps, targets = motions.flatten(displacements), motions.flatten(motions.fields)
    targets = torch.nn.functional.normalize(targets, dim=1)
    gram, products, size = steps @ steps.T, steps @ targets.T, len(steps)
    random = torch.Generator().manual_seed(seed)
    best, identity = None, torch.eye(size, dtype=steps.dtype)
    before = float(assign_motions(_cosines(identity, gram, products), motions)[1].mean())
    for start in range(STARTS):
        rotation = identity
        if start:
            rotation = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=steps.dtype)).Q
        chosen = None
        for _ in range(ROUNDS):
            fields, _ = assign_motions(_cosines(rotation, gram, products), motions)
            if chosen is not None and torch.equal(fields, chosen):
                break
            chosen = fields
            rotation = _refine(rotation, gram, products[:, fields])
        cosines = _cosines(rotation, gram, products)
        fields, matches = assign_motions(cosines, motions)
        score = float((matches - motions.penalties[fields]).sum())
        if best is None or score > best[0]:
            best = score, rotation, float(matches.mean())
    assert best is not None
    return NamedAxes(best[1], before, best[2])


def _cosines(rotation: Tensor, gram: Tensor, products: Tensor) -> Tensor:
    """Cosines [K, P] between the displacements of turned axes and the named motions."""
    length = (rotation * (gram @ rotation)).sum(dim=0).clamp_min(1e-24).sqrt()
    return (rotation.T @ products) / length[:, None]


def _refine(rotation: Tensor, gram: Tensor, wanted: Tensor) -> Tensor:
    """The rotation near `rotation` that maximises the squared cosines to its motions; wanted [K, K]: F P^T of these."""
    generator = torch.zeros(rotation.shape, dtype=rotation.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([generator], max_iter=STEPS, line_search_fn="strong_wolfe")

    def turned() -> Tensor:
        return rotation @ torch.matrix_exp(generator - generator.T)

    def loss() -> Tensor:
        optimizer.zero_grad()
        axes = turned()
        value = -((axes * wanted).sum(dim=0).square() / (axes * (gram @ axes)).sum(dim=0).clamp_min(1e-24)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        orthonormal, triangle = torch.linalg.qr(turned())  # rounding does not build up
        return orthonormal * triangle.diagonal().sign()
