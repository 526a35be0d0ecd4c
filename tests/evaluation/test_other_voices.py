"""Unseen voices: made-up sound and lips for the figures, real clips for the whole way."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes.held_out import fake_landmarks
from fakes.speech import RATE, syllables

from dgtalker.audio.phone_alignment import Phone
from dgtalker.errors import UserError
from dgtalker.evaluation import other_voices
from dgtalker.evaluation.other_voices import (
    HEADLINES,
    DrivenRecording,
    OtherVoicesConfig,
    Recording,
    find_recordings,
    measure_other_voices,
)
from dgtalker.metrics.articulation import MouthCurves, loudness_envelope
from dgtalker.report.figures import ReportFigures


def driven(seed, late=0, voice="grid", filmed=True):
    """True lips that shut at the p and are narrow at the w; the made ones do the same, `late` frames later."""
    rng, frames = np.random.default_rng(seed), 80
    times = (np.arange(frames) + 0.5) / 25
    p, w = rng.uniform(0.6, 1.2), rng.uniform(1.6, 2.2)
    samples = (0.1 * rng.normal(size=frames * 640) * np.repeat(np.abs(times - p) > 0.05, 640)).astype(np.float32)
    samples *= np.repeat(1 + np.convolve(rng.normal(size=frames), np.ones(7) / 7, "same"), 640).astype(np.float32)
    aperture = 0.1 * loudness_envelope(samples, frames) * (np.abs(times - p) > 0.06)
    true = MouthCurves(aperture, 0.5 - 0.1 * (np.abs(times - w) < 0.1))
    phones = [Phone("AA", 0.3, 0.4, 1), Phone("P", p - 0.05, p + 0.05, 1), Phone("W", w - 0.05, w + 0.05, 1)]
    phones.append(Phone("AA", 2.9, 3.0, 1))
    made = MouthCurves(*(np.roll(curve, late) for curve in (true.aperture, true.width)))
    recording = Recording(Path(f"{voice}{seed}.mpg"), voice, "pw" if filmed else None)
    return DrivenRecording(recording, samples, made, true if filmed else None, phones if filmed else [], 1.0)


def test_lips_that_are_the_true_ones_score_perfectly_and_shuffled_ones_do_not():
    block = other_voices.summarise_voices([driven(i) for i in range(12)])
    assert block["aperture_r"] == pytest.approx(1) and block["width_r"] == pytest.approx(1)
    assert block["lag_frames"] == 0 and block["closure_hit_rate"] == 1 and block["rounding_hit_rate"] == 1
    assert block["retrieval_at_10"] == block["baselines"]["true_lips"]["retrieval_at_10"] > 0.5
    assert block["n"]["closures"] == block["n"]["roundings"] == block["n"]["retrieval"] == 12
    shuffled, random = block["baselines"]["shuffled"], block["baselines"]["random_times"]
    assert shuffled["aperture_r"] < 0.4 and shuffled["closure_hit_rate"] < 0.5 and random["closure_hit_rate"] < 0.4
    assert block["voices"]["grid"]["closure_hit_rate"] == 1 and len(block["recordings"]) == 12


def test_late_lips_are_found_late():
    block = other_voices.summarise_voices([driven(i, late=2) for i in range(3)])
    assert block["lag_frames"] == 2 and block["aperture_r"] < 0.9 and np.isnan(block["retrieval_at_10"])


def test_voices_without_lips_and_words_count_for_retrieval_only():
    block = other_voices.summarise_voices([driven(i, voice="german", filmed=False) for i in range(10)])
    assert all(np.isnan(block[k]) for k in ("aperture_r", "lag_frames", "closure_hit_rate", "rounding_hit_rate"))
    assert block["retrieval_at_10"] > 0.5 and "envelope" in block["judge"]


def test_folders_of_voices(tmp_path):
    for voice, names in {"ann": ["a1", "a2", "a3"], "bob": ["b1"]}.items():
        (tmp_path / voice).mkdir()
        for name in names:
            soundfile.write(tmp_path / voice / f"{name}.wav", np.zeros(RATE, np.float32), RATE)
    (tmp_path / "ann" / "metadata.csv").write_text("a1|Hello.\n")
    (tmp_path / "bob" / "bbaf2n.mpg").write_bytes(b"x")
    found = find_recordings([tmp_path], 2)
    assert [(r.path.stem, r.voice, r.text) for r in found] == [
        ("a1", "ann", "Hello."),
        ("a3", "ann", None),
        ("b1", "bob", None),
        ("bbaf2n", "bob", "bin blue at f. two now"),
    ]
    assert [r.is_filmed for r in found] == [False, False, False, True]
    (tmp_path / "empty").mkdir()
    for folders in ([tmp_path / "nowhere"], [tmp_path / "empty"], []):
        with pytest.raises(UserError):
            find_recordings(folders, 2)


def test_an_identity_hears_sound_files(identity, tmp_path):
    for seed in range(2):
        soundfile.write(tmp_path / f"{seed}.wav", syllables(1.5, seed), RATE)
    block = measure_other_voices(
        identity, [tmp_path], OtherVoicesConfig(seconds=1.0, size=64), read_landmarks=fake_landmarks
    )
    assert set(HEADLINES) <= set(json.loads(json.dumps(block)))
    assert block["n"]["frames"] == 50 and block["n"]["filmed"] == 0
    assert block["silence"]["digital"]["motion_ratio"] < 0.1
    assert block["recordings"][0]["phones"] == "no English transcript"


def test_a_talker_filmed_is_compared_with_the_true_lips(identity, other_grid_clip, tmp_path):
    pytest.importorskip("pocketsphinx")
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / other_grid_clip.name).write_bytes(other_grid_clip.read_bytes())
    config = OtherVoicesConfig(size=64, phones=tmp_path / "phones", sheets=tmp_path / "strips")
    shown = ReportFigures()
    block = measure_other_voices(
        identity, [tmp_path / "voices"], config, read_landmarks=fake_landmarks, report_figures=shown
    )
    (strip,) = shown.strips["unseen_audio"]
    assert set(strip.rows) == {"real", "rendered"} and "b" in [label.lower() for label in strip.columns]
    assert len(strip.columns) == len(strip.rows["real"]) == len(strip.rows["rendered"])
    assert block["n"]["closures"] == 2 and block["n"]["filmed"] == 1 and np.isfinite(block["aperture_r"])
    assert [p.name for p in (tmp_path / "strips").iterdir()] == ["voices-lbbc2a.png"]
    assert len(list((tmp_path / "phones").iterdir())) == 1
