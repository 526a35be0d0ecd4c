"""Blinks: how many, how regular, how shaped, where; schedules by hand, good and bad."""

import numpy as np
import pytest

from dgtalker.audio.activity import speech_pauses
from dgtalker.errors import UserError
from dgtalker.performance.blinks import (
    Blink,
    blink_signal,
    draw_blinks,
    format_schedule,
    natural_blinks,
    parse_schedule,
    scheduled_blinks,
)

MINUTES = 60


@pytest.fixture(scope="module")
def hour() -> list[Blink]:
    return draw_blinks(60.0 * MINUTES, 18.0, np.random.default_rng(0))


@pytest.mark.parametrize("rate", [6.0, 18.0, 30.0])
def test_the_rate_is_that_asked_for(rate):
    for seed in range(3):
        blinks = draw_blinks(60.0 * MINUTES, rate, np.random.default_rng(seed))
        assert abs(len(blinks) / MINUTES - rate) < 0.12 * rate
    assert not natural_blinks(500, rate=0).any()


def test_intervals_are_skewed_and_durations_asymmetric(hour):
    gaps = np.diff([blink.time for blink in hour])
    assert gaps.min() >= 0.4 and np.median(gaps) < 0.85 * gaps.mean()  # many short ones, a few long ones
    assert 0.6 < gaps.std() / gaps.mean() < 1.0
    assert 0.04 < (gaps < 0.6).mean() < 0.2  # double blinks
    fall, rise = (np.array([getattr(blink, name) for blink in hour]) for name in ("fall", "rise"))
    assert (rise > 1.9 * fall).all() and 0.25 < np.median(fall + rise) < 0.45 and fall.std() > 0
    depth = np.array([blink.depth for blink in hour])
    assert 0.1 < (depth < 0.9).mean() < 0.2 and depth.min() > 0.4 and depth.max() <= 1


def test_the_signal_shuts_the_eye_fast_and_opens_it_slowly():
    signal = blink_signal([Blink(1.0)], 75)
    assert signal.argmax() == 25 and signal.max() == 1 and signal.min() == 0 and signal[0] == signal[-1] == 0
    moving = np.flatnonzero(signal > 0.01)
    assert moving[0] >= 22 and 3 <= moving[-1] - 25 <= 7 and 25 - moving[0] < moving[-1] - 25
    assert (blink_signal([Blink(1.013)], 75).max()) == 1  # between two frames, and still shut
    assert blink_signal([Blink(0.0), Blink(2.99)], 75).max() == 1  # at the borders


def test_the_same_seed_blinks_the_same():
    once, again, other = (natural_blinks(25 * 600, seed) for seed in (1, 1, 2))
    assert np.array_equal(once, again) and not np.array_equal(once, other)
    assert once.dtype == np.float32 and once.min() == 0 and 0.9 < once.max() <= 1
    for seed in range(50):  # nobody starts with half-shut eyes
        assert natural_blinks(100, seed, rate=60)[0] < 0.1


def test_blinks_gather_in_pauses():
    pauses = np.arange(25 * 60 * MINUTES) % 100 >= 90  # 0.4 s in four
    times = [blink.time for blink in draw_blinks(60.0 * MINUTES, 18.0, np.random.default_rng(0), pauses)]
    inside = pauses[(np.array(times) * 25).astype(int).clip(0, len(pauses) - 1)].mean()
    assert 0.2 < inside < 0.4  # a tenth of the time
    assert abs(len(times) / MINUTES - 18) < 2.2  # their number stays


def test_pauses_follow_phrases_and_are_no_stops():
    rate = 16000
    rng = np.random.default_rng(0)

    def voice(seconds):
        time = np.arange(int(rate * seconds)) / rate
        return 0.1 * sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))

    def quiet(seconds):
        return 2e-3 * rng.standard_normal(int(rate * seconds))

    sound = np.concatenate(
        [quiet(1.0), voice(1.0), quiet(0.08), voice(1.0), quiet(0.5), voice(1.0), quiet(3.0)]
    ).astype(np.float32)
    pauses = speech_pauses(sound)
    assert not pauses[:76].any() and pauses[80:86].all() and not pauses[92:112].any()
    assert pauses[118:130].all() and not pauses[140:].any()  # a long silence is a pause only at first
    assert not speech_pauses(np.zeros(rate, np.float32)).any() and len(speech_pauses(np.zeros(0, np.float32))) == 0


def test_scheduled_blinks_shut_the_eye_when_asked():
    signal = scheduled_blinks((0.5, 1.2, 3.96), 100)
    assert signal[[12, 30, 99]].tolist() == [1, 1, 1]
    assert (np.diff((signal > 0.5).astype(int)) == 1).sum() == 3
    assert not np.array_equal(signal, scheduled_blinks((0.5, 1.2, 3.96), 100, seed=1))
    with pytest.raises(UserError, match="4 s, but the sound lasts 4.00 s"):
        scheduled_blinks((4.0,), 100)


def test_schedules_as_text_and_files(tmp_path):
    assert parse_schedule("1.2, 3.4;5\n0.5") == (0.5, 1.2, 3.4, 5.0)
    assert parse_schedule("none") == () and parse_schedule(" ") is parse_schedule("Natural") is None
    for times in ((), None, (0.5, 1.2)):
        assert parse_schedule(format_schedule(times)) == times
    table, plain = tmp_path / "t.csv", tmp_path / "p.csv"
    table.write_text("frame,time,note\n1,0.5,a\n2,1.25,b\n\n")
    plain.write_text("\ufeff0.5\n1.25\n")
    assert parse_schedule(str(table), files=True) == parse_schedule(str(plain), files=True) == (0.5, 1.25)
    with pytest.raises(UserError, match="not a time"):
        parse_schedule(str(table))  # a text box reads no files
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")
    for bad in ("soon", "1.2, x", "-1", "nan", "inf", "1e9", str(tmp_path / "no.csv"), str(tmp_path / "bad.csv")):
        with pytest.raises(UserError) as error:
            parse_schedule(bad, files=True)
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    with pytest.raises(UserError, match="rate"):
        natural_blinks(10, rate=float("nan"))
