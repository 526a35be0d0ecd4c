"""Face controls on a baked head: what they add, where, beside blinks and winks, on disk, and damaged."""

import json

import numpy as np
import pytest
import torch

from dgtalker.errors import UserError
from dgtalker.head.face_controls import FaceControl, FaceControls, share_lids
from dgtalker.identity import Identity
from dgtalker.pretrained import load_tensors, write_checkpoint


@pytest.fixture(scope="module")
def expressive(fake_identity_with_controls) -> Identity:
    return Identity.from_pretrained(fake_identity_with_controls)


def means(identity, **settings):
    return identity.posed_splats(settings).means.numpy()


def test_a_control_moves_its_own_half_in_proportion(expressive):
    rest, half, whole = (means(expressive, smile=amount) for amount in (0.0, 0.5, 1.0))
    lower = expressive.head.lower_weight.numpy() > 0
    np.testing.assert_allclose((whole - rest)[lower], np.tile([0.05, 0, 0], (lower.sum(), 1)), atol=5e-4)
    np.testing.assert_allclose(half - rest, (whole - rest) / 2, atol=1e-6)
    assert np.array_equal(whole[~lower], rest[~lower])


def test_a_control_is_added_to_coefficients_whose_curves_it_leaves(expressive):
    rest, moved = means(expressive, lip1=2.0), means(expressive, lip1=2.0, smile=1.0)
    np.testing.assert_allclose(moved - rest, means(expressive, smile=1.0) - means(expressive), atol=1e-6)
    for plain, smiling in zip(
        expressive.coefficients({"lip1": 2.0}), expressive.coefficients({"lip1": 2.0, "smile": 1.0}), strict=True
    ):
        assert np.array_equal(plain, smiling)


def test_off_is_the_head_without_controls_to_the_bit(expressive, identity):
    zero = np.zeros(3, np.float32)
    for drive in ("frame", "gaussians"):
        plain = getattr(identity, drive)(zero, zero)
        off = getattr(expressive, drive)(zero, zero, np.zeros(len(expressive.controls), np.float32))
        for name in ("means", "quats", "scales", "opacities", "colors"):
            assert torch.equal(getattr(plain, name), getattr(off, name))


def test_the_fast_path_is_the_differentiable_one(expressive):
    values = np.array([[0.7, 0.2, 0.4, 0.9], [0.0, 1.0, 0.0, 0.3]], np.float32)
    a = np.full((2, 3), 0.5, np.float32)
    batch = expressive.gaussians(a, a, values)
    for row in (0, 1):
        torch.testing.assert_close(batch[row].means, expressive.frame(a[row], a[row], values[row]).means)


def test_lids_that_are_shut_are_moved_no_further():
    controls = [FaceControl("smile", "", "lower"), FaceControl("wide", "", "upper", "move"),
                FaceControl("wink", "", "upper", "close")]  # fmt: skip
    shown = share_lids(np.ones((3, 3)), np.array([0.0, 0.5, 1.0]), controls)
    assert shown[:, 0].tolist() == [1, 1, 1]
    assert shown[:, 1].tolist() == [0, 0, 0]  # the wink has the lids
    assert shown[:, 2].tolist() == [1, 0.5, 0]
    assert share_lids(np.array([0.0, 1.0, 0.0]), np.array(0.25), controls).tolist() == [0, 0.75, 0]


def test_saved_and_loaded_again(expressive, tmp_path, fake_identity):
    expressive.save_pretrained(tmp_path / "again")
    again = Identity.from_pretrained(tmp_path / "again")
    assert again.controls == expressive.controls and again.control_names[:2] == ["smile", "brows_up"]
    stored = load_tensors(tmp_path / "again" / "model.safetensors")
    assert stored["controls.change_means"].dtype == torch.int8
    assert np.array_equal(means(again, smile=0.7), means(expressive, smile=0.7))  # rounded only once
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert [row["name"] for row in config["controls"]] == expressive.control_names
    plain = Identity.from_pretrained(fake_identity)
    assert plain.controls == () and plain.control_names == []


def test_unknown_controls_and_values_are_one_sentence(expressive, identity):
    with pytest.raises(UserError, match="There is no coefficient 'grin'; choose from exp1.*blink, smile"):
        expressive.posed_splats({"grin": 1.0})
    with pytest.raises(UserError, match="smile must be a number within"):
        expressive.posed_splats({"smile": 1.5})
    with pytest.raises(UserError, match="There is no coefficient 'smile'"):
        identity.posed_splats({"smile": 1.0})
    assert np.array_equal(means(expressive, smile=-1.0), means(expressive))  # 0 is off, as the blink's open


def rewrite(folder, target, change_config=None, change_tensors=None):
    config, tensors = json.loads((folder / "config.json").read_text()), load_tensors(folder / "model.safetensors")
    if change_config:
        change_config(config["controls"])
    if change_tensors:
        change_tensors(tensors)
    return write_checkpoint(target, "identity", config, tensors, half=False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda rows: rows[0].update(name="brows_up"),
        lambda rows: rows[0].update(name="no name"),
        lambda rows: rows[0].update(region="middle"),
        lambda rows: rows[0].update(splats=-1),
        lambda rows: rows[0].update(splats="many"),
        lambda rows: rows[0].update(extra=1),
        lambda rows: rows[0].pop("label"),
        lambda rows: rows.clear(),
        lambda rows: rows.pop(),
    ],
)
def test_a_damaged_description_is_one_sentence(fake_identity_with_controls, tmp_path, damage):
    folder = rewrite(fake_identity_with_controls, tmp_path / "damaged", damage)
    with pytest.raises(UserError) as error:
        Identity.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [-1, 400, 0])
def test_splats_that_the_head_does_not_have_are_refused(fake_identity_with_controls, tmp_path, index):
    def damage(tensors):
        tensors["controls.splats"][1] = index

    with pytest.raises(UserError, match="splats that it does not have"):
        Identity.from_pretrained(rewrite(fake_identity_with_controls, tmp_path / "x", None, damage))


def test_no_controls_are_no_face_controls():
    with pytest.raises(ValueError, match="names"):
        FaceControls([])
