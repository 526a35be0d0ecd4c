"""The expression stream: variants that move alike, other recordings, and lips that none of it touches."""

import numpy as np
import pytest
from fakes.speech import syllables

from dgtalker.errors import UserError
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings, loop_curves, vary_curves

LIMITS = np.array([[-3.0, 3.0]] * 3)


def movement(frames: int, seed: int = 0) -> np.ndarray:
    """Smooth curves [frames, 3]; the second follows the first."""
    from scipy.ndimage import gaussian_filter1d

    noise = gaussian_filter1d(np.random.default_rng(seed).standard_normal((frames, 3)), 6, axis=0)
    noise[:, 1] = 0.9 * noise[:, 0] + 0.2 * noise[:, 1]
    return (noise / noise.std(axis=0) * 0.5 + [0.3, 0, -0.3]).astype(np.float32)


def test_variants_move_as_far_as_fast_and_as_together_as_the_original():
    curves = movement(1000)
    others = [vary_curves(curves, LIMITS, np.random.default_rng(seed)) for seed in range(4)]
    steps = np.diff(curves, axis=0).std(axis=0)
    for other in others:
        assert other.shape == curves.shape and other.dtype == np.float32
        np.testing.assert_allclose(other.mean(axis=0), curves.mean(axis=0), atol=0.1)
        np.testing.assert_allclose(other.std(axis=0), curves.std(axis=0), rtol=0.2)
        np.testing.assert_allclose(np.diff(other, axis=0).std(axis=0), steps, rtol=0.2)
        assert np.corrcoef(other[:, 0], other[:, 1])[0, 1] > 0.9  # the coefficients still go together
        assert 0.3 < np.corrcoef(other[:, 0], curves[:, 0])[0, 1] < 0.85  # tied to the speech, and not the same
    assert np.corrcoef(others[0][:, 0], others[1][:, 0])[0, 1] < 0.85
    tight = np.array([[-0.2, 0.5]] * 3)
    assert np.all(vary_curves(curves, tight, np.random.default_rng(0)) >= -0.2 - 1e-6)
    assert vary_curves(curves[:1], LIMITS, np.random.default_rng(0)).shape == (1, 3)  # one frame


def test_no_setting_changes_a_lip_bit(identity):
    speech = syllables(3.0)
    plain = Performance.from_audio(identity, speech)
    changes = [ExpressionSettings(variant=n) for n in (1, 2, 3)]
    changes += [ExpressionSettings(seed=5), ExpressionSettings(blink_rate=60.0), ExpressionSettings(blinks=(0.5, 2.0))]
    seen = {plain.a_exp.tobytes()}
    for settings in changes:
        for _ in range(2):  # and each can be had again
            other = Performance.from_audio(identity, speech, settings=settings)
            seen.add(other.a_exp.tobytes())
            assert other.a_lip.tobytes() == plain.a_lip.tobytes()
    other = Performance.from_audio(identity, speech, syllables(1.0, seed=4), settings=ExpressionSettings(variant=1))
    seen.add(other.a_exp.tobytes())
    assert other.a_lip.tobytes() == plain.a_lip.tobytes()
    assert len(seen) == 1 + len(changes) + 1


def test_scheduled_blinks_reach_the_face(identity):
    speech = syllables(2.0)
    never = Performance.from_audio(identity, speech, settings=ExpressionSettings(blinks=()))
    twice = Performance.from_audio(identity, speech, settings=ExpressionSettings(blinks=(0.4, 1.6)))
    assert not never.blink.any() and twice.blink[10] == twice.blink[40] == 1
    np.testing.assert_allclose(
        (twice.a_exp - never.a_exp)[[10, 25, 40]], identity.blink_coefficients(np.array([1.0, 0.0, 1.0])), atol=1e-5
    )
    with pytest.raises(UserError, match="lasts"):
        Performance.from_audio(identity, speech, settings=ExpressionSettings(blinks=(3.0,)))


def test_a_short_recording_is_repeated_without_a_jump():
    curves = movement(60)
    long = loop_curves(curves, 200)
    assert long.shape == (200, 3) and np.array_equal(long[:48], curves[:48])
    assert np.array_equal(loop_curves(curves, 40), curves[:40]) and np.array_equal(loop_curves(curves, 60), curves)
    np.testing.assert_allclose(long[60:96], curves[12:48], atol=1e-6)  # the second time round
    jump = np.abs(curves[0] - curves[-1]).max()
    assert np.abs(np.diff(long, axis=0)).max() < np.abs(np.diff(curves, axis=0)).max() + jump / 5
    for count in (1, 2, 3):
        np.testing.assert_allclose(loop_curves(np.ones((count, 2), np.float32), 50), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"blink_rate": 99}, {"blink_rate": float("nan")}, {"seed": -1}, {"seed": 1.5}, {"variant": True},
     {"blinks": (-1,)}, {"blinks": ("1",)}, {"variant": 2**40}],
)  # fmt: skip
def test_impossible_settings(wrong):
    with pytest.raises(UserError) as error:
        ExpressionSettings(**wrong)
    assert str(error.value).endswith(".")
