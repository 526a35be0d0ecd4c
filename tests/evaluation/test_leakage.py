"""Leakage on a painted toy whose true leakage is known."""

import numpy as np
import pytest

from dgtalker.evaluation.leakage import FaceStates, control_leakage, pixel_leakage
from dgtalker.head.face_controls import FaceControl

H = 16


def toy(lip_to_upper, exp_to_lower, dead=False):
    """A picture of two halves: brightness follows the own coefficients, and the other ones times the leakage."""

    def picture(a_exp, a_lip, s):
        image = np.full((H, H, 3), 120.0)
        own = 0.0 if dead else 10.0
        image[: H // 2] += own * a_exp.sum() + 10 * lip_to_upper * a_lip.sum()
        image[H // 2 :] += 10 * a_lip.sum() + 10 * exp_to_lower * a_exp.sum()
        return np.clip(image, 0, 255).astype(np.float32)

    return picture


def states(count=3):
    rng = np.random.default_rng(0)
    upper = np.zeros((count, H, H), np.float32)
    upper[:, : H // 2] = 1
    return FaceStates(rng.normal(size=(count, 2)), rng.normal(size=(count, 3)), upper, 1 - upper)


def test_known_leakage_is_measured():
    report = pixel_leakage(toy(0.3, 0.1), states(), ["exp1", "exp2"], ["lip1", "lip2", "lip3"])
    assert report["lip_to_upper"] == pytest.approx(0.3, abs=1e-3)
    assert report["exp_to_lower"] == pytest.approx(0.1, abs=1e-3)
    assert report["swap_lip_to_upper"] == pytest.approx(0.3, abs=1e-3)
    assert report["swap_exp_to_lower"] == pytest.approx(0.1, abs=1e-3)
    assert report["coefficients"]["lip2"]["own"] == pytest.approx(10, abs=1e-3)
    assert report["coefficients"]["exp1"]["ratio"] == pytest.approx(0.1, abs=1e-3)


def test_leakage_of_face_controls_is_measured():
    moves = np.array([[2.0, 10.0], [20.0, 1.0], [0.0, 0.0]])  # grey levels that each adds to (upper, lower)

    def picture(a_exp, a_lip, s, values):
        upper, lower = (np.zeros(3) if values is None else values) @ moves
        image = np.full((H, H, 3), 120.0)
        image[: H // 2] += upper
        image[H // 2 :] += lower
        return image

    controls = [FaceControl(name, name, "upper" if name == "brows" else "lower") for name in ("smile", "brows", "none")]
    report = control_leakage(picture, states(), controls)
    assert report["smile"] == pytest.approx({"own": 10, "ratio": 0.2}, abs=1e-3)
    assert report["brows"] == pytest.approx({"own": 20, "ratio": 0.05}, abs=1e-3)
    assert np.isnan(report["none"]["ratio"])


def test_no_leakage_is_zero():
    report = pixel_leakage(toy(0, 0), states(), ["exp1", "exp2"], ["lip1", "lip2", "lip3"])
    assert report["lip_to_upper"] == 0 and report["exp_to_lower"] == 0


def test_a_direction_that_does_nothing_of_its_own_has_no_ratio():
    report = pixel_leakage(toy(0, 0.1, dead=True), states(), ["exp1", "exp2"], ["lip1", "lip2", "lip3"])
    assert np.isnan(report["exp_to_lower"]) and report["lip_to_upper"] == 0
