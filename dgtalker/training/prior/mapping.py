"""The mapping network of the prior: z, the factors of a person and an expression, to w."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dgtalker import resumable
from dgtalker.head.generator import Generator
from dgtalker.people.random_expressions import factors_from_expression


def train_mapping(
    generator: Generator,
    factors: Tensor,  # [P,Zp] of the people
    w_rest: Tensor,  # [P,W] of the people
    draw_expression: Callable[[np.random.Generator], np.ndarray],
    rng: np.random.Generator,
    steps: int,
    cancelled: resumable.Cancelled = resumable.always_false,
    batch: int = 256,
) -> float:
    """Regress w from z = (factors of the person, of the expression), starting from a ridge regression.

    Returns the last loss. Raises TrainingStopped when cancelled; it takes seconds and cannot be resumed.
    """
    mapping, rest, device = generator.mapping, generator.slices["expression"], generator.w_mean.device
    n_person = factors.shape[1]
    mapping.requires_grad_(True)
    x = torch.cat([mapping.apply_choices(factors), torch.ones(len(factors), 1)], 1)
    ridge = x.T @ x + 0.05 * len(x) * torch.eye(x.shape[1])
    solution = torch.linalg.solve(ridge, x.T @ w_rest)  # [Zp+1,W]
    with torch.no_grad():
        mapping.linear.weight.zero_()
        mapping.linear.bias.copy_(solution[-1])
        mapping.linear.weight[:, :n_person] = solution[:-1].T.to(mapping.linear.weight)
    optimizer = torch.optim.AdamW(mapping.parameters(), lr=1e-3, weight_decay=1e-2)
    expressions = np.stack([draw_expression(rng) for _ in range(max(500, 2 * steps))])
    std, loss = generator.expression_std.cpu(), torch.zeros(())
    for step in range(steps):
        if cancelled():
            raise resumable.TrainingStopped
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        who = torch.from_numpy(rng.integers(len(factors), size=batch))
        scores = expressions[rng.integers(len(expressions), size=batch)]
        z = torch.cat([factors[who], torch.from_numpy(factors_from_expression(scores, rng))], 1)
        # A little noise on the person's factors: there are few people, and similar factors look similar.
        z[:, :n_person] += 0.1 * torch.from_numpy(rng.standard_normal((batch, n_person), dtype=np.float32))
        target = w_rest[who]
        target[:, rest] = torch.from_numpy(scores) / std
        loss = F.mse_loss(mapping(z.to(device)), target.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


@torch.no_grad()
def mapping_error(generator: Generator, factors: Tensor, w_rest: Tensor) -> dict[str, float]:
    """Mean squared error of w at rest, by part of w, for factors of held-out people."""
    if not len(factors):
        return {}
    z = torch.zeros(len(factors), generator.config.z_dim)
    z[:, : factors.shape[1]] = factors
    error = generator.mapping(z.to(generator.w_mean.device)).cpu() - w_rest
    return {name: round(float(error[:, part].square().mean()), 4) for name, part in generator.slices.items()}
