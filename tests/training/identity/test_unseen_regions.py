"""Regularisation of splats that no picture shows, or only at a grazing angle."""

import torch
from fakes.identity_data import tiny_generator

from dgtalker.training.identity.unseen_regions import find_floaters, mirror_colors, regularise_grazing_colors


def test_a_chain_of_floating_hair_is_found():
    side = torch.linspace(-0.5, 0.5, 21)
    cap = torch.stack([*torch.meshgrid(side, side, indexing="ij"), torch.zeros(21, 21)], -1).reshape(-1, 3)
    chain = torch.stack([torch.zeros(10), torch.zeros(10), 0.2 + 0.06 * torch.arange(10)], -1)
    means = torch.cat([cap, chain])
    solid = torch.ones(len(means), dtype=torch.bool)
    alone = find_floaters(means, solid)
    assert alone[len(cap) :].all()
    inner = cap[:, :2].abs().amin(1) < 0.4  # its corners may go
    assert not alone[: len(cap)][inner].any()
    solid[len(cap) :] = False  # what is not solid hair is no floater
    assert not find_floaters(means, solid)[len(cap) :].any()


def test_colours_seen_edge_on_are_regularised_and_the_rest_stays():
    generator, usual, blue = tiny_generator(), torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.0, 0.3, 1.0])
    skin = (generator.texel_part == generator.template.part_names.index("skin")).nonzero()[:, 0]
    place = generator.surface.positions(generator.rest_vertices[None])[0]
    side = place[:, 0] < -0.2  # of the head, which no picture shows frontally
    lip = skin[(place[skin] - place[skin][place[skin, 2].argmax()]).norm(dim=-1).argsort()[5]]  # faces aside, in front
    blotches = skin[place[skin, 0] < -0.5][::4]  # not where its front begins
    with torch.no_grad():
        generator.color_basis.zero_()
        generator.color_mean[:] = usual + 0.02 * torch.randn(generator.color_mean.shape)
        generator.color_mean[blotches] = blue
        generator.color_mean[lip] = blue
    frontal = torch.where(side, 0.0, 1.0).index_fill(0, lip, 0.0)
    before = generator.color_mean.clone()
    regularise_grazing_colors(generator, generator.w_mean, frontal)
    change = (generator.color_mean - before).detach().norm(dim=-1)
    assert not change[~side].any()  # nor those of the lip
    changed = blotches[change[blotches] > 0]  # skin under hair is left out
    assert len(changed) >= 5
    away = (generator.color_mean[changed] - blue).norm(dim=-1) / (usual - blue).norm()
    assert away.mean() > 0.8
    others = skin[side[skin]][1::6]
    assert change[others].mean() < 0.1 * change[changed].mean()


def test_what_one_side_shows_is_mirrored_under_the_other_sides_light():
    generator = tiny_generator()
    skin = (generator.texel_part == generator.template.part_names.index("skin")).nonzero()[:, 0]
    place = generator.surface.positions(generator.rest_vertices[None])[0]
    usual, beard, shade = torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.2, 0.15, 0.1]), torch.tensor(0.1)
    low = place[:, 1] < place[skin, 1].median()
    with torch.no_grad():
        generator.color_basis.zero_()
        generator.color_mean[:] = usual - shade * (place[:, :1] > 0)  # light from the left
        generator.color_mean[low & (place[:, 0] < 0)] = beard
        generator.color_mean[low & (place[:, 0] > 0) & (place[:, 0] < 0.4)] = beard - shade
    frontal = (place[:, 0] < 0.4).float()  # the right side of the head is not shown
    before = generator.color_mean.clone()
    known = mirror_colors(generator, generator.w_mean, frontal)
    shown = skin[(place[skin, 0] < 0) & (known[skin] > 0.6)]
    torch.testing.assert_close(generator.color_mean[shown], before[shown], atol=0.02, rtol=0)
    deep = skin[(place[skin, 0] > 0.5) & low[skin] & (known[skin] > 0.5)]
    assert len(deep) >= 5
    after = generator.color_mean[deep].detach()
    assert (after - (beard - shade)).abs().mean() < 0.05 < (before[deep] - (beard - shade)).abs().mean()
