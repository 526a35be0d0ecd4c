"""The regional head: each stream changes only splats of its own region, as the generator does, and no hair."""

import pytest
import torch
from fakes.identity_data import tiny_generator

from dgtalker.head.splats import region_weights
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.training.identity.regional_head import RegionalHead, forehead_weights


@pytest.fixture(scope="module")
def head():
    generator = tiny_generator().requires_grad_(False)
    generator.logit_opacity_mean.index_fill_(0, generator.hair_texels, -12.0)
    torch.manual_seed(3)
    navigation = Navigation(NavigationConfig(generator.w_dim, feature_dim=80, n_exp=2, n_lip=3)).requires_grad_(False)
    navigation.w_scale.copy_(generator.w_std)
    return generator, navigation


def codes(batch: int = 2):
    torch.manual_seed(4)
    return torch.randn(batch, 2), torch.randn(batch, 3)


def test_regions_are_kept_apart(head):
    generator, navigation = head
    a_exp, a_lip = codes()
    regional = RegionalHead(generator, navigation, regional=True)
    both, quiet, still = regional(a_exp, a_lip), regional(a_exp, 0 * a_lip), regional(0 * a_exp, a_lip)
    upper, lower = region_weights(generator)
    hair = torch.zeros_like(upper).index_fill(0, generator.hair_texels, 1.0) > 0
    up, low = (upper == 1) & ~hair, (lower == 1) & ~hair
    assert up.any() and low.any()
    rest = generator(navigation.w_can[None])
    for name in ("means", "quats", "scales", "opacities", "colors"):
        value = lambda splats, name=name: getattr(splats, name)  # noqa: E731
        torch.testing.assert_close(value(both)[:, up], value(quiet)[:, up], rtol=0, atol=1e-6)
        torch.testing.assert_close(value(both)[:, low], value(still)[:, low], rtol=0, atol=1e-6)
        torch.testing.assert_close(value(both)[:, hair], value(rest)[:, hair].expand_as(value(both)[:, hair]))
    lips = generator(navigation.latent(0 * a_exp, a_lip))
    torch.testing.assert_close(both.means[:, low], lips.means[:, low], rtol=0, atol=1e-5)
    assert (lips.means - rest.means)[:, up].abs().max() > 1e-4  # the generator alone has leakage
    assert (both.means - rest.means)[:, low].abs().max() > 1e-4


def test_not_regional_is_the_equation(head):
    generator, navigation = head
    a_exp, a_lip = codes()
    step = 0.1 * torch.randn(generator.w_dim)
    made = RegionalHead(generator, navigation, regional=False)(a_exp, a_lip, step)
    truth = generator(navigation.latent(a_exp, a_lip) + step)
    torch.testing.assert_close(made.means, truth.means)
    torch.testing.assert_close(made.colors, truth.colors)


def test_a_step_of_the_anchor_has_gradients(head):
    generator, navigation = head
    a_exp, a_lip = codes()
    step = torch.zeros(generator.w_dim, requires_grad=True)
    regional = RegionalHead(generator, navigation, regional=True)
    torch.testing.assert_close(regional(0 * a_exp, 0 * a_lip).means[1], generator(navigation.w_can[None]).means[0])
    regional(a_exp, a_lip, step).colors.sum().backward()
    assert step.grad[generator.slices["appearance"]].abs().max() > 0


def test_brows_move_the_forehead_and_keep_its_colour(head):
    generator, navigation = head
    a_exp, a_lip = codes()
    regional, rest = RegionalHead(generator, navigation, regional=True), generator(navigation.w_can[None])
    hair = torch.zeros(len(rest.means[0])).index_fill(0, generator.hair_texels, 1.0) > 0
    high = (forehead_weights(generator, navigation.w_can) == 1) & ~hair
    assert high.any() and not high.all()
    raised = regional(a_exp, 0 * a_lip)
    torch.testing.assert_close(raised.colors[:, high], rest.colors[:, high].expand(2, -1, -1), rtol=0, atol=1e-6)
    assert (raised.means - rest.means)[:, high].abs().max() > 1e-4
    layered = WPlusGenerator(generator)
    torch.testing.assert_close(
        forehead_weights(layered, layered.to_w_plus(navigation.w_can)), forehead_weights(generator, navigation.w_can)
    )
