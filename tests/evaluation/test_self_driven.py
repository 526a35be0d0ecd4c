"""Closures and roundings in an identity's own held-out clips: phones that are known, seen on lips that are."""

import sys

import numpy as np
import pytest
import soundfile
import torch
from fakes.held_out import fake_landmarks, make_dataset
from fakes.speech import RATE, syllables

from dgtalker import metrics
from dgtalker.audio import phone_alignment as phones_module
from dgtalker.audio.phone_alignment import Phone
from dgtalker.evaluation import evaluate
from dgtalker.evaluation.ground_truth import GroundTruth
from dgtalker.evaluation.self_driven import compare_frames, summarise_clips
from dgtalker.media.audio import load_audio
from dgtalker.metrics import perceptual
from dgtalker.video.dataset import Dataset

FRAMES = 50
TIMES = (np.arange(FRAMES) + 0.5) / 25


def lips(*shut):
    """Landmarks of a mouth that closes at the given times."""
    pictures = np.full((FRAMES, 64, 64, 3), 100, np.uint8)
    for time in shut:
        pictures[np.abs(TIMES - time) < 0.05] = 255
    return list(pictures), fake_landmarks(pictures)


def row(truth, made, phones):
    return compare_frames("clip", truth[0], made[0], truth[1], made[1], phones)


PHONES = [Phone("AA", 0.2, 0.3, 1), Phone("P", 0.45, 0.55, 1), Phone("M", 1.45, 1.55, 1), Phone("AA", 1.8, 1.9, 1)]


def test_the_share_of_closures_is_of_all_clips_together():
    rows = [row(lips(0.5, 1.5), lips(0.5), PHONES), row(lips(0.5, 1.5), lips(0.5, 1.5), PHONES)]
    figures = summarise_clips(rows)
    assert figures["closure_hit_rate"] == 0.75 and figures["phones"]["closures"] == 4
    assert figures["phones"]["true_lips"]["closure_hit_rate"] == 1
    assert figures["phones"]["random_times"]["closure_hit_rate"] < 0.5 and figures["phones"]["note"] is None
    assert np.isnan(figures["rounding_hit_rate"]) and figures["phones"]["roundings"] == 0


def test_clips_without_a_transcript_count_for_nothing():
    known, unknown = row(lips(0.5, 1.5), lips(0.5, 1.5), PHONES), row(lips(0.5), lips(1.0), [])
    assert summarise_clips([known, unknown])["closure_hit_rate"] == 1
    figures = summarise_clips([unknown], [GroundTruth(lips()[1], [], "no English transcript")])
    assert np.isnan(figures["closure_hit_rate"]) and figures["phones"]["note"] == "no English transcript"


def test_slope_and_closed_lips_are_of_all_clips_together():
    rows = [row(lips(0.5, 1.5), lips(0.5), PHONES), row(lips(0.5, 1.5), lips(0.5, 1.5), PHONES)]
    figures = summarise_clips(rows, aperture_rest=0.1)
    assert figures["aperture_slope"] == pytest.approx(0.75)
    assert figures["phones"]["true_lips"]["aperture_closures"] == figures["aperture_closures"] == 0
    ajar = row(lips(0.5, 1.5), lips(), PHONES)
    assert summarise_clips([ajar])["aperture_closures"] > 0.1 and summarise_clips([ajar])["aperture_slope"] == 0


def test_lips_at_rest_are_compared_with_the_lowest_where_no_phones_are_known():
    talking = row(lips(0.5), lips(0.5), [])
    talking["_real"] = np.linspace(0.04, 0.24, FRAMES)
    figures = summarise_clips([talking], aperture_rest=0.1)
    assert figures["opening_at_rest"] == pytest.approx((0.1 - 0.05) / (0.23 - 0.05))
    assert summarise_clips([talking], aperture_rest=0.05)["opening_at_rest"] == pytest.approx(0)
    assert "lowest" in figures["phones"]["closed_by"]
    assert np.isnan(figures["aperture_closures"])


def test_error_is_told_apart_by_where_it_lies():
    real = [np.full((64, 64, 3), 100, np.uint8)] * 2
    alpha = np.zeros((2, 64, 64), np.uint8)
    alpha[:, 16:48, 16:48] = 255
    made = [picture.copy() for picture in real]
    for picture in made:
        picture[15:17, 15:49] = 110
    landmarks = fake_landmarks(real)
    found = compare_frames("clip", real, made, landmarks, landmarks, outline=metrics.find_outline(alpha))
    assert found["psnr_inside"] == metrics.PSNR_CEILING and found["rim_error"] == 1
    assert found["psnr_rim"] < found["psnr"] < 50
    assert np.isnan(compare_frames("clip", real, made, landmarks, landmarks)["psnr_rim"])  # no outline is known


def test_without_its_package_st_lpips_is_left_out_and_says_why(monkeypatch):
    perceptual.load_perceptual_distance.cache_clear()
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    figures = summarise_clips([row(lips(0.5), lips(0.5), PHONES)])
    assert np.isnan(figures["st_lpips"]) and "pip install" in figures["st_lpips_note"]


@pytest.fixture
def clip(identity, tmp_path):
    """A clip that is named like one of GRID's; what is said in it is not the words of its name."""
    make_dataset(tmp_path, identity, clips=1)
    (tmp_path / "clips" / "clip0.safetensors").rename(tmp_path / "clips" / "bbaf2n.safetensors")
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "bbaf2n.wav", syllables(0.64), RATE)
    text = (tmp_path / "dataset.json").read_text()
    (tmp_path / "dataset.json").write_text(text.replace('"clip0"', '"bbaf2n"'))
    return Dataset.open(tmp_path)


def test_without_pocketsphinx_the_figure_is_left_out_and_says_why(clip, identity, monkeypatch):
    pytest.importorskip("skimage")
    phones_module._decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    block = evaluate(identity, clip, read_landmarks=fake_landmarks)["self_driven"]
    assert np.isnan(block["closure_hit_rate"]) and "pocketsphinx" in block["phones"]["note"]
    assert block["psnr"] > 40


def test_known_phones_of_a_clip_reach_the_report(clip, identity, monkeypatch):
    pytest.importorskip("skimage")
    said = [Phone("B", 0.1 * k, 0.1 * k + 0.05, 1) for k in range(1, 9)]  # the last ones are after the clip's end
    monkeypatch.setattr(phones_module, "require_pocketsphinx", lambda: None)
    monkeypatch.setattr(phones_module, "align_phones", lambda samples, text: said if "bin blue" in text else [])
    report = evaluate(identity, clip, read_landmarks=fake_landmarks)
    made, static = report["self_driven"], report["baselines"]["static"]
    assert (
        made["phones"]["closures"] == 5 and made["closure_hit_rate"] == made["phones"]["true_lips"]["closure_hit_rate"]
    )
    assert static["closure_hit_rate"] == 0  # a mouth that never moves never closes


def test_real_clips_are_aligned(other_grid_clip):
    pytest.importorskip("pocketsphinx")

    class RealClip:
        name, audio_path = "lbbc2a", other_grid_clip
        images = torch.zeros(75, 8, 8, 3)

        def __len__(self):
            return 75

    found = GroundTruth.from_clip(RealClip(), lambda pictures: np.zeros((len(pictures), 478, 2)))
    assert [p.label for p in found.phones if p.label in phones_module.LIP_CLOSING_PHONES] == ["B", "B"]
    assert found.note is None
    assert found.phones[-1].end <= 3.0 <= len(load_audio(other_grid_clip)) / 16000 + 0.1
