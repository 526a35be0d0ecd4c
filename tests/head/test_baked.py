"""The baked head: its equation, precision, gradient, fast path, damaged input and older files."""

import json

import numpy as np
import pytest
import torch
from fakes.identity import fake_head, make_fake_identity
from fakes.identity_data import tiny_generator
from safetensors.torch import load_file

from dgtalker.errors import UserError
from dgtalker.head.baked import ATTRIBUTES, BakedHead, baked_from_gaussians, gaussians_from_baked, quadratic_features
from dgtalker.identity import Identity, compress_tensors
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.pretrained import dequantize_int8, quantize_int8, write_checkpoint

FIELDS = ("means", "quats", "scales", "opacities", "colors")
RANKS = {"means": 4, "log_scales": 2, "axis_angles": 3, "logit_opacities": 1, "colors": 2}


def random_head(count: int = 30, coefficients: int = 3, dtype: torch.dtype = torch.float32) -> BakedHead:
    """Every buffer random, rotations included; no bounds."""
    torch.manual_seed(0)
    head = BakedHead(count, coefficients, RANKS).to(dtype)
    for name, buffer in head.named_buffers():
        if buffer.is_floating_point() and not name.startswith(("bounds_", "longest")):
            buffer.normal_(0, 0.3)
    head.base_quats.copy_(torch.nn.functional.normalize(torch.randn_like(head.base_quats), dim=-1))
    return head


# -- the equation -----------------------------------------------------------------------------------------------------


def test_features_are_linear_and_quadratic():
    a = torch.tensor([2.0, 3.0, 5.0])
    assert quadratic_features(a).tolist() == [2, 3, 5, 4, 6, 10, 9, 15, 25]
    assert not quadratic_features(torch.zeros(2, 3)).any()


def test_attributes_are_the_written_out_equation():
    head, a = random_head(), torch.randn(3)
    phi = [*a, *(a[i] * a[j] for i in range(3) for j in range(i, 3))]
    for name, value in head.attributes(a).items():
        mean, basis, weights = (getattr(head, f"{kind}_{name}") for kind in ("mean", "basis", "weights"))
        expected = mean.clone()
        for f, feature in enumerate(phi):
            for r in range(RANKS[name]):
                expected += feature * weights[f, r] * basis[r]
        torch.testing.assert_close(value, expected)


def test_zero_coefficients_are_the_mean_exactly():
    head = random_head()
    for name, value in head.attributes(torch.zeros(3)).items():
        assert torch.equal(value, getattr(head, f"mean_{name}"))
    mean = {name: getattr(head, f"mean_{name}") for name in ATTRIBUTES}
    assert torch.equal(head(torch.zeros(3)).means, gaussians_from_baked(mean, head.base_quats).means)


def test_activation_and_its_inverse():
    head = random_head()
    attributes = head.attributes(torch.randn(4, 3))
    back = baked_from_gaussians(gaussians_from_baked(attributes, head.base_quats), head.base_quats)
    for name, value in attributes.items():
        torch.testing.assert_close(back[name], value, atol=1e-3, rtol=1e-3)


def test_a_baked_generator_follows_the_generator():
    from dgtalker.training.identity.baking import BakingConfig, bake_head
    from dgtalker.training.identity.regional_head import RegionalHead
    from dgtalker.training.stage import Stage

    generator = tiny_generator().requires_grad_(False)
    torch.manual_seed(3)
    navigation = Navigation(NavigationConfig(generator.w_dim, feature_dim=80, n_exp=2, n_lip=2)).requires_grad_(False)
    regional = RegionalHead(generator, navigation, regional=True)
    head, figures = bake_head(regional, torch.randn(100, 4), BakingConfig(samples=60, held_out=2), Stage())
    assert figures["held_out_psnr_min"] > 40
    a = 0.7 * torch.randn(6, 4)
    kept = regional(a[:, :2], a[:, 2:])
    with torch.no_grad():
        baked = head(a)
    if head.count == kept.count:  # no splat was too transparent to keep
        rest = regional(0 * a[:1, :2], 0 * a[:1, 2:])
        error, motion = (baked.means - kept.means).norm(dim=-1), (kept.means - rest.means).norm(dim=-1)
        assert error.mean() < 0.03 * motion.mean()
        torch.testing.assert_close(head(torch.zeros(4)).means, rest.means[0], atol=1e-6, rtol=0)


# -- gradient, shapes, fast path --------------------------------------------------------------------------------------


def test_gradient():
    head = random_head(count=5, dtype=torch.float64)
    a = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: tuple(getattr(head(a), name) for name in FIELDS), a)


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3)])
def test_batches_are_rows(batch):
    head, a = random_head(), torch.randn(*batch, 3)
    gaussians = head(a)
    assert gaussians.means.shape == (*batch, 30, 3) and gaussians.opacities.shape == (*batch, 30)
    last = (-1,) * len(batch)
    torch.testing.assert_close(gaussians.colors[last], head(a[last]).colors)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_fast_path_equals_the_module(dtype):
    head = random_head()
    a = np.random.default_rng(0).normal(size=3).astype(dtype)
    fast, slow = head.frame(a), head(torch.from_numpy(a).float())
    for name in FIELDS:
        assert getattr(fast, name).dtype == torch.float32
        torch.testing.assert_close(getattr(fast, name), getattr(slow, name), atol=1e-5, rtol=1e-5)


def test_the_fast_path_notices_new_weights():
    head, other, a = random_head(), fake_head(), np.ones(6, np.float32)
    other.frame(a)
    changed = {key: value * 2 for key, value in other.state_dict().items()}
    other.load_state_dict(changed)
    torch.testing.assert_close(other.frame(a).means, other(torch.from_numpy(a)).means, atol=1e-5, rtol=1e-5)
    b = np.array([0.5, -1.0, 2.0], np.float32)
    before = head.frame(b)
    order, signs = torch.tensor([2, 0, 1]), torch.tensor([1.0, -1.0, 1.0])
    head.permute_coefficients(order, signs)
    after = head.frame(b[order.numpy()] * signs.numpy())
    torch.testing.assert_close(after.means, before.means, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("call", ["forward", "frame"])
def test_a_wrong_count_is_refused(call):
    a = torch.zeros(4) if call == "forward" else np.zeros(4)
    with pytest.raises(AssertionError, match="coefficients"):
        getattr(random_head(), call)(a)


# -- precision on disk ------------------------------------------------------------------------------------------------


def test_int8_is_within_half_a_step():
    tensors = {"basis": torch.randn(4, 30, 3), "flat": torch.zeros(2, 5, 3), "other": torch.randn(3)}
    stored = quantize_int8(tensors, ["basis", "flat"])
    assert stored["basis"].dtype == torch.int8 and stored["basis.scale"].shape == (4, 1, 3)
    back = dequantize_int8(stored)
    assert back.keys() == tensors.keys() and torch.equal(back["other"], tensors["other"])
    assert not back["flat"].any()
    assert ((back["basis"] - tensors["basis"]).abs() <= 0.5001 * stored["basis.scale"]).all()
    again = quantize_int8(back, ["basis", "flat"])
    assert torch.equal(again["basis"], stored["basis"])  # rounded only once


def test_stored_in_half_precision_and_used_in_single(tmp_path):
    identity = Identity.from_pretrained(make_fake_identity(tmp_path / "fake"))
    stored = load_file(tmp_path / "fake" / "model.safetensors")
    dtypes = {key.split(".")[-1]: value.dtype for key, value in stored.items() if key.startswith("head.")}
    assert dtypes["mean_colors"] == dtypes["base_quats"] == torch.float16
    assert dtypes["mean_means"] == dtypes["weights_means"] == torch.float32 and dtypes["part"] == torch.int16
    assert {buffer.dtype for buffer in identity.head.buffers()} == {torch.float32, torch.int16}
    assert identity.gaussians(np.ones(3), np.ones(3)).means.dtype == torch.float32


# -- damaged input and older files ------------------------------------------------------------------------------------


def write_identity(folder, change_tensors=None, change_config=None):
    """A fake identity whose tensors and config are changed before they are written, with a matching hash."""
    identity = Identity.from_pretrained(make_fake_identity(folder))
    tensors = {f"navigation.{key}": value for key, value in identity.navigation.state_dict().items()}
    tensors |= {f"head.{key}": value for key, value in identity.head.state_dict().items()}
    tensors = compress_tensors(tensors)
    config = json.loads((folder / "config.json").read_text())
    if change_tensors is not None:
        change_tensors(tensors)
    if change_config is not None:
        change_config(config)
    write_checkpoint(folder, "identity", config, tensors, half=False)
    return folder


DAMAGE = {
    "missing": lambda tensors: tensors.pop("head.mean_colors"),
    "extra": lambda tensors: tensors.update({"head.extra": torch.zeros(1)}),
    "shape": lambda tensors: tensors.update({"head.base_quats": torch.zeros(7, 4)}),
    "scale of another rank": lambda tensors: tensors.update({"head.basis_means.scale": torch.ones(5, 1, 3)}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_tensors_are_one_sentence(tmp_path, damage):
    folder = write_identity(tmp_path / "fake", damage)
    with pytest.raises(UserError) as error:
        Identity.from_pretrained(folder)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change", [{"count": -1}, {"count": "many"}, {"ranks": {"means": 1}}, {"ranks": 3}, {"unknown": 1}], ids=str
)
def test_a_damaged_config_is_one_sentence(tmp_path, change):
    folder = write_identity(tmp_path / "fake", change_config=lambda config: config["head"].update(change))
    with pytest.raises(UserError, match="damaged"):
        Identity.from_pretrained(folder)


@pytest.mark.parametrize(
    ("a_exp", "a_lip", "message"),
    [
        (np.zeros(2), np.zeros(3), "3 expression and 3 lip"),
        (np.zeros(3), np.zeros(4), "3 expression and 3 lip"),
        (np.array([0, np.nan, 0]), np.zeros(3), "finite"),
        (np.zeros(3), np.array([np.inf, 0, 0]), "finite"),
    ],
)
def test_bad_coefficients_are_user_errors(tmp_path, a_exp, a_lip, message):
    identity = Identity.from_pretrained(make_fake_identity(tmp_path / "fake"))
    for drive in (identity.frame, identity.gaussians):
        with pytest.raises(UserError, match=message):
            drive(a_exp, a_lip)


def test_folders_from_before_int8_load(tmp_path):
    """Older identities have bases in half precision, and a navigation without `bases` and `backbone`."""

    def widen(tensors):
        for key in [key for key in tensors if key.endswith(".scale")]:
            name = key.removesuffix(".scale")
            tensors[name] = (tensors[name].float() * tensors.pop(key)).half()

    def simplify(config):
        config["navigation"] = {k: v for k, v in config["navigation"].items() if k not in ("bases", "backbone")}
        config["navigation"]["joint_qr"] = True

    old = Identity.from_pretrained(write_identity(tmp_path / "old", widen, simplify))
    new = Identity.from_pretrained(make_fake_identity(tmp_path / "new"))
    for a in (np.zeros(3), np.array([1.0, -2.0, 0.5])):
        torch.testing.assert_close(old.frame(a, a).means, new.frame(a, a).means, atol=2e-3, rtol=0)
