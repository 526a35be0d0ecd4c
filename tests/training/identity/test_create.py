"""The whole pipeline on a fake person, in seconds: every stage works, and finished stages are not repeated."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.identity_data import tiny_generator, write_backbone, write_fake_dataset

from dgtalker.errors import UserError
from dgtalker.files import file_sha256
from dgtalker.identity import Identity
from dgtalker.navigation.speech_backbone import load_backbone
from dgtalker.resumable import TrainingStopped
from dgtalker.training.identity.anchor import AnchorConfig
from dgtalker.training.identity.baking import BakingConfig
from dgtalker.training.identity.config import CreateConfig, find_backbone
from dgtalker.training.identity.create import create_identity
from dgtalker.training.identity.frames import DatasetFrames, choose_pivots, find_rest_frames
from dgtalker.training.identity.inversion import AllFramesConfig, InversionConfig
from dgtalker.training.identity.leakage_removal import LeakageRemovalConfig
from dgtalker.training.identity.model_card import IdentityDetails
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.identity.tuning import TuningConfig
from dgtalker.video.dataset import Dataset

RANKS = {"means": 8, "log_scales": 4, "axis_angles": 4, "logit_opacities": 4, "colors": 8}
QUICK = CreateConfig(
    inversion=InversionConfig(frames=12, max_steps=30),
    tuning=TuningConfig(max_steps=20),
    all_frames=AllFramesConfig(rank=6, max_steps=10),
    navigation=NavigationTrainingConfig(
        n_exp=2,
        n_lip=3,
        motion_kept=1.0,
        hidden=16,
        warm_steps=120,
        image_steps=10,
        clips=3,
        run=24,
        leakage_removal=LeakageRemovalConfig(states=1, steps=200),
        anchor=AnchorConfig(steps=10),
    ),
    baking=BakingConfig(samples=80, ranks=RANKS, held_out=6, min_opacity=0.0),
    preview_steps=5,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("identity")
    generator = tiny_generator()
    return generator.save_pretrained(folder / "prior"), write_fake_dataset(folder / "data", generator)


@pytest.fixture(scope="module")
def created(inputs, tmp_path_factory):
    prior, data = inputs
    out = tmp_path_factory.mktemp("created") / "someone"
    messages = []
    identity = create_identity(
        data, out, prior, config=QUICK,
        details=IdentityDetails(title="Some One", attribution="CC0, nobody", license="cc0-1.0"),
        progress=lambda done, total, message: messages.append((done, total, message)),
    )  # fmt: skip
    return identity, out, messages


def test_identity_folder_is_complete_and_small(created):
    identity, out, _ = created
    files = {"config.json", "model.safetensors", "preview.png", "README.md", "coefficients.webp"}
    assert {p.name for p in out.iterdir()} == files
    assert (identity.name, identity.title, identity.n_exp, identity.n_lip) == ("someone", "Some One", 2, 3)
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: cc0-1.0\nlibrary_name: dgtalker\n") and "CC0, nobody" in card
    config = json.loads((out / "config.json").read_text())
    assert len(config["parents"]["prior"]) == 64 and config["training"]["frames"] == 90


def test_a_preview_speaks_before_tuning_is_over(created):
    identity, out, messages = created
    told = [m for _, _, m in messages]
    ready = next(k for k, m in enumerate(told) if m.startswith("preview: a first head speaks in"))
    assert any(m.startswith("tuning: step") for m in told[ready:])
    preview = Identity.from_pretrained(out.with_name("someone.work") / "preview")
    assert (preview.title, preview.config["preview"]) == ("Some One (preview)", True)
    assert "preview" not in identity.config and "A preview, made" in (preview.folder / "README.md").read_text()
    loud, quiet = (preview.encode(np.full((40, 80), level, np.float32))[1] for level in (0.0, 2.0))
    assert np.abs(loud - quiet).max() > 0.1


def test_the_preview_changes_nothing(created, inputs, tmp_path):
    prior, data = inputs
    create_identity(data, tmp_path / "someone", prior, config=replace(QUICK, preview_steps=None))
    assert file_sha256(tmp_path / "someone" / "model.safetensors") == file_sha256(created[1] / "model.safetensors")


def test_it_has_face_controls_with_their_leakage(created):
    identity, out, _ = created
    assert {"smile", "brows_up", "wink_left"} <= set(identity.control_names)
    assert all(control.own > 0 for control in identity.controls)
    assert "## Face controls" in (out / "README.md").read_text()
    smiling, rest = (identity.posed_splats({"smile": amount}).means for amount in (1.0, 0.0))
    lower = identity.head.upper_weight == 0
    assert (smiling - rest)[lower].abs().max() > 0.02
    assert torch.equal(smiling[identity.head.upper_weight == 1], rest[identity.head.upper_weight == 1])


def test_baked_streams_change_disjoint_regions(created):
    identity = created[0]
    head = identity.head
    codes = torch.zeros(2, identity.n_exp + identity.n_lip)
    codes[0, : identity.n_exp], codes[1, identity.n_exp :] = 2.0, 2.0
    by_exp, by_lip = (head.attributes(code) for code in codes)
    rest = head.attributes(torch.zeros_like(codes[0]))
    upper = head.upper_weight == 1
    lower = head.upper_weight == 0
    assert upper.any() and lower.any()
    for name, at_rest in rest.items():
        torch.testing.assert_close(by_lip[name][upper], at_rest[upper], rtol=0, atol=1e-5)
        torch.testing.assert_close(by_exp[name][lower], at_rest[lower], rtol=0, atol=1e-5)
    assert (by_lip["means"] - rest["means"])[lower].abs().max() > 1e-4


def test_a_licence_is_a_hugging_face_name():
    with pytest.raises(UserError, match="cc-by-4.0"):
        IdentityDetails(license="mine: all")


def test_baked_head_follows_the_generator(created):
    figures = created[0].config["training"]["baked"]
    assert figures["held_out_psnr"] > 38 and figures["sweep_psnr"] > 34


def test_coefficients_are_described_with_their_training_range(created, inputs):
    identity, out, _ = created
    rows = identity.descriptions
    assert set(rows) == {"exp1", "exp2", "lip1", "lip2", "lip3"} and "| lip1 |" in (out / "README.md").read_text()
    assert identity.config["coefficients"]["range_from"] == "training clips"
    codes = [np.concatenate(identity.encode(c.features, c.blink), 1) for c in Dataset.open(inputs[1])]
    ends = np.percentile(np.concatenate(codes), [0.5, 99.5], axis=0).T
    np.testing.assert_allclose([[row["low"], row["high"]] for row in rows.values()], ends, atol=0.15)


def test_progress_increases_to_one_and_the_log_names_every_stage(created):
    _, out, messages = created
    done = [d for d, _, _ in messages]
    assert done == sorted(done) and done[-1] == 1.0
    lines = [json.loads(line) for line in (out.parent / "someone.work" / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"inversion", "tuning", "preview", "all frames", "navigation", "baking"}
    for name in ("inversion", "tuning"):
        pictures = [line["picture"] for line in lines if line["stage"] == name]
        assert pictures[-1] < pictures[0], f"{name} did not learn: {pictures}"


def test_leakage_is_removed_and_the_own_region_kept(created):
    _, out, _ = created
    lines = [json.loads(line) for line in (out.parent / "someone.work" / "log.jsonl").read_text().splitlines()]
    (figures,) = [line for line in lines if "lip_to_upper" in line]
    for name in ("lip_to_upper", "exp_to_lower"):
        assert figures[name] < figures[f"{name}_before"]
    assert figures["kept"] < 0.5  # squared change of what the directions do to their own region


def test_lips_follow_sound_and_eyes_follow_blink(created, inputs):
    identity, _, _ = created
    clip = Dataset.open(inputs[1]).clip(1)
    a_exp, a_lip = identity.encode(clip.features, clip.blink)
    opening = clip.expression[:, identity_jaw()].numpy()
    assert max(abs(np.corrcoef(a_lip[:, k], opening)[0, 1]) for k in range(3)) > 0.8
    assert np.abs(identity.blink_coefficients(1.0)).max() > 0.5
    head = identity.head
    rest, shut = (identity.gaussians(e, np.zeros(3)).means for e in (np.zeros(2), identity.blink_coefficients(1.0)))
    moved = (shut - rest).norm(dim=-1)
    upper, lower = ((moved * weight).sum() for weight in (head.upper_weight, head.lower_weight))
    assert upper > 2 * lower  # all motion, not only that of the lids


def identity_jaw() -> int:
    return tiny_generator().template.expression_names.index("jawOpen")


def test_coefficients_are_in_training_standard_deviations(created, inputs):
    identity, _, _ = created
    codes = [np.concatenate(identity.encode(c.features, c.blink), 1) for c in Dataset.open(inputs[1])]
    np.testing.assert_allclose(np.concatenate(codes).std(axis=0), 1, atol=0.1)


def test_resume_repeats_nothing_that_is_finished(created, inputs):
    _, out, _ = created
    prior, data = inputs
    messages = []
    create_identity(
        data, out, prior, config=QUICK, resume=True, progress=lambda done, total, message: messages.append(message)
    )
    assert not any(m.startswith(("inversion", "tuning", "navigation")) for m in messages)
    changed = replace(QUICK, navigation=replace(QUICK.navigation, warm_steps=3, image_steps=1))
    create_identity(
        data, out, prior, config=changed, resume=True, progress=lambda done, total, message: messages.append(message)
    )
    assert any(m.startswith("navigation") for m in messages) and not any(m.startswith("tuning") for m in messages)


def test_coefficients_that_hardly_show_are_dropped(created, inputs, tmp_path):
    """The fake mouth opens and does little else."""
    prior, data = inputs
    whole, first, _ = created
    shutil.copytree(first.with_name("someone.work"), tmp_path / "other.work")
    config = replace(QUICK, navigation=replace(QUICK.navigation, motion_kept=0.9, anchor=None, leakage_removal=None))
    create = lambda: create_identity(data, tmp_path / "other", prior, config=config, resume=True)  # noqa: E731
    identity = create()
    assert identity.n_lip < whole.n_lip and len(identity.lip_names) == identity.n_lip
    again = create()  # from the saved stage, with its number of coefficients
    assert again.n_lip == identity.n_lip
    torch.testing.assert_close(again.navigation.w_can, identity.navigation.w_can)


def test_lips_start_from_a_backbone_which_is_fine_tuned_and_saved(created, inputs, tmp_path):
    prior, data = inputs
    _, first, _ = created
    shutil.copytree(first.with_name("someone.work"), tmp_path / "other.work")
    folder, messages = write_backbone(tmp_path / "toy"), []
    config = replace(QUICK, navigation=replace(QUICK.navigation, backbone_share=1.0))  # this one is untrained
    identity = create_identity(
        data, tmp_path / "other", prior, config=config, resume=True, backbone=folder,
        progress=lambda done, total, message: messages.append(message),
    )  # fmt: skip
    assert not any(m.startswith(("inversion", "tuning", "all frames")) for m in messages)  # they do not depend on it
    assert len(identity.config["parents"]["speech"]) == 64 and "the backbone's people" in identity.config["attribution"]
    before, after = load_backbone(folder).state_dict(), identity.navigation.lip_encoder.audio.backbone.state_dict()
    assert before.keys() == after.keys()
    change = (after["squeeze.weight"] - before["squeeze.weight"]).norm() / before["squeeze.weight"].norm()
    assert 0.001 < change < 1
    clip = Dataset.open(data).clip(1)
    opening = clip.expression[:, identity_jaw()].numpy()
    a_lip = identity.encode(clip.features, clip.blink)[1]
    assert max(abs(np.corrcoef(a_lip[:, k], opening)[0, 1]) for k in range(3)) > 0.6


def test_the_shipped_backbone_is_used_where_it_fits(tmp_path, monkeypatch):
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    assert find_backbone(None, "log-mel") is None
    folder = write_backbone(tmp_path / "speech" / "articulation")
    assert find_backbone(None, "log-mel") == folder
    assert find_backbone(None, "whisper-tiny.en") is None and find_backbone("none", "log-mel") is None
    with pytest.raises(UserError, match="reads log-mel features; this data set has whisper"):
        find_backbone("articulation", "whisper-tiny.en")
    with pytest.raises(UserError, match="no backbone 'nothing'"):
        find_backbone("nothing", "log-mel")


def test_cancel_stops_and_writes_no_identity(inputs, tmp_path):
    prior, data = inputs
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(TrainingStopped):
        create_identity(data, tmp_path / "x", prior, config=QUICK, cancelled=cancelled)
    assert not (tmp_path / "x").exists()


def test_bad_input_is_one_sentence(inputs, tmp_path):
    prior, data = inputs
    with pytest.raises(UserError, match="not a data set"):
        create_identity(tmp_path, tmp_path / "x", prior)
    with pytest.raises(UserError, match="no prior"):
        create_identity(data, tmp_path / "x", "no-such-prior")
    with pytest.raises(UserError, match="preset"):
        create_identity(data, tmp_path / "x", prior, preset="tpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        create_identity(data, tmp_path / "file" / "x", prior, config=QUICK)


def test_pivots_cover_the_clips(inputs):
    frames = DatasetFrames(Dataset.open(inputs[1]))
    pivots = choose_pivots(frames, 12)
    assert len(pivots) == len(set(pivots)) == 12
    aperture, blink = frames.aperture(), frames.blink
    assert aperture[pivots].max() == aperture.max() and blink[pivots].max() == blink.max()
    rest = find_rest_frames(frames, 5)
    assert aperture[rest].max() < aperture.median() + 1e-3 and blink[rest].max() == 0


def test_frames_number_all_clips_in_order(inputs):
    frames = DatasetFrames(Dataset.open(inputs[1]))
    clip, number = frames.locate(45)
    assert (clip.name, number) == ("clip1", 15)
    picture = frames.read_targets([45]).image[0]
    torch.testing.assert_close(picture, clip.images[15].float() / 255)
