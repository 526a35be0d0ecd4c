"""Ablation on a fake person, in seconds: variants are trained on one tuned head and method_variant."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fakes.held_out import fake_landmarks
from fakes.identity_data import tiny_generator, write_backbone, write_fake_dataset

from dgtalker import cli
from dgtalker.errors import UserError
from dgtalker.evaluation import EvaluationConfig, evaluate
from dgtalker.identity import Identity
from dgtalker.resumable import TrainingStopped
from dgtalker.training.ablation.run import AblationConfig, ablate
from dgtalker.training.ablation.variants import read_variants, select_variants
from dgtalker.training.identity.baking import BakingConfig
from dgtalker.training.identity.config import CreateConfig
from dgtalker.training.identity.create import create_identity
from dgtalker.training.identity.inversion import AllFramesConfig, InversionConfig
from dgtalker.training.identity.leakage_removal import LeakageRemovalConfig
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.identity.tuning import TuningConfig
from dgtalker.video.dataset import Dataset

ROOT = Path(__file__).resolve().parents[3]
RANKS = {"means": 8, "log_scales": 4, "axis_angles": 4, "logit_opacities": 4, "colors": 8}
BAKING = BakingConfig(samples=60, ranks=RANKS, held_out=2, min_opacity=0.0)
BASE = {
    "motion_kept": 1.0, "regional": False, "n_exp": 2, "n_lip": 3, "hidden": 16, "warm_steps": 80, "image_steps": 6,
    "clips": 3, "run": 24, "leakage_removal": {"states": 1, "steps": 150}, "anchor": {"steps": 4},
}  # fmt: skip
VARIANTS = {
    "method": {"says": "everything"},
    "no_leakage_removal": {"says": "no leakage removal", "changes": {"leakage_removal": None, "anchor": None}},
    "one_basis": {
        "says": "one basis",
        "changes": {"cross_view": {"masks": False, "p_swap": 0}, "leakage_removal": None},
    },
    "w_plus": {"says": "a style for every size", "changes": {"w_plus": True, "leakage_removal": {"steps": 20}}},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """(prior, data set, work folder) of a create-identity run."""
    folder = tmp_path_factory.mktemp("ablation")
    generator = tiny_generator()
    prior, data = generator.save_pretrained(folder / "prior"), write_fake_dataset(folder / "data", generator)
    config = CreateConfig(
        inversion=InversionConfig(frames=12, max_steps=20),
        tuning=TuningConfig(max_steps=10),
        all_frames=AllFramesConfig(rank=6, max_steps=10),
        navigation=NavigationTrainingConfig(
            n_exp=1, n_lip=1, hidden=8, warm_steps=1, image_steps=1, leakage_removal=None, anchor=None
        ),
        baking=BakingConfig(samples=20, ranks=dict.fromkeys(RANKS, 2), held_out=1),
    )
    create_identity(data, folder / "someone", prior, config=config)
    return prior, data, folder / "someone.work"


def write_variants(path, variants=VARIANTS, **base):
    path.write_text(json.dumps({"base": BASE | base, "variants": variants}))
    return path


def run(inputs, out, path, **options):
    prior, data, work = inputs
    calls = {name: options.pop(name) for name in ("progress", "cancelled") if name in options}
    config = AblationConfig(path, work, prior=str(prior), clips=2, **options)
    return ablate(data, data, out, config, read_landmarks=fake_landmarks, baking=BAKING, **calls)


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    pytest.importorskip("skimage")
    out = tmp_path_factory.mktemp("out")
    messages = []
    table = run(
        inputs,
        out,
        write_variants(out / "variants.json"),
        progress=lambda done, total, what: messages.append((done, what)),
    )
    return out, table, messages


def leakage_ratios(block):
    return np.array([block["lip_to_upper"], block["exp_to_lower"]])


def test_every_variant_is_an_identity_with_a_record(finished, inputs):
    out, table, messages = finished
    for name in VARIANTS:
        identity = Identity.from_pretrained(out / name)
        assert (identity.n_exp, identity.n_lip, identity.feature_kind) == (2, 3, "log-mel")
        clip = Dataset.open(inputs[1]).clip(0)
        assert np.isfinite(identity.encode(clip.features, clip.blink)[1]).all()
        record = json.loads((out / name / "record.json").read_text())
        assert record["settings"]["n_lip"] == 3 and record["settings"]["warm_minutes"] is None
        assert set(record["seconds"]) == {"training", "finishing", "baking", "measuring"}
    latents = [Identity.from_pretrained(out / name).navigation.config.latent for name in ("method", "w_plus")]
    assert latents[1] == 3 * latents[0]
    fractions = [fraction for fraction, _ in messages]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and any("one_basis" in what for _, what in messages)


def test_the_table_has_all_figures_as_json_and_markdown(finished):
    out, table, _ = finished
    assert [row["name"] for row in table["rows"]] == list(VARIANTS)
    assert table["clips"] == 2 and table["frames"] == 60
    for row in table["rows"]:
        assert {"psnr", "psnr_mouth", "lmd_px", "aperture_r", "closure_hit_rate", "swap", "settings", "says"} <= set(
            row
        )
        for block in (row["leakage"], row["leakage_landmarks"], row["trained"]["leakage"]):
            assert np.shape(block["matrix"]["ratio"]) == (2, 2)
        assert 10 < row["psnr"] < 100 and row["swap"]["psnr_upper"] > 0
    text = (out / "table.md").read_text()
    assert all(f"| `{name}` |" in text and f"* `{name}`: {row['says']}" in text for name, row in VARIANTS.items())
    assert json.loads((out / "table.json").read_text())["rows"][0]["name"] == "method"


def test_leakage_is_reported_before_and_after_its_removal(finished):
    rows = {row["name"]: row for row in finished[1]["rows"]}
    # One training, measured before leakage removal, is what the variant without it is throughout.
    np.testing.assert_allclose(
        leakage_ratios(rows["method"]["trained"]["leakage"]),
        leakage_ratios(rows["no_leakage_removal"]["trained"]["leakage"]),
    )
    np.testing.assert_allclose(
        leakage_ratios(rows["no_leakage_removal"]["leakage"]),
        leakage_ratios(rows["no_leakage_removal"]["trained"]["leakage"]),
        rtol=0.2,
        atol=0.02,
    )
    assert len(list((finished[0] / ".trained").iterdir())) == 3  # not four
    assert leakage_ratios(rows["method"]["leakage"]).sum() < leakage_ratios(rows["no_leakage_removal"]["leakage"]).sum()
    assert (
        leakage_ratios(rows["one_basis"]["leakage"]).max()
        > 2 * leakage_ratios(rows["no_leakage_removal"]["leakage"]).max()
    )


def test_finished_variants_are_skipped_and_changed_ones_are_not(finished, inputs, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    before = {name: (out / name / "record.json").stat().st_mtime_ns for name in VARIANTS}
    messages = []
    table = run(inputs, out, out / "variants.json", progress=lambda done, total, what: messages.append(what))
    assert messages == ["done"] and [row["name"] for row in table["rows"]] == list(VARIANTS)
    changed = VARIANTS | {
        "no_leakage_removal": {"says": "another", "changes": {"leakage_removal": None, "noise": 0.1, "warm_steps": 2}}
    }
    path = write_variants(tmp_path / "changed.json", changed)
    table = run(inputs, out, path, only=("method",))
    assert [row["name"] for row in table["rows"]] == ["method", *list(VARIANTS)[2:]]
    table = run(inputs, out, path, only=("no_leakage_removal",))
    descriptions = [row["says"] for row in VARIANTS.values()]
    assert [row["says"] for row in table["rows"]] == ["everything", "another", *descriptions[2:]]
    after = {name: (out / name / "record.json").stat().st_mtime_ns for name in VARIANTS}
    assert [name for name in VARIANTS if before[name] != after[name]] == ["no_leakage_removal"]


def test_stopping_keeps_finished_variants(finished, inputs, tmp_path):
    path = write_variants(
        tmp_path / "two.json", {name: VARIANTS[name] for name in ("method", "one_basis")}, warm_steps=2
    )
    messages = []

    def cancelled():
        return any("one_basis: step" in what for what in messages)

    out = tmp_path / "out"
    with pytest.raises(TrainingStopped, match="same command"):
        run(inputs, out, path, progress=lambda done, total, what: messages.append(what), cancelled=cancelled)
    assert (out / "method" / "record.json").exists() and not (out / "one_basis" / "record.json").exists()
    assert len(json.loads((out / "table.json").read_text())["rows"]) == 1
    messages.clear()
    table = run(inputs, out, path, progress=lambda done, total, what: messages.append(what))
    assert len(table["rows"]) == 2 and not any(what.startswith("method") for what in messages)


def test_the_lip_encoder_of_every_variant_starts_from_the_backbone(inputs, tmp_path):
    backbone = str(write_backbone(tmp_path / "backbone"))
    few = dict(warm_steps=2, image_steps=1, leakage_removal=None, anchor=None)
    path = write_variants(tmp_path / "v.json", {"own_branch": {"says": "x", "changes": few}})
    with_backbone, without = (run(inputs, tmp_path / "out", path, backbone=name)["rows"] for name in (backbone, "none"))
    assert (
        len(with_backbone) == len(without) == 1 and with_backbone[0]["psnr"] != without[0]["psnr"]
    )  # not skipped as finished
    run(inputs, tmp_path / "out", path, backbone=backbone)
    identity = Identity.from_pretrained(tmp_path / "out" / "own_branch")
    assert identity.navigation.config.backbone.hidden == 8 and len(identity.config["parents"]["speech"]) == 64


def test_evaluate_measures_these_variants_as_the_ablation_did(finished, inputs):
    out, table, _ = finished
    data = Dataset.open(inputs[1])
    report = evaluate(
        Identity.from_pretrained(out / "method"),
        data,
        EvaluationConfig(clips=2, baselines=out),
        read_landmarks=fake_landmarks,
    )
    (row,) = [row for row in table["rows"] if row["name"] == "one_basis"]
    beside = report["baselines"]["one_basis"]
    for key in ("psnr", "psnr_mouth", "lmd_px", "aperture_r"):
        assert beside[key] == pytest.approx(row[key])
    np.testing.assert_allclose(leakage_ratios(beside["leakage"]), leakage_ratios(row["leakage"]))
    assert leakage_ratios(beside["leakage"]).max() > leakage_ratios(report["leakage"]).max()
    assert "reason" in report["baselines"]["no_swap"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must have"),
        ('{"variants": {}}', "no variants"),
        ('{"variants": {"a": {"says": "x"}}, "more": 1}', "nothing else"),
        ('{"variants": {"../a": {"says": "x"}}}', "no name"),
        ('{"variants": {"a": {"changes": {}}}}', "says"),
        ('{"variants": {"a": {"says": "x", "changes": {"n_lips": 3}}}}', "n_lips"),
        ('{"variants": {"a": {"says": "x", "changes": {"n_lip": 3.5}}}}', "3.5"),
        ('{"variants": {"a": {"says": "x", "changes": {"n_lip": -1}}}}', "-1"),
        ('{"variants": {"a": {"says": "x", "changes": {"cross_view": {"masks": 1}}}}}', "masks"),
        ('{"variants": {"a": {"says": "x", "changes": {"cross_view": {"routing": "none"}}}}}', "routing"),
        ('{"variants": {"a": {"says": "x", "changes": {"cross_view": null}}}}', "settings by name"),
        ('{"variants": {"a": {"says": "x", "changes": {"bases": "two"}}}}', "joint, separate, none"),
        ('{"base": {"start": "middle"}, "variants": {"a": {"says": "x"}}}', "principal"),
    ],
)
def test_a_bad_file_is_reported_in_one_sentence(tmp_path, text, message):
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_variants(tmp_path / "v.json", NavigationTrainingConfig())


def test_the_shipped_variants_are_valid():
    method = CreateConfig.preset("cpu").navigation
    _, variants = read_variants(ROOT / "docs" / "ablation.json", method)
    by_name = {variant.name: variant.config for variant in variants}
    assert {"method", "one_basis", "no_mask", "no_swap", "own_branch"} <= set(by_name)
    shipped, method_variant = by_name["regional"], by_name["method"]
    assert (
        (shipped.regional, shipped.leakage_removal)
        == (method.regional, method.leakage_removal)
        == (True, LeakageRemovalConfig())
    )
    assert (
        by_name["no_leakage_removal"].leakage_removal is None
        and not method_variant.regional
        and method_variant.leakage_removal.leakage_weight > shipped.leakage_removal.leakage_weight
    )
    assert by_name["own_branch"].cross_view.routing == "own" and not by_name["one_basis"].cross_view.masks
    steps = {(c.warm_steps, c.image_steps, c.warm_minutes) for c in by_name.values()}
    assert len(steps) == 1 and steps.pop()[2] == float("inf")
    assert [v.name for v in select_variants(variants, ["no_mask", "method"])] == ["method", "no_mask"]
    with pytest.raises(UserError, match="no variant 'x'"):
        select_variants(variants, ["x"])


def test_heads_of_other_data_or_priors_are_refused(inputs, tmp_path):
    prior, data, work = inputs
    path = write_variants(tmp_path / "v.json")
    with pytest.raises(UserError, match="tuning.safetensors"):
        run((prior, data, tmp_path), tmp_path / "out", path)
    generator = tiny_generator()
    other = write_fake_dataset(tmp_path / "data", generator, clips=2, frames=35)
    with pytest.raises(UserError, match="another data set"):
        run((prior, other, work), tmp_path / "out", path)
    with pytest.raises(UserError, match="another prior"):
        run(("fast", data, work), tmp_path / "out", path)
    for count in (0, 900):
        with pytest.raises(UserError, match="each branch needs a direction"):
            run(inputs, tmp_path / "out", write_variants(tmp_path / "counts.json", n_lip=count))
    assert not list((tmp_path / "out").glob("*/record.json"))


def test_the_command_from_end_to_end(inputs, face_landmarker, tmp_path):
    pytest.importorskip("skimage")
    prior, data, work = inputs
    path = write_variants(tmp_path / "v.json", warm_steps=20, image_steps=2)
    command = [
        sys.executable, "-m", "dgtalker", "ablate", path, "--work", work, "--dataset", data, "--test", data,
        "-o", tmp_path / "out", "--prior", prior, "--clips", "1", "--face-landmarker", face_landmarker,
        "--variants", "one_basis",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process = subprocess.Popen(list(map(str, command)), start_new_session=True, **options)
    deadline = time.monotonic() + 200
    log = tmp_path / "out" / "one_basis" / "log.jsonl"
    while not log.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=200)
    assert process.returncode == 130 and "same command" in output[1] and "Traceback" not in output[1], output
    assert not (tmp_path / "out" / "one_basis" / "record.json").exists()

    written = []
    for _ in range(2):
        done = subprocess.run(list(map(str, command)), timeout=1500, **options)
        assert done.returncode == 0, done.stderr
        assert "| `one_basis` |" in done.stdout and "100%" in done.stderr
        written.append((tmp_path / "out" / "one_basis" / "record.json").stat().st_mtime_ns)
    assert written[0] == written[1]  # the second time there is nothing left to do
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert row["psnr"] > 10
    assert row["leakage"]["lip_to_upper"] > 0


def test_the_command_refuses_an_unknown_variant(inputs, tmp_path, capsys):
    _, data, work = inputs
    path = write_variants(tmp_path / "v.json")
    folders = ["--work", work, "--dataset", data, "--test", data, "-o", tmp_path / "out"]
    assert cli.main(list(map(str, ["ablate", path, *folders, "--variants", "nobody"]))) == 2
    assert "There is no variant 'nobody'" in capsys.readouterr().err
