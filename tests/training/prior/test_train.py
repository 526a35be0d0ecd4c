import json
import math

import numpy as np
import pytest
import torch
from fakes.people import TEMPLATE, TINY, FakePeople, settings

from dgtalker import resumable
from dgtalker.errors import UserError
from dgtalker.head.generator import Generator
from dgtalker.people.random_expressions import GAIN, THRESHOLD, factors_from_expression, sample_expression
from dgtalker.people.target_cache import PeopleCache
from dgtalker.report.contact_sheets import prior as contact_sheet
from dgtalker.training.prior.config import PriorConfig
from dgtalker.training.prior.linear_path import fit_linear_path, whitened_pca
from dgtalker.training.prior.train import train_prior


def test_expressions_and_their_factors():
    from dgtalker.head.template import HeadTemplate

    names = HeadTemplate.load().expression_names
    rng = np.random.default_rng(0)
    scores = np.stack([sample_expression(rng, names) for _ in range(300)])
    assert scores.shape == (300, 52) and scores.min() >= 0 and scores.max() <= 1
    # What a talking head needs is all there: jaw wide open and shut, full blinks, brows, gaze.
    for unit in ("jawOpen", "eyeBlinkLeft", "browInnerUp", "eyeLookUpLeft"):
        assert scores[:, names.index(unit)].max() > 0.7 and scores[:, names.index(unit)].min() == 0, unit
    z = factors_from_expression(scores, rng)
    assert np.allclose(np.clip(GAIN * (z - THRESHOLD), 0, 1), scores, atol=1e-6)
    assert abs(z.mean()) < 0.2 and 0.8 < z.std() < 1.3


def test_whitened_pca_finds_the_directions():
    coefficients = torch.randn(200, 2)
    basis = torch.tensor([[3.0, 0, 0, 4.0], [0, 1.0, 0, 0]])
    mean, found = whitened_pca(coefficients @ basis + 7, 4)
    assert torch.allclose(found[0].norm(), torch.tensor(5.0), rtol=0.2)
    assert torch.allclose(found[2:], torch.zeros(2, 4))
    assert torch.allclose(mean, torch.full((4,), 7.0), atol=1.0)


def test_linear_path_reproduces_people_and_bounds_w(tmp_path):
    cache = PeopleCache(tmp_path, FakePeople())
    people = [cache.texels(i) for i in range(12)]
    generator = Generator(TINY, TEMPLATE)
    path, latents = fit_linear_path(generator, people, torch.rand(50, 52))
    for person, w in zip(people, latents, strict=True):
        assert torch.allclose(w, path.encode(generator, person), atol=1e-5)
        out = generator.attributes(w[None])
        seen = person.opacity > 25
        assert (out["means"][0] - person.positions[0].float())[seen].abs().max() < 0.01
        assert (out["colors"][0] - person.color.float() / 255)[seen].abs().max() < 0.04
        assert (out["logit_opacities"][0].sigmoid() - person.opacity.float() / 255).abs().max() < 0.05
        assert w.abs().max() < 5
    assert generator.w_mean[generator.slices["expression"]].abs().max() == 0


def test_training_learns_and_writes_a_prior(tmp_path):
    folder = train_prior(settings(tmp_path, uv_steps=40, view_steps=30), source=FakePeople(), template=TEMPLATE)
    generator = Generator.from_pretrained(folder, template=TEMPLATE)
    assert generator.config.z_dim == 8 + 52
    for name in ("README.md", "heads.jpg", "directions.jpg", "preview.png", "held_out.png"):
        assert (folder / name).stat().st_size > 100, name
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    measured = [r for r in records if r["stage"] == "held_out"]
    assert measured[-1]["psnr_front"] > measured[0]["psnr_front"]
    assert json.loads((folder / "config.json").read_text())["training"]["people"] == 6


@pytest.mark.parametrize("stop_after", [3, 15, 30, 45])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr(contact_sheet, "write_sheets", lambda *_: None)  # another test looks at those
    source = FakePeople()
    endless = dict(uv_minutes=math.inf, view_minutes=math.inf)  # the clock is not the same twice
    train_prior(settings(tmp_path / "a", **endless), source=source, template=TEMPLATE)
    asked = 0

    def cancelled():
        nonlocal asked
        asked += 1
        return asked > stop_after

    with pytest.raises(resumable.TrainingStopped):
        train_prior(settings(tmp_path / "b", **endless), cancelled=cancelled, source=source, template=TEMPLATE)
    train_prior(settings(tmp_path / "b", resume=True, **endless), source=source, template=TEMPLATE)
    a, b = (resumable.load_state(tmp_path / name / "state.safetensors")[0] for name in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    json.loads((tmp_path / "a" / "config.json").read_text(), parse_constant=pytest.fail)  # no Infinity


def test_resuming_with_other_settings_is_refused(tmp_path):
    source = FakePeople()
    train_prior(settings(tmp_path, uv_steps=1, view_steps=1, mapping_steps=1), source=source, template=TEMPLATE)
    with pytest.raises(UserError, match="other settings"):
        train_prior(settings(tmp_path, seed=9, resume=True), source=source, template=TEMPLATE)


def test_damaged_state_and_unwritable_folder(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        train_prior(settings(tmp_path, resume=True), source=FakePeople(), template=TEMPLATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        train_prior(settings(tmp_path / "file" / "x"), source=FakePeople(), template=TEMPLATE)


def test_makehuman_folder_is_asked_for(tmp_path):
    with pytest.raises(UserError, match="--makehuman"):
        train_prior(settings(tmp_path), template=TEMPLATE)


def test_unknown_preset(tmp_path):
    with pytest.raises(UserError, match="no preset 'tpu'"):
        PriorConfig.preset("tpu", tmp_path)
