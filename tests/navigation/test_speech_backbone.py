"""The speech backbone: a checkpoint like others, the start of a lip encoder, and no change where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes.identity import fake_head, make_fake_identity
from safetensors.torch import load_file

from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import BackboneConfig, SpeechBackbone, load_backbone, read_attribution
from dgtalker.pretrained import WEIGHTS_FILE, write_checkpoint

BACKBONE = BackboneConfig("log-mel", 80, ("aperture", "width"), hidden=8, dropout=0.0)


def shaken(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def with_backbone() -> Navigation:
    return shaken(Navigation(NavigationConfig(10, 80, n_exp=3, n_lip=3, hidden=8, backbone=BACKBONE)))


@pytest.fixture
def saved(tmp_path):
    backbone = shaken(SpeechBackbone(BACKBONE))
    details = {"training": {"attribution": "CC0, nobody"}}
    return backbone, backbone.save_pretrained(tmp_path / "speech" / "toy", details, "# toy\n")


def test_a_saved_backbone_is_found_by_name_and_says_the_same(saved, monkeypatch):
    backbone, folder = saved
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(folder.parents[1]))
    features = torch.randn(1, 20, 80)
    for source in ("toy", folder):
        hidden, lips = load_backbone(source)(features)
        assert hidden.shape == (1, 10, 8) and lips.shape == (1, 10, 2)
        torch.testing.assert_close(lips, backbone(features)[1], atol=1e-2, rtol=1e-2)
    assert "CC0, nobody" in read_attribution(folder)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder):
    torch.save({"a": torch.zeros(1)}, folder / "model.safetensors")
    edit(folder, lambda config: config.pop("weights_sha256"))


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        pickled,
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: edit(folder, lambda config: config.pop("backbone")),
        lambda folder: edit(folder, lambda config: config["backbone"].update(hidden="many")),
        lambda folder: edit(folder, lambda config: config["backbone"].update(hidden=9)),
        lambda folder: edit(folder, lambda config: config["backbone"].update(channels=5)),
        lambda folder: edit(folder, lambda config: config.update(kind="prior")),
    ],
)
def test_a_broken_backbone_is_one_sentence(saved, spoil):
    spoil(saved[1])
    with pytest.raises(UserError) as error:
        load_backbone(saved[1])
    assert str(saved[1]) in str(error.value) and "\n" not in str(error.value)


def test_an_identity_carries_its_own_copy_of_the_backbone(tmp_path):
    made = Identity("speaker", with_backbone(), fake_head(), {"feature_kind": "log-mel"})
    folder = made.save_pretrained(tmp_path / "speaker")
    loaded = Identity.from_pretrained(folder)
    assert loaded.navigation.config.backbone == BACKBONE
    features = np.random.default_rng(0).normal(size=(40, 80)).astype(np.float32)
    for a, b in zip(made.encode(features), loaded.encode(features), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-2)


def test_checkpoints_that_call_the_backbone_a_trunk_still_load(saved, tmp_path):
    backbone, folder = saved
    edit(folder, lambda config: config.update(kind="trunk", trunk=config.pop("backbone")))
    torch.testing.assert_close(load_backbone(folder).lips.weight, backbone.lips.weight, atol=1e-3, rtol=0)
    assert "CC0, nobody" in read_attribution(folder)

    made = Identity("speaker", with_backbone(), fake_head(), {"feature_kind": "log-mel"})
    older = made.save_pretrained(tmp_path / "speaker")
    tensors = {k.replace(".audio.backbone.", ".audio.trunk."): v for k, v in load_file(older / WEIGHTS_FILE).items()}
    assert any(".audio.trunk." in key for key in tensors)
    config = json.loads((older / "config.json").read_text())
    config["navigation"]["trunk"] = config["navigation"].pop("backbone")
    write_checkpoint(older, "identity", config, tensors, half=False)
    loaded = Identity.from_pretrained(older)
    assert loaded.navigation.config == made.navigation.config
    for key, value in made.navigation.state_dict().items():
        torch.testing.assert_close(loaded.navigation.state_dict()[key], value, atol=1e-3, rtol=1e-3)


def test_without_a_backbone_lips_are_what_they_always_were(tmp_path):
    """The encoder of identities made before there was a backbone, written out again, on a config that knows of none."""
    folder = make_fake_identity(tmp_path / "old")
    edit(folder, lambda config: config["navigation"].pop("backbone"))
    identity = Identity.from_pretrained(folder)
    navigation, weights = identity.navigation, identity.navigation.lip_encoder.audio.state_dict()
    features = torch.randn(60, 80, generator=torch.Generator().manual_seed(0))

    def layer(x, name, **options):
        return F.conv1d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    x = ((features - navigation.feature_mean) / navigation.feature_std).T[None]
    x = F.leaky_relu(layer(x, "squeeze"), 0.1)
    x = F.leaky_relu(layer(x, "to_frames", stride=2), 0.1)
    for k in range(3):
        x = x + F.leaky_relu(layer(x, f"temporal.{k}", padding=2), 0.1)
    x = layer(x, "head")
    windows = F.pad(x, (4, 3), mode="replicate").unfold(2, 8, 1)
    smoothed = torch.einsum("bknw,bwn->bkn", windows, layer(x, "attention", padding=2).softmax(dim=1))
    expected = (smoothed[0].T / navigation.unit[3:]).clamp(-3 * 1.3, 3 * 1.3)
    np.testing.assert_array_equal(identity.encode(features)[1], expected.numpy())


def test_axes_turn_with_a_backbone_too():
    navigation, features = with_backbone(), torch.randn(1, 40, 80)
    before = navigation.latent(navigation.expression(features, torch.zeros(1, 20)), navigation.lips(features))
    rotations = [torch.linalg.qr(torch.randn(n, n)).Q for n in (3, 3)]
    navigation.rotate_coefficients(*rotations)
    after = navigation.latent(navigation.expression(features, torch.zeros(1, 20)), navigation.lips(features))
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_the_backbone_learns_at_a_share_of_the_rate():
    navigation = with_backbone()
    fresh, backbone = navigation.encoder_parameter_groups(1e-3, 0.1)
    assert (fresh["lr"], backbone["lr"]) == (1e-3, 1e-4)
    assert {id(p) for p in backbone["params"]} == {id(p) for p in navigation.lip_encoder.audio.backbone.parameters()}
    count = len([*navigation.expression_encoder.parameters(), *navigation.lip_encoder.parameters()])
    assert len(fresh["params"]) + len(backbone["params"]) == count
    plain = Navigation(replace(navigation.config, backbone=None))
    (group,) = plain.encoder_parameter_groups(1e-3, 0.1)
    encoders = [*plain.expression_encoder.parameters(), *plain.lip_encoder.parameters()]
    assert list(map(id, group["params"])) == list(map(id, encoders)) and group["lr"] == 1e-3


def test_a_backbone_for_other_features_does_not_fit():
    with pytest.raises(ValueError, match="feature_dim"):
        NavigationConfig(10, 384, n_exp=2, n_lip=3, backbone=BACKBONE)
