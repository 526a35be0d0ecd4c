"""The identity folder: saved, loaded, driven, and refused when damaged."""

import json
import warnings

import numpy as np
import pytest
import torch
from fakes.identity import SPLATS, make_fake_identity
from safetensors.torch import load_file

from dgtalker.errors import UserError
from dgtalker.identity import PREVIEW_FILE, Identity, list_identities
from dgtalker.pretrained import write_checkpoint


@pytest.fixture()
def folder(tmp_path):
    return make_fake_identity(tmp_path / "fake")


def test_round_trip_keeps_name_coefficients_and_preview(folder):
    identity = Identity.from_pretrained(folder)
    assert (identity.name, identity.n_exp, identity.n_lip) == ("fake", 3, 3)
    assert identity.lip_names == ["lip1", "lip2", "lip3"] and identity.feature_kind == "log-mel"
    assert (folder / PREVIEW_FILE).is_file() and (folder / "README.md").is_file()
    again = Identity.from_pretrained(identity.save_pretrained(folder.parent / "copy"))
    a_exp, a_lip = np.ones(3), np.ones(3)
    torch.testing.assert_close(identity.gaussians(a_exp, a_lip).means, again.gaussians(a_exp, a_lip).means)


def test_bases_are_stored_in_bytes_and_only_once_rounded(folder):
    identity = Identity.from_pretrained(folder)
    head = identity.head
    exact = torch.randn(head.basis_colors.shape, generator=torch.Generator().manual_seed(0))
    head.basis_colors.copy_(exact)
    stored = load_file(identity.save_pretrained(folder.parent / "copy") / "model.safetensors")
    assert stored["head.basis_colors"].dtype == torch.int8 and stored["head.mean_means"].dtype == torch.float32
    again = Identity.from_pretrained(folder.parent / "copy")
    steps = stored["head.basis_colors.scale"]
    assert steps.shape == (len(exact), 1, 3)
    assert ((again.head.basis_colors - exact).abs() <= 0.501 * steps).all()
    third = Identity.from_pretrained(again.save_pretrained(folder.parent / "third"))
    torch.testing.assert_close(third.head.basis_colors, again.head.basis_colors)
    # Earlier folders have the bases in half precision.
    stored = {k: v for k, v in stored.items() if not k.endswith(".scale")} | {"head.basis_colors": exact.half()}
    for name in ("means", "log_scales", "axis_angles", "logit_opacities"):
        stored[f"head.basis_{name}"] = getattr(head, f"basis_{name}").half()
    config = json.loads((folder / "config.json").read_text())
    write_checkpoint(folder.parent / "old", "identity", config, stored, half=False)
    torch.testing.assert_close(Identity.from_pretrained(folder.parent / "old").head.basis_colors, exact.half().float())


def test_fast_frame_equals_the_module(folder):
    identity = Identity.from_pretrained(folder)
    rng = np.random.default_rng(0)
    a_exp, a_lip = rng.normal(size=3), rng.normal(size=3)
    slow, fast = identity.gaussians(a_exp, a_lip), identity.frame(a_exp, a_lip)
    assert fast.means.shape == (SPLATS, 3)
    for field in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(fast, field), getattr(slow, field), atol=1e-5, rtol=1e-4)


def test_encode_shapes_blink_only_in_expression_and_limits(folder):
    identity = Identity.from_pretrained(folder)
    features = np.random.default_rng(1).normal(size=(50, 80))
    a_exp, a_lip = identity.encode(features)
    b_exp, b_lip = identity.encode(features, np.full(25, 0.5))
    assert a_exp.shape == (25, 3) and a_lip.shape == (25, 3) and a_exp.dtype == np.float32
    np.testing.assert_array_equal(a_lip, b_lip)
    np.testing.assert_allclose(b_exp - a_exp, np.broadcast_to(identity.blink_coefficients(0.5), (25, 3)), atol=1e-5)
    assert not identity.blink_coefficients(np.zeros(4)).any()
    wild_exp, wild_lip = identity.encode(1000 * features)
    assert np.abs(np.concatenate([wild_exp, wild_lip], 1)).max() <= 1.3 * 3 + 1e-5
    assert identity.encode(np.zeros((0, 80)))[0].shape == (0, 3)


def test_settings_by_name(folder):
    identity = Identity.from_pretrained(folder)
    a_exp, a_lip = identity.coefficients({"lip3": 1.5, "exp1": -1, "blink": 1})
    np.testing.assert_allclose(a_lip, [0, 0, 1.5])
    np.testing.assert_allclose(a_exp, [-1, 2, 0], atol=1e-3)


@pytest.mark.parametrize("settings", [{"lip4": 1.0}, {"lip1": float("nan")}, {"exp1": 1e9}, {"smile": 1.0}])
def test_bad_settings_are_user_errors(folder, settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Identity.from_pretrained(folder).coefficients(settings)


def test_bad_coefficients_and_features_are_user_errors(folder):
    identity = Identity.from_pretrained(folder)
    with pytest.raises(UserError, match="finite"):
        identity.frame(np.array([0, np.nan, 0]), np.zeros(3))
    with pytest.raises(UserError, match="finite"):
        identity.gaussians(torch.full((2, 3), float("inf")), torch.zeros(2, 3))
    with pytest.raises(UserError, match="lip coefficients"):
        identity.frame(np.zeros(3), np.zeros(4))
    with pytest.raises(UserError, match="log-mel"):
        identity.encode(np.zeros((50, 384)))
    with pytest.raises(UserError, match="blink"):
        identity.encode(np.zeros((50, 80)), np.zeros(7))


def test_far_coefficients_draw_without_warnings(folder):
    from dgtalker.camera import orbit_camera
    from dgtalker.render import render_frame

    identity = Identity.from_pretrained(folder)
    identity.head.basis_logit_opacities.fill_(-30.0)
    identity.head.basis_log_scales.fill_(30.0)
    identity.head.weights_logit_opacities.fill_(1.0)
    identity.head.weights_log_scales.fill_(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        far = identity.frame(np.full(3, 20.0), np.full(3, 20.0))
        assert render_frame(far, orbit_camera(size=32)).min() == 255


def test_damaged_folders_are_user_errors(folder, tmp_path):
    with pytest.raises(UserError):
        Identity.from_pretrained("nobody-of-that-name")
    config, weights = folder / "config.json", folder / "model.safetensors"
    good = json.loads(config.read_text())
    config.write_text(json.dumps({key: value for key, value in good.items() if key != "navigation"}))
    with pytest.raises(UserError, match="damaged"):
        Identity.from_pretrained(folder)
    config.write_text(json.dumps(good | {"head": good["head"] | {"count": 7}}))
    with pytest.raises(UserError):
        Identity.from_pretrained(folder)
    for part, change in (("navigation", {"n_exp": -1}), ("head", {"coefficients": 5})):
        config.write_text(json.dumps(good | {part: good[part] | change}))
        with pytest.raises(UserError, match="damaged"):
            Identity.from_pretrained(folder)
    config.write_text(json.dumps(good))
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        Identity.from_pretrained(folder)


def test_the_best_head_is_listed_first_and_unknown_ones_by_name(tmp_path, monkeypatch):
    for name in ("zoe", "actor3", "ann", "actor2"):
        folder = tmp_path / "identities" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    assert list_identities() == ["actor2", "actor3", "ann", "zoe"]
