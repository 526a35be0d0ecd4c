"""Parts of tuning that need no training."""

import torch

from dgtalker.training.tuning import strays


def test_a_chain_of_hair_in_the_air_is_found_link_by_link():
    side = torch.linspace(-0.5, 0.5, 21)
    cap = torch.stack([*torch.meshgrid(side, side, indexing="ij"), torch.zeros(21, 21)], -1).reshape(-1, 3)
    chain = torch.stack([torch.zeros(10), torch.zeros(10), 0.2 + 0.06 * torch.arange(10)], -1)
    means = torch.cat([cap, chain])
    solid = torch.ones(len(means), dtype=torch.bool)
    alone = strays(means, solid)
    assert alone[len(cap) :].all()
    inner = cap[:, :2].abs().amin(1) < 0.4  # its corners may go
    assert not alone[: len(cap)][inner].any()
    solid[len(cap) :] = False  # what is no hair is no stray either
    assert not strays(means, solid)[len(cap) :].any()
