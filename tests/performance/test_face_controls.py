"""Face controls while speaking: edits, tables, sessions of both formats, and the pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from fakes.speech import RATE, syllables

import dgtalker as dg
from dgtalker.api import Control
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.media.video_reader import read_video
from dgtalker.performance.curves import Performance
from dgtalker.performance.session import Session
from dgtalker.talk import TalkOptions, render_frames, talk, talk_session


@pytest.fixture(scope="module")
def expressive(fake_identity_with_controls) -> Identity:
    return Identity.from_pretrained(fake_identity_with_controls)


@pytest.fixture(scope="module")
def performance(expressive) -> Performance:
    return Performance.from_audio(expressive, syllables(1.2))


def test_a_smile_comes_and_goes_while_the_lips_speak_on(performance):
    smiling = performance.edit(smile=0.6, start=0.4, end=1.0)
    curve = smiling.curves["smile"]
    assert not curve[:10].any() and not curve[25:].any() and curve.max() == np.float32(0.6)
    assert (np.abs(np.diff(curve)) < 0.35).all()  # eased
    assert smiling.a_lip.tobytes() == performance.a_lip.tobytes()
    assert smiling.a_exp.tobytes() == performance.a_exp.tobytes()
    assert not performance.curves["smile"].any() and performance.controls is None
    assert smiling.edit(smile=0.7).curves["smile"].max() == 1 and not smiling.edit(smile=-1).curves["smile"].any()


def test_a_shown_wink_leaves_the_lids_to_the_blink(performance):
    winking = performance.edit(wink_left=1.0, blink=1.0, start=0.2, end=0.8)
    index = winking.control_names.index("wink_left")
    shut = winking.blink > 0.999
    assert shut.any() and not winking.shown_controls[shut, index].any()
    assert (winking.curves["wink_left"][shut] > 0).all()


def test_pictures_of_a_performance_smile(expressive, performance):
    smiling = performance.edit(smile=1.0, start=0.6)
    plain, other = (np.stack(list(render_frames(expressive, p, "front", 64))) for p in (performance, smiling))
    assert np.array_equal(plain[:15], other[:15]) and np.abs(plain[20].astype(int) - other[20]).max() > 10


def test_a_head_without_controls_refuses_them(identity, performance):
    plain = Performance.from_audio(identity, syllables(1.2))
    with pytest.raises(UserError, match="There is no coefficient 'smile'"):
        plain.edit(smile=1.0)
    with pytest.raises(UserError, match="face control 'smile' that 'fake' does not have"):
        list(render_frames(identity, performance.edit(smile=1.0), "front", 64))
    assert "smile" not in plain.curves and "blink" in plain.curves


def test_tables_have_the_controls_as_last_columns(expressive, identity, performance, tmp_path):
    smiling = performance.edit(smile=0.5)
    path = smiling.save(tmp_path / "curves.csv")
    header = path.read_text().splitlines()[0].split(",")
    assert header[-5:] == ["blink", "smile", "brows_up", "wide_eyes", "wink_left"]
    loaded = Performance.load(path, expressive)
    np.testing.assert_allclose(loaded.curves["smile"], 0.5, atol=1e-5)
    np.testing.assert_allclose(loaded.a_lip, smiling.a_lip, atol=1e-3)
    older = Performance.from_audio(identity, syllables(1.2)).save(tmp_path / "older.csv")
    assert Performance.load(older, expressive).controls is None  # a table from before there were controls
    assert Performance.load(path, identity).controls is None


@pytest.fixture(scope="module")
def made(expressive, performance, tmp_path_factory):
    """(folder, session) of a video with a smile in its curves and brows in its edits."""
    folder = tmp_path_factory.mktemp("made")
    soundfile.write(folder / "speech.wav", syllables(1.2), RATE)
    options = TalkOptions(64, edits={"brows_up": 0.5}, curves=performance.edit(smile=0.8, start=0.5))
    result = talk(expressive, folder / "speech.wav", folder / "video.mp4", options)
    result.session.save(folder / "session.json")
    return folder, result.session


def test_a_session_gives_the_same_frames_again(made, expressive):
    folder, session = made
    loaded = Session.load(folder / "session.json")
    assert json.loads((folder / "session.json").read_text())["curves"]["controls"] == ["smile"]
    assert loaded.to_json() == (folder / "session.json").read_text()
    curves = loaded.performance(expressive)
    assert curves.control_names == tuple(expressive.control_names)
    assert curves.curves["smile"].max() == np.float32(0.8) and curves.curves["brows_up"].min() == np.float32(0.5)
    talk_session(loaded, expressive, None, folder / "again.mp4")
    first, second = (np.stack(list(read_video(folder / f"{name}.mp4"))) for name in ("video", "again"))
    assert np.array_equal(first, second)


def test_a_head_that_lost_its_controls_refuses_the_session(made, identity):
    session = replace(made[1], identity_sha256="")
    with pytest.raises(UserError, match="There is no coefficient 'brows_up'"):
        session.check_identity(identity)
    with pytest.raises(UserError, match="moves face controls that 'fake' here does not have"):
        replace(session, edits={}).check_identity(identity)


def test_sessions_of_the_first_format_load(made, expressive):
    values = json.loads(replace(made[1], curves=replace(made[1].curves, controls=None)).to_json())
    assert values["version"] == 2 and values["curves"].pop("controls") == []
    values["version"] = 1
    values["curves"]["encoding"] = values["curves"]["encoding"].removesuffix(", controls")
    old = Session.from_json(json.dumps(values))
    assert old.curves.a_lip.tobytes() == made[1].curves.a_lip.tobytes()
    assert not old.performance(expressive).curves["smile"].any()


@pytest.mark.parametrize("names", [["smile", "smile"], ["no name"], [3], "smile", None, []])
def test_damaged_controls_of_a_session_are_one_sentence(made, names):
    values = json.loads(made[1].to_json())
    values["curves"]["controls"] = names
    with pytest.raises(UserError, match="is damaged"):
        Session.from_json(json.dumps(values))


def test_the_api_names_them(expressive):
    head = dg.Head(expressive)
    assert list(head.controls)[-5:] == ["blink", "smile", "brows_up", "wide_eyes", "wink_left"]
    assert head.controls["smile"] == Control("Smile", 0.0, 1.0)
    still, smiling = (head.frame(size=64, smile=amount).astype(int) for amount in (0.0, 1.0))
    assert np.abs(still - smiling).max() > 10
