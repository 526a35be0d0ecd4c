"""Session files: the same frames again, and one sentence for whatever is no session."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from fakes.speech import RATE, syllables

from dgtalker.errors import UserError
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.performance.session import MAX_BYTES, STILL, Session, SessionCamera, Sound
from dgtalker.talk import TalkOptions, talk, talk_session


@pytest.fixture(scope="module")
def made(identity, tmp_path_factory):
    """(folder, session): a video with everything set, its sound, and the session file beside it."""
    folder = tmp_path_factory.mktemp("made")
    soundfile.write(folder / "speech.wav", syllables(1.2), RATE)
    soundfile.write(folder / "mood.wav", syllables(0.9, seed=2), RATE)
    settings = ExpressionSettings(blinks=(0.4, 0.8), seed=3, variant=2)
    edits = {"lip1": 1.5, "blink": 0.25}
    options = TalkOptions(64, (20, -5, 1.5), edits, settings, expression_from=folder / "mood.wav")
    result = talk(identity, folder / "speech.wav", folder / "video.mp4", options)
    result.session.save(folder / "session.json")
    return folder, result.session


def frames(path) -> np.ndarray:
    return np.stack(list(read_video(path)))


def test_what_is_read_is_what_was_written(made, identity):
    folder, session = made
    loaded = Session.load(folder / "session.json")
    for name in ("a_exp", "a_lip", "blink"):
        assert getattr(loaded.curves, name).tobytes() == getattr(session.curves, name).tobytes()
    assert replace(loaded, curves=None) == replace(session, curves=None)
    assert loaded.camera == SessionCamera(STILL, 20, -5, 1.5) and loaded.edits == {"lip1": 1.5, "blink": 0.25}
    assert loaded.audio == Sound.of(folder / "speech.wav") and loaded.expression.variant == 2
    assert loaded.to_json() == (folder / "session.json").read_text()
    assert str(folder) not in loaded.to_json()  # no path of whoever saved it
    assert (folder / "session.json").stat().st_size < 5500
    bare = Session("fake")
    assert Session.from_json(bare.to_json()) == bare


@pytest.mark.parametrize("with_sound", [True, False])
def test_the_session_gives_the_same_frames(made, identity, tmp_path, with_sound):
    folder, session = made
    loaded = Session.load(folder / "session.json")
    result = talk_session(loaded, identity, folder / "speech.wav" if with_sound else None, tmp_path / "again.mp4")
    assert np.array_equal(frames(tmp_path / "again.mp4"), frames(folder / "video.mp4"))
    assert bool(probe(tmp_path / "again.mp4").audio) == with_sound
    assert result.session.to_json() == session.to_json()  # and the same session again
    wide = replace(loaded, size=96, camera=SessionCamera("front"))
    talk_session(wide, identity, None, tmp_path / "wide.mp4")
    assert frames(tmp_path / "wide.mp4").shape == (30, 96, 96, 3)


def test_settings_without_curves_speak_any_sound(made, identity, tmp_path):
    folder, session = made
    settings = replace(session, curves=None)
    with pytest.raises(UserError, match="give the sound"):
        talk_session(settings, identity, None, tmp_path / "x.mp4")
    with pytest.raises(UserError, match="mood.wav"):
        talk_session(settings, identity, folder / "speech.wav", tmp_path / "x.mp4")
    talk_session(settings, identity, folder / "speech.wav", tmp_path / "x.mp4", expression_from=folder / "mood.wav")
    assert np.array_equal(frames(tmp_path / "x.mp4"), frames(folder / "video.mp4"))


def test_another_sound_or_identity_is_refused(made, identity, tmp_path):
    folder, session = made
    with pytest.raises(UserError, match="mood.wav is not the sound of the session: that was 'speech.wav'"):
        talk_session(session, identity, folder / "mood.wav", tmp_path / "x.mp4")
    changes = {"identity": "other", "identity_sha256": "0" * 64, "edits": {"lip9": 1.0}}
    changes["curves"] = replace(session.curves, lip_names=("lip1", "lip2", "lip9"))
    for name, value in changes.items():
        with pytest.raises(UserError):
            talk_session(replace(session, **{name: value}), identity, None, tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def changed(session: Session, *path, to) -> str:
    values = json.loads(session.to_json())
    part = values
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return json.dumps(values)


@pytest.mark.parametrize(
    "path, value",
    [
        (("identity",), "fake"), (("identity", "name"), ""), (("identity", "name"), "a\nb"),
        (("identity", "sha256"), "x"),
        (("identity", "extra"), 1), (("size",), 63), (("size",), True), (("size",), "64"), (("size",), 1e6),
        (("camera", "path"), "dolly"), (("camera", "yaw"), None), (("camera", "zoom"), 0), (("camera", "pitch"), 90),
        (("edits",), []), (("edits",), {"lip1": 1e9}), (("edits",), {"lip1": True}), (("edits",), {"lip1": 10**400}),
        (("expression", "blinks"), "none"), (("expression", "blinks"), [[1]]), (("expression", "blinks"), [10**400]),
        (("expression", "seed"), -1), (("expression", "blink_rate"), 1e9), (("expression", "audio"), "x.wav"),
        (("audio", "sha256"), "F" * 64), (("audio",), []), (("version",), 0), (("version",), True), (("versions",), 1),
        (("curves", "frames"), 29), (("curves", "frames"), 10**12), (("curves", "lip"), ["lip1"]),
        (("curves", "data"), "AAAA"), (("curves", "data"), "not base64"), (("curves", "sha256"), "0" * 64),
        (("curves", "encoding"), "pickle"), (("curves",), {}), (("more",), 1),
    ],
)  # fmt: skip
def test_each_wrong_value_is_one_sentence(made, path, value):
    with pytest.raises(UserError) as error:
        Session.from_json(changed(made[1], *path, to=value), "s.json")
    message = str(error.value)
    assert message.startswith("s.json is damaged: ") and message.endswith(".") and "\n" not in message
    assert len(message) < 200


def test_curves_with_impossible_values_are_refused(made):
    import hashlib

    values = json.loads(made[1].to_json())
    for bad in (np.nan, np.inf, 1e6):
        table = np.frombuffer(base64.b64decode(values["curves"]["data"]), "<f4").copy()
        table[3] = bad
        values["curves"] |= {
            "data": base64.b64encode(table.tobytes()).decode(), "sha256": hashlib.sha256(table.tobytes()).hexdigest()
        }  # fmt: skip
        with pytest.raises(UserError, match="impossible values"):
            Session.from_json(json.dumps(values))


def test_foreign_truncated_newer_and_huge_files(made, tmp_path):
    folder, session = made
    text = session.to_json()
    files = {
        "foreign": ("{}", "not a session"), "list": ("[1]", "not a session"), "text": ("Hello", "not a session"),
        "empty": ("", "not a session"), "binary": (b"\x00\xff" * 99, "not a session"),
        "deep": ("[" * 200_000, "not a session"), "cut": (text[: len(text) // 2], "cut short"),
        "nan": (text.replace("1.5", "NaN", 1), "damaged"),
        "newer": (text.replace('"version": 2', '"version": 3'), "newer DGTalker"),
        "huge": (b" " * (MAX_BYTES + 1), "too large"),
    }  # fmt: skip
    for name, (content, word) in files.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=word) as error:
            Session.load(path)
        assert f"{name}.json" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        Session.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be written"):
        session.save(tmp_path / "huge.json" / "s.json")
