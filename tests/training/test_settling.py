"""What becomes of splats that no picture shows, or shows aslant only."""

import torch

from dgtalker.training.settling import KEEP, even_out, strays
from tests.training.fake_identity_data import tiny_generator


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


def test_what_bled_into_colours_seen_aslant_is_taken_out_and_the_rest_stays():
    generator, blue = tiny_generator(), torch.tensor([0.0, 0.3, 1.0])
    skin = (generator.texel_part == generator.template.part_names.index("skin")).nonzero()[:, 0]
    with torch.no_grad():
        generator.color_basis.zero_()
        generator.color_mean[:] = torch.tensor([0.8, 0.6, 0.5]) + 0.02 * torch.randn(generator.color_mean.shape)
        generator.color_mean[skin[::20]] = blue
        generator.color_mean[skin[10]] = blue  # a mole: seen squarely, it stays
    square = torch.ones(len(generator.color_mean))
    square[skin[::20]] = 0
    square[skin[1::20]] = 0  # usual colours
    before = generator.color_mean.clone()
    even_out(generator, generator.w_mean, square)
    change = (generator.color_mean - before).detach().norm(dim=-1)
    assert not change[square * KEEP >= 1].any()
    bald = change[skin[::20]] > 0  # under hair nothing is skin's business
    assert bald.float().mean() > 0.3
    evened = generator.color_mean[skin[::20]][bald]
    assert bool(((evened - blue).norm(dim=-1) > 0.8 * (torch.tensor([0.8, 0.6, 0.5]) - blue).norm()).all())
    assert change[skin[1::20]].mean() < 0.1 * change[skin[::20]][bald].mean()
