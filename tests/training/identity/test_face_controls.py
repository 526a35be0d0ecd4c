"""Face controls from a generator: what each moves, halves that stay apart, lids that shut, heads that do not fit."""

import numpy as np
import pytest
import torch
from fakes.identity_data import tiny_generator

from dgtalker.errors import UserError
from dgtalker.head.baked import ATTRIBUTES, BakedHead, baked_from_gaussians
from dgtalker.head.splats import region_weights
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.metrics import EYES
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.training.identity.face_controls import (
    FACE_UNITS,
    FaceControlsBakingConfig,
    bake_face_controls,
    expression_step,
    find_texels,
    shut_lids,
)
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import Stage


def make_head(generator, w_can=None) -> RegionalHead:
    navigation = Navigation(NavigationConfig(generator.w_dim, feature_dim=80, n_exp=1, n_lip=1)).requires_grad_(False)
    if w_can is not None:
        navigation.w_can.copy_(w_can)
    return RegionalHead(generator, navigation, regional=True)


def bake_rest(head: RegionalHead) -> BakedHead:
    """A baked head of every second splat that never moves by its coefficients."""
    with torch.no_grad():
        splats = head.generator(head.navigation.w_can[None])
    quats = torch.nn.functional.normalize(splats.quats[0], dim=-1)
    kept = torch.arange(0, splats.count, 2)
    baked = BakedHead(len(kept), 2, {name: 1 for name in ATTRIBUTES})
    for name, value in baked_from_gaussians(splats, quats).items():
        getattr(baked, f"mean_{name}").copy_(value[0][kept])
    baked.base_quats.copy_(quats[kept])
    baked.part.copy_(head.generator.texel_part[kept].short())
    for name, weight in zip(("upper_weight", "lower_weight"), region_weights(head.generator), strict=True):
        getattr(baked, name).copy_(weight[kept])
    return baked


@pytest.fixture(scope="module")
def made():
    head = make_head(tiny_generator().requires_grad_(False))
    baked = bake_rest(head)
    return head, baked, bake_face_controls(head, baked, FaceControlsBakingConfig(), Stage())


def moved(made, **values):
    """How far the controls move each splat [N, 3]."""
    _, baked, controls = made
    amounts = torch.tensor([values.get(name, 0.0) for name in controls.names])
    with torch.no_grad():
        zero = torch.zeros(baked.coefficients)
        return baked(zero, controls.changes(amounts)).means - baked(zero).means


def test_every_control_has_figures_and_stays_in_its_half(made):
    head, baked, controls = made
    assert controls.names == [control.name for control in FACE_UNITS] and len(set(controls.names)) == 17
    hair = baked.part == head.generator.template.part_index("hair")
    for control in controls.controls:
        largest = 0.5 if control.name == "nose_wrinkle" else 0.2  # the nose is where the halves meet
        assert control.own > 0.01 and control.leakage < largest, control
        distance = moved(made, **{control.name: 1.0}).norm(dim=-1)
        other = baked.upper_weight == 1 if control.region == "lower" else baked.upper_weight == 0
        assert distance.max() > 0.01 and not distance[other].any() and not distance[hair].any(), control.name


def test_controls_do_what_their_names_say(made):
    head, baked, _ = made
    skin = baked.part == head.generator.template.part_index("skin")
    x, y = baked.mean_means[:, 0], baked.mean_means[:, 1]
    mean = lambda step, weight, axis: float((step[:, axis] * weight).sum() / weight.sum())  # noqa: E731
    lower, upper = baked.lower_weight * skin, baked.upper_weight * skin
    corner = lower * (x > 0.15)
    smile, frown = moved(made, smile=1.0), moved(made, frown=1.0)
    assert mean(smile, corner, 0) > 0 and mean(smile, corner, 1) > 0 > mean(frown, corner, 1)
    assert mean(moved(made, brows_up=1.0), upper, 1) > 0 > mean(moved(made, brows_down=1.0), upper, 1)
    assert mean(moved(made, jaw_left=1.0), lower, 0) > 0 > mean(moved(made, jaw_right=1.0), lower, 0)  # its own left
    left, right = (moved(made, **{f"wink_{side}": 1.0}).norm(dim=-1) for side in ("left", "right"))
    assert left[x > 0].max() > 0.02 > left[x < -0.1].max() and right[x < 0].max() > 0.02 > right[x > 0.1].max()
    assert y.max() > 1  # world units


def test_half_a_control_is_half_the_generators_movement(made):
    head, baked, _ = made
    texels = find_texels(baked, head)
    step = expression_step(head, FACE_UNITS[next(c for c in FACE_UNITS if c.name == "smile")], 0.5)
    with torch.no_grad():
        rest, half = head.generator(torch.stack([head.navigation.w_can, head.navigation.w_can + step])).means
    own = baked.upper_weight == 0
    torch.testing.assert_close(moved(made, smile=0.5)[own], (half - rest)[texels][own], atol=2e-3, rtol=0.02)


def test_lids_meet_and_do_not_cross(made):
    head = made[0]
    for control, units in FACE_UNITS.items():
        if control.lids != "close":
            continue
        shut = shut_lids(head, units, 0.08)
        name = next(unit for unit in shut if unit.startswith("eyeBlink"))
        assert 0.3 <= shut[name] < 1
        gaps = []
        for amount in (0.0, 1.0):
            w = head.navigation.w_can + expression_step(head, {name: shut[name]}, amount)
            points = head.generator.template.landmarks(head.generator.vertices(w[None])[0])
            pairs, _ = EYES[0 if name.endswith("Right") else 1]
            gaps.append(np.mean([float(points[u, 1] - points[v, 1]) for u, v in pairs]))
        assert 0 < gaps[1] < 0.12 * gaps[0]


def test_what_the_anchor_has_is_not_added_again():
    generator = tiny_generator().requires_grad_(False)
    names = list(generator.template.expression_names)
    scores = torch.zeros(52)
    scores[names.index("browInnerUp")] = 0.7
    head = make_head(generator, generator.w_from_geometry(expression=scores))
    added = generator.geometry_from_w(generator.w_mean + expression_step(head, {"browInnerUp": 1.0}, 1.0))[1]
    assert float(added[names.index("browInnerUp")]) == pytest.approx(0.3, abs=1e-3)


def test_w_plus_gives_the_same_controls(made):
    layered = WPlusGenerator(made[0].generator)
    head = make_head(layered, layered.to_w_plus(made[0].navigation.w_can))
    controls = bake_face_controls(head, made[1], FaceControlsBakingConfig(), Stage())
    assert torch.equal(controls.splats, made[2].splats)
    torch.testing.assert_close(controls.change_means, made[2].change_means, atol=1e-5, rtol=0)


def test_a_head_of_another_generator_is_refused(made):
    baked = bake_rest(made[0])
    baked.mean_means.add_(0.05)
    with pytest.raises(UserError, match="not made by this generator"):
        bake_face_controls(made[0], baked, FaceControlsBakingConfig(), Stage())
