"""Variants of one performance: the upper face differs, the lips do not."""

import numpy as np
import pytest
from fakes.held_out import fake_landmarks, make_dataset, same_landmarks

from dgtalker.evaluation.attached_landmarks import attach_landmarks
from dgtalker.evaluation.context import EvaluationContext, encode_clip
from dgtalker.evaluation.diversity import VARIANTS, measure_diversity
from dgtalker.evaluation.fixed_view import FixedView


def test_upper_face_varies_and_lips_do_not(identity, tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    monkeypatch.setattr("dgtalker.evaluation.attached_landmarks.MAX_PIXELS", 30.0)
    dataset = make_dataset(tmp_path, identity)
    clip = dataset.clip(0)
    clip.audio_path.parent.mkdir(exist_ok=True)
    sound = np.random.default_rng(0).normal(0, 0.1, 16000 * 2) * np.repeat(np.tile([1.0, 0.05], 4), 4000)
    soundfile.write(clip.audio_path, sound, 16000)
    context = EvaluationContext(identity, [clip], {clip.name: encode_clip(identity, dataset, clip)}, fake_landmarks)
    found = measure_diversity(context, FixedView.from_clips(context), attach_landmarks(identity, same_landmarks))
    assert found["variants"] == VARIANTS and found["clips"] == 1
    assert found["upper_px"] > 0.05 and found["upper_change"] > 10 * found["lower_change"]
    assert found["lower_px"] == pytest.approx(0, abs=1e-4) and found["lip_coefficients_moved"] == 0
    assert found["lip_motion_ratio"] < 0.05
    assert len(context.report_figures.strips["diversity"][0].rows) == VARIANTS
