"""Renumbering and turning round an identity's coefficients without changing what it says."""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.head.baked import ATTRIBUTES, BakedHead
from dgtalker.identity import Identity


def reorder(identity: Identity, order: Tensor, signs: Tensor) -> None:
    """New coefficients a'[k] = signs[k] a[order[k]] everywhere: bases, encoders, units, limits, baked head; in place.

    order [K] int64 is a permutation within each branch (expression first, then lips), signs [K] are +-1.
    """
    identity.navigation.permute(order.to(identity.device), signs.to(identity.device))
    reorder_head(identity.head, order, signs)


@torch.no_grad()
def reorder_head(head: BakedHead, order: Tensor, signs: Tensor) -> None:
    """The same for the baked head alone. Only rows move and signs turn, so half precision loses nothing."""
    size = head.coefficients
    rows, columns = torch.triu_indices(size, size)
    number = torch.zeros(size, size, dtype=torch.int64)
    number[rows, columns] = number[columns, rows] = size + torch.arange(len(rows))
    order, signs = order.cpu(), signs.cpu().float()
    source = torch.cat([order, number[order[rows], order[columns]]])
    turn = torch.cat([signs, signs[rows] * signs[columns]])[:, None]
    state = head.state_dict()
    for name in ATTRIBUTES:
        weights = state[f"weights_{name}"]
        state[f"weights_{name}"] = weights[source.to(weights.device)] * turn.to(weights)
    head.load_state_dict(state)
