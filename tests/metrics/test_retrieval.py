"""Sounds that belong to lips by construction: the aperture follows the loudness."""

import numpy as np
import pytest

from dgtalker.metrics.articulation import MouthCurves, loudness_envelope
from dgtalker.metrics.retrieval import LipClip, LipPredictor, retrieval_rate

FRAMES, PIECES = 74, 12


def heard(seed, voice="one"):
    """Noise in bursts; the mouth is open while it is loud, and narrow while it is low."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.normal(size=FRAMES + 8), np.ones(9) / 3, "valid")
    loud, low = np.clip(slow, 0, None), np.repeat(rng.integers(0, 2, 10), 8)[:FRAMES]
    noise = rng.normal(size=FRAMES * 640)
    tone = np.sin(2 * np.pi * 200 * np.arange(FRAMES * 640) / 16000)
    samples = np.repeat(loud, 640) * np.where(np.repeat(low, 640), tone, noise)
    samples = (0.1 * samples).astype(np.float32)
    return LipClip(f"clip{seed}", samples, MouthCurves(loudness_envelope(samples, FRAMES), 1.0 - 0.2 * low), voice)


@pytest.fixture(scope="module")
def pieces():
    pytest.importorskip("librosa")
    return [heard(i) for i in range(PIECES)]


def test_lips_that_are_the_sounds_own_are_all_found(pieces):
    rate, right = retrieval_rate(LipPredictor(), pieces)  # by the envelope, which they are
    assert rate == 1.0 and right == [True] * PIECES
    rate, _ = retrieval_rate(LipPredictor(pieces), pieces)
    assert rate >= 0.9


def test_lips_of_another_sound_are_not_found(pieces):
    shifted = [
        LipClip(a.name, a.samples, b.mouth, a.voice) for a, b in zip(pieces, pieces[1:] + pieces[:1], strict=True)
    ]
    assert retrieval_rate(LipPredictor(), shifted)[0] < 0.3
    still = [LipClip(p.name, p.samples, MouthCurves(np.ones(FRAMES), np.ones(FRAMES))) for p in pieces]
    assert retrieval_rate(LipPredictor(), still)[0] == 0.0  # ties are misses


def test_too_few_pieces_give_no_rate(pieces):
    rate, right = retrieval_rate(LipPredictor(), pieces[:9])
    assert np.isnan(rate) and right == []


def test_a_clip_is_not_judged_by_what_was_learnt_from_it(pieces):
    predictor, without = LipPredictor(pieces), LipPredictor(pieces[1:])
    sound = pieces[0]
    np.testing.assert_allclose(predictor.predict(sound, "clip0"), without.predict(sound), atol=1e-8)
    assert not np.allclose(predictor.predict(sound), without.predict(sound))
    alone = LipPredictor(pieces[:1])
    assert np.isnan(alone.predict(sound, "clip0")[:, 1]).all()  # nothing left: the envelope
    assert "12 clips" in predictor.method and "envelope" in LipPredictor().method


def test_wrong_sounds_come_from_the_same_voice_first(pieces):
    others = [heard(100 + i, "two") for i in range(30)]
    asked = []

    class Judge(LipPredictor):
        def score(self, sound, mouth, without=None):
            asked.append(sound.voice)
            return super().score(sound, mouth, without)

    retrieval_rate(Judge(), [*others, *pieces])
    assert set(asked[:300]) == {"two"} and set(asked[300:]) == {"one"}
    asked.clear()
    retrieval_rate(Judge(), [*others, *pieces[:3]])
    assert asked[300:310].count("one") == 3  # its own and both others; the rest is filled up


def test_frames_without_a_face_are_not_learnt_from(pieces):
    holes = pieces[0].mouth.aperture.copy()
    holes[:5] = np.nan
    predictor = LipPredictor([LipClip("holes", pieces[0].samples, MouthCurves(holes, pieces[0].mouth.width))])
    assert np.isfinite(predictor.predict(pieces[1])).all()
