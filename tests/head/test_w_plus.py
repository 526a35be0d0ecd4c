"""W+: with one style for all sizes it is the generator itself, and single styles reach single sizes only."""

import pytest
import torch
from fakes.identity_data import tiny_generator

from dgtalker.head.w_plus import WPlusGenerator


@pytest.fixture(scope="module")
def generators():
    generator = tiny_generator()
    torch.manual_seed(1)
    torch.nn.init.normal_(generator.synthesis.to_maps.weight, std=0.1)
    generator.w_std.uniform_(0.5, 1.5)
    return generator, WPlusGenerator(generator)


def test_one_style_for_all_sizes_is_the_generator(generators):
    generator, layered = generators
    w = torch.randn(2, generator.w_dim)
    assert layered.levels == 3 and layered.to_w_plus(w).shape == (2, layered.w_dim) == (2, 3 * generator.w_dim)
    one, other = generator(w), layered(layered.to_w_plus(w))
    for name in ("means", "colors", "opacities"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))
    torch.testing.assert_close(layered.w_std, generator.w_std.repeat(3))


def test_later_styles_move_only_what_the_convolutions_add(generators):
    generator, layered = generators
    w = layered.to_w_plus(generator.w_mean[None])
    changed = w.clone()
    changed[:, 2 * generator.w_dim :] += 2.0
    before, after = layered.attributes(w), layered.attributes(changed)
    assert (before["colors"] - after["colors"]).abs().max() > 1e-4
    styles = changed.unflatten(-1, (3, -1))
    plain, mixed = generator.residuals(w[:, : generator.w_dim]), generator.residuals(styles)
    torch.testing.assert_close(after["colors"] - before["colors"], mixed["color"] - plain["color"], atol=1e-5, rtol=0)
    first = w.clone()
    first[:, generator.slices["expression"]] += 2.0
    assert (layered.attributes(first)["means"] - before["means"]).norm(dim=-1).max() > 0.05


def test_expression_is_found_in_every_style(generators):
    generator, layered = generators
    part = generator.slices["expression"]
    marked = torch.zeros(generator.w_dim)
    marked[part] = 1
    found = torch.zeros(layered.w_dim)
    found[layered.slices["expression"]] = 1
    torch.testing.assert_close(found, layered.to_w_plus(marked))
