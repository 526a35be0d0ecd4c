"""The whole report, on a data set rendered from the very identity that is then measured: the truth is known."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from fakes.held_out import FRAMES, SHORTER, fake_landmarks, make_dataset
from fakes.speech import RATE, syllables

from dgtalker import metrics
from dgtalker.errors import UserError
from dgtalker.evaluation import EvaluationConfig, evaluate
from dgtalker.report.figures import ReportFigures


@pytest.fixture(scope="module")
def report(identity, tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("set")
    dataset = make_dataset(folder, identity)
    config = EvaluationConfig(refine_cameras=True, sheets=folder / "sheets")
    report_figures = ReportFigures()
    return (
        evaluate(identity, dataset, config, read_landmarks=fake_landmarks, report_figures=report_figures),
        folder,
        report_figures,
    )


def test_keys_that_other_tools_read(report):
    report = json.loads(json.dumps(report[0]))
    wanted = {"psnr", "psnr_mouth", "ssim", "lmd_px", "aperture_r", "aperture_lag_frames"}
    for block in (report["self_driven"], report["baselines"]["static"], report["self_driven_refined"]):
        assert wanted <= set(block)
    later = {"psnr_rim", "psnr_inside", "rim_error", "st_lpips", "aperture_slope", "aperture_slope_robust"}
    later |= {"aperture_rest", "aperture_closures", "opening_at_rest"}
    for block in (report["self_driven"], report["baselines"]["static"], report["self_driven_refined"]):
        assert later <= set(block)
    assert {"lip_to_upper", "exp_to_lower"} <= set(report["leakage"])
    assert {"spearman", "lip_motion_ratio"} <= set(report["blink"])
    assert "mouth_energy_ratio" in report["silence"]
    for block in ("leakage", "leakage_landmarks"):
        matrix = report[block]["matrix"]
        assert matrix["rows"] == ["expression", "lips"] and matrix["columns"] == ["upper", "lower"]
        assert [len(row) for row in matrix["ratio"]] == [len(row) for row in matrix["change"]] == [2, 2]
        assert matrix["ratio"][1][0] == report[block]["lip_to_upper"]
        assert matrix["ratio"][0][1] == report[block]["exp_to_lower"]
    assert {"psnr_upper", "lmd_lower"} <= set(report["swap"]) & set(report["swap"]["baselines"]["joint"])
    assert report["frames"] == 2 * FRAMES - SHORTER and len(report["clips"]) == 2
    assert set(report["hashes"]) == {"identity", "dataset"}


def test_the_truth_scores_perfectly_and_the_static_head_does_not(report):
    moving, static = report[0]["self_driven"], report[0]["baselines"]["static"]
    assert moving["psnr"] == metrics.PSNR_CEILING and moving["ssim"] == pytest.approx(1, abs=1e-4)
    assert moving["lmd_px"] == 0 and moving["aperture_r"] == pytest.approx(1) and moving["aperture_lag_frames"] == 0
    assert moving["aperture_slope"] == pytest.approx(1) == moving["aperture_slope_robust"]
    assert static["aperture_slope"] == 0 and static["aperture_rest"] == moving["aperture_rest"] > 0
    assert static["psnr"] < 60 and static["aperture_r"] == 0 and static["lmd_px"] > 0


def test_alignment_does_no_harm_where_cameras_are_right(report):
    assert report[0]["self_driven_refined"]["psnr"] == metrics.PSNR_CEILING


def test_blink_and_leakage_of_a_head_made_without_leakage(report):
    assert report[0]["leakage"]["lip_to_upper"] < 0.1
    assert report[0]["blink"]["lip_motion_ratio"] < 0.2


def test_swapped_streams_stay_apart_where_the_head_keeps_them_apart(report):
    swap = report[0]["swap"]
    static, joint = swap["baselines"]["static"], swap["baselines"]["joint"]
    assert swap["psnr_upper"] > max(static["psnr_upper"], joint["psnr_upper"]) + 10
    assert swap["lmd_lower"] < 0.2 * min(static["lmd_lower"], joint["lmd_lower"])
    assert swap["pairs"] == 2


def test_what_cannot_be_measured_says_why(report):
    views, diversity = report[0]["views"], report[0]["diversity"]
    assert views["psnr"] is None and views["by_yaw"] is None and "--truth" in views["reason"]
    assert diversity["upper_px"] is None and "no sound" in diversity["reason"]
    assert "--baselines" in report[0]["baselines"]["own_branch"]["reason"]
    assert np.isnan(report[0]["self_driven"]["closure_hit_rate"])
    unseen = report[0]["unseen_audio"]
    assert unseen["aperture_r"] is None and "--voices" in unseen["reason"]


def test_voices_of_others_are_heard(identity, tmp_path):
    pytest.importorskip("skimage")
    (tmp_path / "voices").mkdir()
    soundfile.write(tmp_path / "voices" / "one.wav", syllables(1.2), RATE)
    dataset = make_dataset(tmp_path / "set", identity, clips=1)
    config = EvaluationConfig(voices=(tmp_path / "voices",))
    unseen = evaluate(identity, dataset, config, read_landmarks=fake_landmarks)["unseen_audio"]
    assert unseen["n"]["frames"] == 30 and unseen["silence"]["digital"]["motion_ratio"] < 0.1
    with pytest.raises(UserError, match="no folder of voices"):
        evaluate(identity, dataset, EvaluationConfig(voices=(tmp_path / "nowhere",)), read_landmarks=fake_landmarks)


def test_figures_are_there_for_the_page(report):
    assert {"self_driven", "swap", "blink"} <= set(report[2].strips)
    assert {"self_driven", "blink"} <= set(report[2].curves)


def test_sheets_are_written(report):
    assert sorted(path.name for path in (report[1] / "sheets").iterdir()) == ["clip0.jpg", "clip1.jpg"]


def test_pictures_that_come_before_the_rendering_make_it_late(identity, tmp_path):
    pytest.importorskip("skimage")
    report = evaluate(identity, make_dataset(tmp_path, identity, late=-2), read_landmarks=fake_landmarks)
    assert report["self_driven"]["aperture_lag_frames"] == 2
    assert report["self_driven"]["aperture_r"] < 0.99


def test_variants_of_an_ablation_are_measured_beside_the_identity(identity, fake_identity, tmp_path):
    pytest.importorskip("skimage")
    shutil.copytree(fake_identity, tmp_path / "variants" / "no_swap")
    dataset = make_dataset(tmp_path / "set", identity)
    report = evaluate(
        identity, dataset, EvaluationConfig(baselines=tmp_path / "variants"), read_landmarks=fake_landmarks
    )
    same, own = report["baselines"]["no_swap"], report["self_driven"]
    assert all(same[key] == own[key] for key in ("psnr", "psnr_mouth", "lmd_px", "aperture_r", "aperture_lag_frames"))
    assert same["leakage"]["matrix"] == report["leakage"]["matrix"]
    assert same["leakage_landmarks"]["lip_to_upper"] == report["leakage_landmarks"]["lip_to_upper"]
    assert same["swap"]["psnr_upper"] == report["swap"]["psnr_upper"]
    assert "no variant" in report["baselines"]["one_basis"]["reason"]
    with pytest.raises(UserError, match="none of the variants"):
        evaluate(identity, dataset, EvaluationConfig(baselines=tmp_path), read_landmarks=fake_landmarks)


def test_no_clips_to_evaluate_is_refused(identity, tmp_path):
    dataset = make_dataset(tmp_path, identity, clips=1)
    with pytest.raises(UserError, match="At least one clip"):
        evaluate(identity, dataset, EvaluationConfig(clips=0), read_landmarks=fake_landmarks)
