"""Initialisation of navigation: bases that solve the linearised problem in closed form, before images are rendered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.navigation.blendshapes import OrthogonalBlendshapes, orthonormalise_columns


@dataclass(frozen=True)
class Response:
    """Squared change x^T M x of the upper and the lower face under whitened steps x from w_can.

    Normalised so that the training deviations change each region by 1 on average.
    """

    upper: Tensor  # M_up [W, W]
    lower: Tensor  # M_low [W, W]

    @staticmethod
    def normalised(upper: Tensor, lower: Tensor, deviations: Tensor) -> Response:
        """From matrices of any scale and the training deviations [T, W]."""
        moment = deviations.T @ deviations / len(deviations)
        return Response(*(m / (m * moment).sum().clamp_min(1e-12) for m in (upper, lower)))

    def unmasked(self) -> Response:
        """The response of the whole face for both regions, as in supervision without masks."""
        both = (self.upper + self.lower) / 2
        return Response(both, both)

    def square_roots(self) -> tuple[Tensor, Tensor]:
        """R_up and R_low [W, W] with R^T R = M."""
        return _square_root(self.upper), _square_root(self.lower)

    def metric(self, ridge: float = 1e-3) -> Tensor:
        """M_up + M_low + a ridge, so that steps which change nothing do not become large."""
        both = self.upper + self.lower
        return both + ridge * both.diagonal().mean() * torch.eye(len(both)).to(both)


def _square_root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return values.clamp_min(0).sqrt()[:, None] * vectors.T


def projection_matrices(response: Response, directions: Tensor, n_exp: int) -> tuple[Tensor, Tensor]:
    """Least-squares matrices P_exp [n_exp, W], P_lip [n_lip, W]: deviation -> coefficients along directions [W, K].

    a_exp minimises |B_exp a - d|^2 in the upper plus |B_exp a|^2 in the lower face; a_lip the other way round.
    """
    metric = response.metric()
    b_exp, b_lip = directions[:, :n_exp], directions[:, n_exp:]
    return tuple(
        torch.linalg.solve(b.T @ metric @ b, b.T @ own) for b, own in ((b_exp, response.upper), (b_lip, response.lower))
    )


def principal_directions(response: Response, deviations: Tensor, count: int, seed: int = 0) -> Tensor:
    """Orthonormal directions [W, count] that explain most of the whole face's motion in deviations [T, W].

    Rotated at random among themselves: an initialisation without regions that favours neither branch.
    """
    moment = deviations.T @ deviations / len(deviations)
    both = response.upper + response.lower
    best = _leading_directions(response, both @ moment @ both, count)
    mixing = torch.randn(count, count, generator=torch.Generator().manual_seed(seed))
    return orthonormalise_columns(best) @ orthonormalise_columns(mixing).to(best)


def _leading_directions(response: Response, explained: Tensor, count: int) -> Tensor:
    """Unit directions x [W, count] that maximise x^T explained x / x^T metric x (generalised eigenvectors)."""
    values, vectors = torch.linalg.eigh(response.metric())
    whiten = vectors @ (values.clamp_min(1e-12).rsqrt()[:, None] * vectors.T)
    best = torch.linalg.eigh(whiten @ explained @ whiten).eigenvectors.flip(1)[:, :count]
    return torch.nn.functional.normalize(whiten @ best, dim=0)


def initial_directions(
    response: Response, deviations: Tensor, n_exp: int, n_lip: int, bases: str = "joint", steps: int = 300
) -> Tensor:
    """Orthonormal directions [W, n_exp + n_lip] for deviations [T, W].

    Each branch explains as much motion of its own region as possible and causes as little as possible in the other.
    Without orthogonality between the branches this is a generalised eigenproblem; its solution is orthogonalised and
    then improved by gradient steps on the same objective. Minimising over the coefficients in closed form, as in
    `projection_matrices`, leaves a function of the directions alone.
    """
    moment = deviations.T @ deviations / len(deviations)
    metric = response.metric()
    explained = [m @ moment @ m for m in (response.upper, response.lower)]
    starts = [_leading_directions(response, e, count) for e, count in zip(explained, (n_exp, n_lip), strict=True)]
    blendshapes = OrthogonalBlendshapes(len(moment), n_exp, n_lip, bases).to(moment)
    with torch.no_grad():
        blendshapes.raw.copy_(torch.cat(starts, dim=1))
    optimizer = torch.optim.Adam([blendshapes.raw], lr=3e-3)
    for _ in range(steps):
        b_exp, b_lip = blendshapes.directions().split([n_exp, n_lip], dim=1)
        loss = -sum(
            torch.linalg.solve(b.T @ metric @ b, b.T @ target @ b).trace()
            for b, target in ((b_exp, explained[0]), (b_lip, explained[1]))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return blendshapes.directions().detach()
