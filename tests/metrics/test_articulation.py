"""Mouths whose figures are known beforehand."""

import numpy as np
import pytest

from dgtalker import metrics
from dgtalker.audio.phone_alignment import Phone
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import MouthCurves, PhoneHits, count_closures, count_roundings

FRAMES = 100
TIMES = (np.arange(FRAMES) + 0.5) / 25


def said(label, *times):
    """Phones of 80 ms around the times, between two vowels at the ends."""
    middle = [Phone(label, t - 0.04, t + 0.04, 1.0) for t in times]
    return [Phone("AA", 0.2, 0.3, 1.0), *middle, Phone("AA", 3.7, 3.8, 1.0)]


def dips(*times, depth=1.0):
    """A curve of 1 with dips of three frames."""
    return 1 - depth * (np.min([np.abs(TIMES - t) for t in times], axis=0) < 0.06)


def still():
    return np.full(FRAMES, 0.7)


def test_a_mouth_that_closes_for_every_p_hits_them_all():
    hits = count_closures(MouthCurves(dips(1.0, 2.0, 3.0), still()), said("P", 1.0, 2.0, 3.0))
    assert hits.rate == 1.0 and hits.count == 3 and hits.random < 0.35


def test_a_mouth_that_closes_elsewhere_hits_none():
    mouth = MouthCurves(dips(0.5, 1.5, 2.5), still())
    assert count_closures(mouth, said("B", 1.0, 2.0, 3.0)).rate == 0.0
    assert count_closures(mouth, said("B", 1.0, 2.0, 3.0)).random > 0


def test_one_that_never_moves_scores_what_random_times_do():
    hits = count_closures(MouthCurves(still(), still()), said("M", 1.0, 2.0))
    assert hits.rate == hits.random == 0.0
    hits = count_roundings(MouthCurves(still(), still()), said("W", 1.0, 2.0))
    assert hits.rate == hits.random == 0.0


def test_one_that_moves_without_the_speech_scores_what_random_times_do():
    rng, total = np.random.default_rng(0), PhoneHits()
    for _ in range(60):
        mouth = MouthCurves(np.convolve(rng.normal(size=FRAMES), np.ones(5), "same"), still())
        total += count_closures(mouth, said("P", *rng.uniform(0.5, 3.5, 6)))
    assert total.count == 360 and total.rate == pytest.approx(total.random, abs=0.06)


def test_half_closed_is_not_closed_and_the_range_is_the_clips_own():
    phones = said("P", 1.0)
    half = MouthCurves(np.minimum(dips(1.0, depth=0.5), dips(0.4, 2.0, 3.0)), still())
    assert count_closures(half, phones).rate == 0.0
    assert (
        count_closures(MouthCurves(0.01 * dips(1.0, 2.0, 3.0), still()), phones).rate == 1.0
    )  # a small mouth closes, too


def test_rounding_is_a_narrow_mouth():
    assert count_roundings(MouthCurves(still(), dips(1.0, 2.0)), said("UW", 1.0, 2.0)).rate == 1.0
    assert count_roundings(MouthCurves(still(), 2 - dips(1.0, 2.0)), said("OW", 1.0, 2.0)).rate == 0.0
    wide_in_silence = np.where((TIMES > 0.2) & (TIMES < 3.8), dips(1.0, depth=0.2), 0.0)  # the median is of speech
    assert count_roundings(MouthCurves(still(), wide_in_silence), said("W", 1.0)).rate == 1.0


def test_without_phones_or_faces_there_is_no_rate():
    gone = MouthCurves(np.full(FRAMES, np.nan), np.full(FRAMES, np.nan))
    for hits in (
        count_closures(MouthCurves(dips(1.0), still()), []),
        count_closures(MouthCurves(dips(1.0), still()), said("S", 1.0)),
        count_closures(gone, said("P", 1.0)),
        count_roundings(gone, said("W", 1.0)),
        count_closures(MouthCurves(dips(1.0), still()), said("P", 9.0)[1:2]),  # after the end of the video
    ):
        assert hits.count == 0 and np.isnan(hits.rate) and np.isnan(hits.random)
    assert PhoneHits(1, 2, 0.5) + PhoneHits() == PhoneHits(1, 2, 0.5)


def test_the_gap_at_closures_is_absolute():
    assert articulation.closure_gaps(MouthCurves(0.2 * dips(1.0, depth=0.75), still()), said("P", 1.0)) == [
        pytest.approx(0.05)
    ]


def test_landmarks_become_apertures_as_metrics_reads_them():
    points = np.random.default_rng(0).uniform(0, 100, (3, 478, 2))
    points[1] = np.nan
    mouth = articulation.mouth_from_landmarks(points)
    assert mouth.aperture[0] == pytest.approx(metrics.aperture(points[0]))
    assert np.isnan(mouth.aperture[1]) and np.isnan(mouth.width[1]) and np.isfinite(mouth.width[2])
    np.testing.assert_allclose(articulation.mouth_from_landmarks(3 * points).width[2], mouth.width[2])


def test_the_envelope_follows_loudness_not_level():
    samples = np.random.default_rng(0).normal(size=2 * 16000).astype(np.float32)
    samples[:16000] *= 1e-3
    loud = articulation.loudness_envelope(samples, 50)
    assert loud[:25].max() < 0.05 and loud[25:].min() > 0.9
    np.testing.assert_allclose(articulation.loudness_envelope(0.1 * samples, 50)[25:], loud[25:], atol=1e-3)
    assert (articulation.loudness_envelope(np.zeros(640), 2) >= 0).all() and len(
        articulation.loudness_envelope(samples, 60)
    ) == 60


def test_stillness_is_motion_over_speech():
    speech = MouthCurves(np.sin(np.arange(50.0)), still())
    assert articulation.motion_ratio(MouthCurves(still(), still()), speech) == 0
    assert articulation.motion_ratio(MouthCurves(0.1 * speech.aperture, still()), speech) == pytest.approx(0.01)


def test_jitter_is_trembling_not_turning():
    face = np.random.default_rng(1).uniform(50, 150, (478, 2))
    scale = np.linalg.norm(face[33] - face[263])
    moving = face + 2.0 * np.arange(60)[:, None, None]
    assert articulation.rigid_jitter(moving) == pytest.approx(0, abs=1e-6)
    noise = np.random.default_rng(2).normal(size=moving.shape) * 0.5
    expected = 1000 * 0.5 * np.sqrt(2) * np.sqrt(6) / 2 / scale
    assert articulation.rigid_jitter(moving + noise) == pytest.approx(expected, rel=0.15)
    assert np.isnan(articulation.rigid_jitter(moving[:2]))
