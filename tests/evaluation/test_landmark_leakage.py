"""Landmarks that ride on a head whose directions are known to stay in their half, or not to."""

import numpy as np
import pytest
import torch
from fakes.held_out import same_landmarks

from dgtalker.camera import orbit_camera
from dgtalker.evaluation.attached_landmarks import attach_landmarks, landmark_halves, project
from dgtalker.evaluation.context import EvaluationContext
from dgtalker.evaluation.landmark_leakage import measure_landmark_leakage
from dgtalker.evaluation.leakage import FaceStates
from dgtalker.identity import Identity


@pytest.fixture
def identity(fake_identity, monkeypatch):
    monkeypatch.setattr("dgtalker.evaluation.attached_landmarks.MAX_PIXELS", 30.0)  # a few hundred splats lie far apart
    return Identity.from_pretrained(fake_identity)


def measure(identity, attached):
    states = FaceStates(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32), *np.ones((2, 2, 8, 8), np.float32))
    context = EvaluationContext(identity, [], {}, same_landmarks)
    return measure_landmark_leakage(context, states, [orbit_camera(size=64)] * 2, attached)


def test_halves_have_lips_below_and_eyes_above():
    upper, lower = landmark_halves()
    assert not set(upper) & set(lower)
    assert {33, 159, 386, 105} <= set(upper) and {13, 14, 61, 291, 152} <= set(lower) and 1 not in {*upper, *lower}


def test_anchors_lie_on_splats_of_their_half_that_face_the_camera(identity):
    attached = attach_landmarks(identity, same_landmarks)
    for splats, weight in ((attached.upper, identity.head.upper_weight), (attached.lower, identity.head.lower_weight)):
        assert bool((weight[torch.from_numpy(splats)] > 0.5).all())
        assert bool((identity.head.mean_means[torch.from_numpy(splats), 2] > 0).all())


def test_a_head_made_without_leakage_has_none(identity):
    found = measure(identity, attach_landmarks(identity, same_landmarks))
    assert found["by"] == "geometry" and found["unit"] == "pixels at 256" and min(found["landmarks"]) > 0
    assert found["lip_to_upper"] == 0 and found["exp_to_lower"] == 0
    assert found["matrix"]["change"][0][0] > 0.1 and found["matrix"]["change"][1][1] > 0.1


def test_leakage_that_was_put_in_is_found(identity):
    head = identity.head
    with torch.no_grad():  # every lip direction also moves the upper face, half as far as the mouth
        moved = head.basis_means[3:].norm(dim=-1).amax(dim=1)
        head.basis_means[3:] += 0.5 * moved[:, None, None] * head.upper_weight[None, :, None] * torch.eye(3)[0]
        head._arrays = None
    attached = attach_landmarks(identity, same_landmarks)
    found = measure(identity, attached)
    assert found["lip_to_upper"] > 0.3 and found["exp_to_lower"] == 0
    assert found["matrix"]["ratio"][1][0] == found["lip_to_upper"]


def test_without_anchors_the_detector_speaks(identity):
    found = measure(identity, None)
    assert found["by"] == "detector" and found["detector"] is None
    assert np.isnan(found["lip_to_upper"])  # it says that nothing ever moves


def test_a_canonical_head_without_a_face_has_no_anchors(identity):
    assert attach_landmarks(identity, lambda pictures: np.full((len(pictures), 478, 2), np.nan, np.float32)) is None


def test_projection_is_the_renderers(identity):
    pixels, depth = project(np.array([[0.0, 0, 0], [1.6, 0, 0], [0, 1.6, 0]]), orbit_camera(size=100))
    assert np.allclose(pixels, [[50, 50], [100, 50], [50, 0]], atol=1e-3) and np.allclose(depth, 12, atol=1e-4)
