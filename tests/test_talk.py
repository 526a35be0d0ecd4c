"""Sound to video with a tiny identity: lengths, edits, silence, cancelling, bad input."""

import os

import numpy as np
import pytest
import soundfile
from fakes.speech import RATE, syllables

from dgtalker.camera import orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import check_coefficients
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.performance.curves import Performance, parse_edits, time_code
from dgtalker.talk import TalkOptions, talk, talk_frames


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "sound.wav"
    soundfile.write(path, syllables(1.23), RATE)
    return path


def test_video_table_and_progress(identity, sound, tmp_path):
    out, table, seen = tmp_path / "out.mp4", tmp_path / "curves.csv", []
    result = talk(
        identity, sound, out, TalkOptions(size=64), save_coefficients=table, progress=lambda *x: seen.append(x)
    )
    assert result.path == out and result.frames == round(25 * 1.23) == len(list(read_video(out)))
    assert abs(probe(out).seconds - 1.23) <= 0.04 and "aac" in probe(out).audio
    assert seen[-1] == (31, 31, "Rendering") and result.fps > 0
    assert len(table.read_text().splitlines()) == 32
    again = talk(identity, sound, tmp_path / "again.mp4", TalkOptions(size=64))
    assert np.array_equal(again.performance.a_exp, result.performance.a_exp)  # same seed, same blinks


@pytest.mark.parametrize("camera", ["spiral", (30.0, 10.0), orbit_camera(-20, 0, 100)])
def test_cameras_change_the_picture(identity, sound, tmp_path, camera):
    talk(identity, sound, tmp_path / "front.mp4", TalkOptions(size=64))
    talk(identity, sound, tmp_path / "other.mp4", TalkOptions(size=64, camera=camera))
    front, other = (list(read_video(tmp_path / name))[-1].astype(int) for name in ("front.mp4", "other.mp4"))
    assert front.shape == other.shape == (64, 64, 3)
    assert np.abs(front - other).mean() > 0.3


def test_edits_are_added_everywhere(identity):
    plain = Performance.from_audio(identity, syllables(2.0))
    edited = plain.with_edits({"lip3": 1.5, "exp2": -1.0}, identity)
    np.testing.assert_allclose(edited.a_lip - plain.a_lip, np.tile([0, 0, 1.5], (50, 1)), atol=1e-5)
    np.testing.assert_allclose(edited.a_exp - plain.a_exp, np.tile([0, -1.0, 0], (50, 1)), atol=1e-5)
    shut = plain.with_edits({"blink": 1}, identity)
    assert (shut.blink == 1).all() and np.array_equal(shut.a_lip, plain.a_lip)
    np.testing.assert_allclose(
        shut.a_exp - plain.a_exp,
        identity.blink_coefficients(np.ones(50)) - identity.blink_coefficients(plain.blink),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "edits", [{"lip99": 1.0}, {"mouth": 1.0}, {"lip1": float("nan")}, {"exp1": float("inf")}, {"lip1": 1e4}]
)
def test_bad_edits(identity, sound, tmp_path, edits):
    with pytest.raises(UserError, match="lip1|exp1|number"):
        talk(identity, sound, tmp_path / "out.mp4", TalkOptions(size=64, edits=edits))
    with pytest.raises(UserError):
        check_coefficients(edits, identity.exp_names + identity.lip_names)
    assert not (tmp_path / "out.mp4").exists()


def test_parse_edits():
    assert parse_edits(["lip3=1.5", "exp2=-1", "blink=.5"]) == {"lip3": 1.5, "exp2": -1.0, "blink": 0.5}
    for bad in ("lip3", "lip3=", "=2", "lip3=much"):
        with pytest.raises(UserError, match="NAME=NUMBER"):
            parse_edits([bad])


def test_silence_and_noise_rest_the_face(identity):
    noise = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    for samples in (np.zeros(3 * RATE, np.float32), 0.1 * noise):
        performance = Performance.from_audio(identity, samples, blink=np.zeros(75))
        assert np.abs(performance.a_lip).max() < 0.05 and np.abs(performance.a_exp).max() < 0.05
    performance = Performance.from_audio(identity, np.concatenate([syllables(2.0), np.zeros(2 * RATE, np.float32)]))
    assert np.abs(performance.a_lip[:50]).max() > 0.05  # the gate did open
    assert not performance.a_lip[-20:].any()
    assert performance.blink.any()  # a silent person still blinks


def test_expression_from_another_recording(identity):
    a, short, long = syllables(2.0), syllables(0.8, seed=3), syllables(4.0, seed=3)
    still = np.zeros(50)
    own = Performance.from_audio(identity, a, blink=still)
    for other in (short, long):
        mixed = Performance.from_audio(identity, a, other, blink=still)
        assert np.array_equal(mixed.a_lip, own.a_lip) and mixed.a_exp.shape == own.a_exp.shape
        assert not np.allclose(mixed.a_exp, own.a_exp)
        source = Performance.from_audio(identity, other, blink=np.zeros(round(len(other) / 640)))
        count = min(50, len(source) - 12)  # a short one is repeated, cross-faded over 12 frames
        np.testing.assert_allclose(mixed.a_exp[:count], source.a_exp[:count], atol=1e-6)


def test_table_round_trip(identity, tmp_path):
    performance = Performance.from_audio(identity, syllables(1.0)).with_edits({"lip1": 2.0}, identity)
    path = performance.save(tmp_path / "curves.csv")
    loaded = Performance.load(path, identity)
    for name in ("a_exp", "a_lip", "blink"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(performance, name), rtol=1e-3, atol=1e-4)
    text = path.read_text()
    assert text.startswith("frame,time,exp1,exp2,exp3,lip1,lip2,lip3,blink\n0,0:00:00.000,")
    path.write_text(text.replace("lip2", "lip9"))
    with pytest.raises(UserError, match="lip2"):
        Performance.load(path, identity)
    path.write_text("\n".join([text.splitlines()[0], "0,0:00:00.000" + ",nan" * 7]))
    with pytest.raises(UserError, match="not finite"):
        Performance.load(path, identity)
    assert time_code(3725.04) == "1:02:05.040"


def test_cancelling_leaves_nothing(identity, sound, tmp_path):
    out = tmp_path / "videos" / "out.mp4"
    asked = []
    assert talk(identity, sound, out, TalkOptions(size=64), cancelled=lambda: asked.append(1) or len(asked) > 8) is None
    assert os.listdir(out.parent) == []
    assert talk(identity, sound, out, TalkOptions(size=64), cancelled=lambda: True) is None  # before the first frame
    steps = talk_frames(identity, sound, out, TalkOptions(size=64))  # as Gradio does: the generator is closed
    while next(steps)[0] < 3:
        pass
    steps.close()
    assert os.listdir(out.parent) == []


def test_bad_input(identity, sound, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "file").write_text("in the way")
    calls = {
        "empty": lambda: talk(identity, tmp_path / "empty.wav", tmp_path / "out.mp4"),
        "cannot be written": lambda: talk(identity, sound, tmp_path / "file" / "out.mp4", TalkOptions(size=64)),
        "even number": lambda: talk(identity, sound, tmp_path / "out.mp4", TalkOptions(size=63)),
        "camera path": lambda: talk(identity, sound, tmp_path / "out.mp4", TalkOptions(size=64, camera="dolly")),
        "Coefficients cannot be written": lambda: talk(
            identity, sound, tmp_path / "out.mp4", TalkOptions(size=64), save_coefficients=tmp_path / "file" / "c.csv"
        ),
    }
    for message, call in calls.items():
        with pytest.raises(UserError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("name", ["speech/css10/fr_lesmis_0153.wav", "speech/css10/zh_call_to_arms_0023.wav",
                                  "speech/jfk/jfk.flac", "grid_s1/test/bbil5a.mpg"])  # fmt: skip
def test_real_speech(identity, shared, tmp_path, name):
    source = shared / "data" / name
    result = talk(identity, source, tmp_path / "out.mp4", TalkOptions(size=64))
    assert abs(probe(tmp_path / "out.mp4").seconds - result.seconds) <= 0.04
    assert np.abs(result.performance.a_lip).max() > 0.1
