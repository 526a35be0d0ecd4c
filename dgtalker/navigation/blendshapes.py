"""Orthogonal blendshapes: B_exp and B_lip are slices of one Q factor, so that the branches share no direction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BASES = ("joint", "separate", "none")  # one QR for both branches (the method), one for each, or free directions


class OrthogonalBlendshapes(nn.Module):
    """Directions in the latent space, orthonormal together (LIA, Wang et al. 2022; one QR as in EDTalk, 2024).

    `scales` are the coefficients' units: a coefficient of 1 moves the latent by scales[k] along unit direction k.
    """

    scales: Tensor  # [n_exp + n_lip]

    def __init__(self, latent: int, n_exp: int, n_lip: int, bases: str = "joint"):
        """Random directions.

        Args:
            latent: dimensions of w.
            n_exp: expression directions.
            n_lip: lip directions.
            bases: one of BASES. All but "joint" are ablations: the branches may overlap, and with "none" directions are
                neither of unit length nor orthogonal inside a branch.
        """
        super().__init__()
        assert n_exp + n_lip <= latent, f"{n_exp} + {n_lip} orthogonal directions do not fit into {latent} dimensions"
        self.n_exp, self.n_lip, self.bases = n_exp, n_lip, bases
        self.raw = nn.Parameter(torch.randn(latent, n_exp + n_lip) / latent**0.5)
        self.register_buffer("scales", torch.ones(n_exp + n_lip))

    def directions(self) -> Tensor:
        """Unit directions [W, n_exp + n_lip], expression first."""
        if self.bases == "joint":
            return orthonormalise_columns(self.raw)
        if self.bases == "none":
            return self.raw
        return torch.cat(
            [orthonormalise_columns(part) for part in self.raw.split([self.n_exp, self.n_lip], dim=1)], dim=1
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """B_exp [W, n_exp] and B_lip [W, n_lip], in coefficient units."""
        return (self.directions() * self.scales).split([self.n_exp, self.n_lip], dim=1)

    @torch.no_grad()
    def set_directions(self, directions: Tensor, scales: Tensor) -> None:
        """Start from given directions [W, K] (made orthonormal as `bases` says) and units scales [K] > 0."""
        self.raw.copy_(directions)
        self.raw.copy_(self.directions())  # orthonormal columns are a fixed point of QR
        self.scales.copy_(scales)


def orthonormalise_columns(matrix: Tensor) -> Tensor:
    """The Q factor of matrix [W, K] with R's diagonal positive: unique, hence continuous while training."""
    q, r = torch.linalg.qr(matrix)
    signs = torch.where(torch.diagonal(r) < 0, -1.0, 1.0).to(q)
    return q * signs
