"""The equation, the bases, the encoders and the losses, each on its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.navigation.blendshapes import BASES, OrthogonalBlendshapes
from dgtalker.navigation.encoders import AudioEncoder, EncoderConfig
from dgtalker.navigation.losses import (
    CrossViewConfig,
    View,
    cross_view_loss,
    linear_cross_view_loss,
    reconstruction_loss,
)
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.warm_start import Response, initial_directions, principal_directions, projection_matrices
from dgtalker.training.identity.coefficient_axes import strongest_share, zero_at_silence

CONFIG = NavigationConfig(latent=10, feature_dim=6, n_exp=2, n_lip=3, hidden=8, dropout=0.0)


def random_navigation(seed: int = 0, **changes) -> Navigation:
    torch.manual_seed(seed)
    navigation = Navigation(replace(CONFIG, **changes))
    with torch.no_grad():
        for parameter in navigation.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return navigation.eval()


def test_joint_directions_are_orthonormal_and_separate_ones_are_not():
    torch.manual_seed(0)
    joint, separate, free = (OrthogonalBlendshapes(10, 3, 4, bases).directions() for bases in BASES)
    torch.testing.assert_close(joint.T @ joint, torch.eye(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(separate[:, :3].T @ separate[:, :3], torch.eye(3), atol=1e-5, rtol=0)
    assert (separate[:, :3].T @ separate[:, 3:]).abs().max() > 0.05
    assert (free[:, :3].T @ free[:, :3] - torch.eye(3)).abs().max() > 0.05


@pytest.mark.parametrize("bases", BASES)
def test_whatever_the_bases_axes_and_units_change_nothing_but_the_coordinates(bases):
    navigation = random_navigation(bases=bases)
    features, blink = torch.randn(1, 40, 6), torch.rand(1, 20)
    latents = lambda: navigation.latent(navigation.expression(features, blink), navigation.lips(features))  # noqa: E731
    before = latents()
    navigation.rotate_coefficients(torch.linalg.qr(torch.randn(2, 2)).Q, torch.linalg.qr(torch.randn(3, 3)).Q)
    navigation.set_units(torch.rand(5) + 0.5, torch.zeros(5, 2))
    navigation.permute_coefficients(torch.tensor([1, 0, 4, 2, 3]), torch.tensor([1.0, -1, -1, 1, 1]))
    torch.testing.assert_close(latents(), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bases", BASES)
def test_dropping_coefficients_that_never_change_changes_nothing(bases):
    navigation = random_navigation(bases=bases)
    navigation.set_units(torch.rand(5) + 0.5, torch.randn(5, 2))
    encoders, blink = (navigation.expression_encoder, navigation.lip_encoder), navigation.expression_encoder.blink
    with torch.no_grad():
        for encoder in encoders:
            encoder.audio.head.weight[1] = 0  # exp 2 and lip 2 say the same of every sound
            encoder.audio.attention.weight.normal_()
        blink.linear[1] = blink.quadratic[1] = 0
    features, shut = torch.randn(1, 40, 6), torch.rand(1, 20)
    a_exp, a_lip = navigation.expression(features, shut), navigation.lips(features)
    mean = torch.cat([a_exp, a_lip], dim=-1)[0].mean(0)
    smaller = navigation.select_coefficients(torch.tensor([0, 2, 4]), mean)
    b_exp, b_lip = smaller.expression(features, shut), smaller.lips(features)
    inside = slice(2, -2)  # the ends' windows of neighbours see zeros, whatever the constant was
    torch.testing.assert_close(b_exp[:, inside], a_exp[:, inside, :1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b_lip[:, inside], a_lip[:, inside][..., [0, 2]], atol=1e-4, rtol=1e-4)
    ours, theirs = smaller.latent(b_exp, b_lip), navigation.latent(a_exp, a_lip)
    torch.testing.assert_close(ours[:, inside], theirs[:, inside], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(smaller.limits, navigation.limits[[0, 2, 4]])


def test_few_coefficients_are_enough():
    energies = torch.tensor([1.0, 0.01, 9.0, 0.0])
    assert strongest_share(energies, 1.0).all()
    assert strongest_share(energies, 0.9999).tolist() == [True, True, True, False]
    assert strongest_share(energies, 0.9).tolist() == [True, False, True, False]  # 9 of 10.01 are a little less
    assert strongest_share(energies, 0.85).tolist() == [False, False, True, False]


def test_configs_of_before_the_bases_had_names_still_load():
    old = {"latent": 10, "feature_dim": 6, "n_exp": 2, "n_lip": 3, "hidden": 8, "reach": 6, "dropout": 0.1}
    assert NavigationConfig.from_dict(old | {"joint_qr": True}) == NavigationConfig.from_dict(old)
    assert NavigationConfig.from_dict(old | {"joint_qr": False}).bases == "separate"
    now = NavigationConfig.from_dict(old | {"bases": "none"})
    assert NavigationConfig.from_dict(now.to_dict()) == now and "joint_qr" not in now.to_dict()
    with pytest.raises(TypeError):
        NavigationConfig.from_dict(old | {"no_such": 1})
    with pytest.raises(AssertionError):
        NavigationConfig.from_dict(old | {"bases": "some"})


def test_given_directions_survive_the_qr():
    torch.manual_seed(1)
    wanted = torch.linalg.qr(torch.randn(10, 5)).Q * torch.tensor([1, -1, 1, -1, -1])
    blendshapes = OrthogonalBlendshapes(10, 2, 3)
    blendshapes.set_directions(wanted, torch.arange(1.0, 6.0))
    torch.testing.assert_close(blendshapes.directions(), wanted, atol=1e-5, rtol=0)
    b_exp, b_lip = blendshapes()
    torch.testing.assert_close(torch.cat([b_exp, b_lip], 1).norm(dim=0), torch.arange(1.0, 6.0))


def test_the_equation():
    navigation = random_navigation()
    a_exp, a_lip = torch.randn(4, 2), torch.randn(4, 3)
    b_exp, b_lip = navigation.blendshapes()
    torch.testing.assert_close(navigation.latent(a_exp, a_lip), navigation.w_can + a_exp @ b_exp.T + a_lip @ b_lip.T)
    torch.testing.assert_close(navigation.latent(torch.zeros(2), torch.zeros(3)), navigation.w_can)


def test_blink_enters_the_expression_additively_and_vanishes_at_zero():
    navigation = random_navigation()
    features, blink = torch.randn(1, 20, 6), torch.rand(1, 10)
    silent = navigation.expression(features, torch.zeros(1, 10))
    torch.testing.assert_close(navigation.expression(features, blink) - silent, navigation.blink(blink))
    assert not navigation.blink(torch.zeros(3)).any() and navigation.blink(torch.ones(3)).any()


def test_encoder_has_a_bounded_reach():
    torch.manual_seed(0)
    encoder = AudioEncoder(EncoderConfig(6, 8), 3).eval()
    features = torch.randn(1, 120, 6)
    changed = features.clone()
    changed[:, 60:62] += 5  # frame 30
    difference = (encoder(features) - encoder(changed))[0].abs().sum(-1)
    assert difference[30] > 1e-4
    assert difference[:16].max() < 1e-6 and difference[46:].max() < 1e-6


def test_axes_and_units_change_nothing_but_the_coordinates():
    navigation = random_navigation()
    features, blink = torch.randn(1, 40, 6), torch.rand(1, 20)

    def latents():
        return navigation.latent(navigation.expression(features, blink), navigation.lips(features))

    before = latents()
    r_exp, r_lip = torch.linalg.qr(torch.randn(2, 2)).Q, torch.linalg.qr(torch.randn(3, 3)).Q
    old_lip = navigation.lips(features)
    navigation.rotate_coefficients(r_exp, r_lip)
    torch.testing.assert_close(latents(), before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(navigation.lips(features), old_lip @ r_lip, atol=1e-4, rtol=1e-4)
    std = torch.tensor([0.5, 2.0, 3.0, 0.1, 1.0])
    navigation.set_units(std, torch.zeros(5, 2))
    torch.testing.assert_close(latents(), before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(navigation.lips(features), old_lip @ r_lip / std[2:], atol=1e-4, rtol=1e-4)


def test_lips_are_transformed_and_their_smoothing_is_not():
    navigation, features = random_navigation(), torch.randn(1, 40, 6)
    with torch.no_grad():
        navigation.lip_encoder.audio.attention.weight.normal_(std=0.3)
        navigation.unit.copy_(torch.tensor([1.0, 1.0, 2.0, 0.5, 1.0]))
    before = navigation.lips(features)
    matrix = torch.eye(3) + 0.3 * torch.randn(3, 3)
    navigation.transform_lips(matrix)
    torch.testing.assert_close(navigation.lips(features), before @ matrix.T, atol=1e-4, rtol=1e-4)


def test_reconstruction_sees_only_the_mask():
    image, target, mask = torch.rand(8, 8, 3), torch.rand(8, 8, 3), torch.zeros(8, 8, 1)
    mask[:4] = 1
    other = image.clone()
    other[4:] = 0
    assert reconstruction_loss(image, target, mask) == reconstruction_loss(other, target, mask) > 0
    assert reconstruction_loss(target, target, mask) == 0


def flat_splats(w):
    """A "generator": w[0] and w[1] are the brightness of an upper and a lower splat, and w[2] of both."""
    means = torch.tensor([[0.0, 0.6, 0.0], [0.0, -0.6, 0.0]]).expand(len(w), 2, 3)
    colors = torch.stack([w[:, 0] + w[:, 2], w[:, 1] + w[:, 2]], dim=1)[..., None].expand(-1, -1, 3)
    return Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).expand(len(w), 2, 4), torch.full((len(w), 2, 3), 0.4),
        torch.full((len(w), 2), 0.9), 0.5 + 0.1 * colors,
    )  # fmt: skip


def some_view(seed: int, centre: int = 4) -> View:
    draw = torch.Generator().manual_seed(seed)
    upper = torch.zeros(32, 32, 1)
    upper[:14] = 1
    return View(
        torch.randn(18, 6, generator=draw), torch.rand(9, generator=draw), centre,
        Camera.stack([orbit_camera(size=32)]), torch.rand(32, 32, 3, generator=draw), upper, upper.flip(0),
    )  # fmt: skip


def reference_render(gaussians, cameras):
    from dgtalker.render import render

    return render(gaussians, cameras, backend="reference")


@pytest.mark.parametrize(
    ("routing", "same", "reached"),
    [
        ("both", False, True),
        ("both", True, True),
        ("own", False, False),
        ("swapped", False, True),
        ("swapped", True, False),
    ],
)
def test_gradient_routing(routing, same, reached):
    navigation = random_navigation()
    config, i = CrossViewConfig(routing=routing), some_view(1)
    j = i if same else some_view(2)
    up, _ = cross_view_loss(navigation, flat_splats, reference_render, i, j, config)
    up.backward()
    lips = [p.grad for p in navigation.lip_encoder.parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert bool(lips) == reached, "L_up must reach the lip branch exactly when routing is 'both'"
    assert any(p.grad.abs().max() > 0 for p in navigation.expression_encoder.parameters() if p.grad is not None)


def test_linear_routing_on_swapped_pairs_only():
    """Gradients of "swapped" are those of "both" on swapped rows and of "own" on the others."""

    def gradient(routing, rows, swapped):
        torch.manual_seed(1)
        a_exp, a_lip = torch.randn(4, 6, 2), torch.randn(4, 6, 3)
        target, r = torch.randn(2, 4, 6, 10), torch.randn(2, 4, 10)
        navigation = random_navigation()
        loss = linear_cross_view_loss(
            navigation, a_exp[rows], a_lip[rows], *target[:, rows], tuple(r), routing, swapped=swapped
        )
        loss.backward()
        return loss.detach() * len(rows), navigation.blendshapes.raw.grad * len(rows)

    mixed = gradient("swapped", [0, 1, 2, 3], torch.tensor([True, False, True, False]))
    parts = gradient("both", [0, 2], None), gradient("own", [1, 3], None)
    for whole, both, own in zip(mixed, *parts, strict=True):
        torch.testing.assert_close(whole, both + own, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(mixed[1], gradient("both", [0, 1, 2, 3], None)[1], atol=1e-3)


def test_without_masks_both_losses_see_everything():
    navigation = random_navigation()
    i = some_view(1)
    masked = cross_view_loss(navigation, flat_splats, reference_render, i, i, CrossViewConfig())
    whole = cross_view_loss(navigation, flat_splats, reference_render, i, i, CrossViewConfig(masks=False))
    assert whole[0] == whole[1] and masked[0] != masked[1]


def toy(seed: int = 0, frames: int = 400):
    """Upper and lower face answer to overlapping halves of a 10-dimensional latent; deviations mix both."""
    random = np.random.default_rng(seed)
    j_up, j_low = (torch.from_numpy(random.normal(size=(6, 10))).float() for _ in range(2))
    j_up[:, 7:], j_low[:, :3] = 0, 0
    deviations = torch.from_numpy(random.normal(size=(frames, 4)) @ random.normal(size=(4, 10))).float()
    return Response.normalised(j_up.T @ j_up, j_low.T @ j_low, deviations), deviations


def leakage(response: Response, directions: torch.Tensor) -> tuple[float, float]:
    def change(m, b):
        return float(((m @ b) * b).sum(0).clamp_min(0).sqrt().sum())

    b_exp, b_lip = directions[:, :2], directions[:, 2:]
    up, low = response.upper, response.lower
    return change(low, b_exp) / change(up, b_exp), change(up, b_lip) / change(low, b_lip)


def test_warm_start_separates_the_regions():
    response, deviations = toy()
    directions = initial_directions(response, deviations, 2, 3)
    torch.testing.assert_close(directions.T @ directions, torch.eye(5), atol=1e-4, rtol=0)
    start = torch.linalg.svd(deviations, full_matrices=False).Vh[:5]  # principal directions do not separate them
    mixed = leakage(response, torch.cat([start, torch.zeros(5 - len(start), 10)]).T)
    ours = leakage(response, directions)
    assert max(ours) < 0.5 * min(mixed)
    p_exp, p_lip = projection_matrices(response, directions, 2)
    step = deviations @ p_exp.T @ directions[:, :2].T
    factor_up, _ = response.square_roots()
    left = ((step - deviations) @ factor_up.T).square().sum(-1).mean()
    assert left < 0.6, "two directions must explain a good part of the upper face's motion (1 = nothing)"


@pytest.mark.parametrize(
    ("routing", "p_swap", "disentangles"), [("both", 0.5, True), ("both", 0.0, False), ("own", 0.5, False)]
)
def test_only_swapping_with_both_gradients_disentangles(routing, p_swap, disentangles):
    """A linear toy: leakage tells the variants apart."""
    torch.manual_seed(0)
    j_up = torch.zeros(4, 10)
    j_up[:, :4] = torch.eye(4)
    j_low = torch.zeros(4, 10)
    j_low[:, 4:8] = torch.eye(4)
    exp_codes, lip_codes = torch.randn(600, 2), torch.randn(600, 3)
    deviations = exp_codes @ torch.randn(2, 10) * (torch.arange(10) < 4) + lip_codes @ torch.randn(3, 10) * (
        (torch.arange(10) >= 4) & (torch.arange(10) < 8)
    )
    navigation = random_navigation()
    heads = torch.nn.ParameterList([torch.zeros(5, 2), torch.zeros(5, 3)])  # codes -> coefficients
    with torch.no_grad():
        for head in heads:
            head.normal_(0, 0.5)
    optimizer = torch.optim.Adam([*heads, *navigation.blendshapes.parameters()], lr=0.02)
    codes = torch.cat([exp_codes, lip_codes], 1)  # sound tells both, as it does in speech
    for _ in range(300):
        i, j = torch.randint(600, (64,)), torch.randint(600, (64,))
        j = torch.where(torch.rand(64) < p_swap, j, i)
        loss = linear_cross_view_loss(
            navigation, (codes[i] @ heads[0])[:, None], (codes[j] @ heads[1])[:, None], deviations[i][:, None],
            deviations[j][:, None], (j_up, j_low), routing, velocity=0.0,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        b_exp, b_lip = navigation.blendshapes()
        exp, lip = codes @ heads[0] @ b_exp.T, codes @ heads[1] @ b_lip.T
        exp_to_low = ((exp @ j_low.T).norm() / (exp @ j_up.T).norm()).item()
        lip_to_up = ((lip @ j_up.T).norm() / (lip @ j_low.T).norm()).item()
    assert (max(exp_to_low, lip_to_up) < 0.15) == disentangles, (exp_to_low, lip_to_up)


def test_a_start_without_regions_explains_as_much_and_favours_no_branch():
    response, deviations = toy()
    blind = principal_directions(response, deviations, 5)
    torch.testing.assert_close(blind.T @ blind, torch.eye(5), atol=1e-4, rtol=0)
    whole = response.unmasked()
    torch.testing.assert_close(whole.upper, whole.lower)
    torch.testing.assert_close(whole.metric(), response.metric())
    parted = initial_directions(response, deviations, 2, 3)
    assert min(leakage(response, blind)) > 2 * max(leakage(response, parted))

    def unexplained(directions):
        metric = response.metric()
        a = torch.linalg.solve(directions.T @ metric @ directions, directions.T @ metric @ deviations.T)
        left = deviations - (directions @ a).T
        return (left @ metric * left).sum()

    assert unexplained(blind) <= 1.01 * unexplained(parted)


def test_one_basis_is_one_loss_of_one_picture():
    """Without swapping and masks both losses are one and the same, for whatever the two branches hold."""
    navigation, i = random_navigation(), some_view(1)
    up, low = cross_view_loss(navigation, flat_splats, reference_render, i, i, CrossViewConfig(p_swap=0, masks=False))
    assert up == low
    gradients = [torch.autograd.grad(loss, navigation.blendshapes.raw, retain_graph=True)[0] for loss in (up, low)]
    torch.testing.assert_close(*gradients)


def test_silence_becomes_zero_and_latents_stay():
    navigation = random_navigation()
    silence, features = torch.zeros(80, 6), torch.randn(1, 60, 6)
    blink = torch.rand(1, 30)
    before = navigation.latent(navigation.expression(features, blink), navigation.lips(features))
    anchor = navigation.w_can.clone()
    zero_at_silence(navigation, silence)
    after = navigation.latent(navigation.expression(features, blink), navigation.lips(features))
    inside = slice(2, -2)  # at a sound's ends the window of neighbours sees nothing, which now means silence
    torch.testing.assert_close(after[:, inside], before[:, inside], atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        quiet = navigation.expression(silence[None], torch.zeros(1, 40)), navigation.lips(silence[None])
    assert all(float(a[0, 10:30].mean(0).abs().max()) < 1e-5 for a in quiet) and not torch.equal(
        anchor, navigation.w_can
    )
