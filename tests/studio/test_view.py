"""What the viewport's server functions accept, and what a job reports, without a browser."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from dgtalker.errors import UserError
from dgtalker.studio.generate import Job, run
from dgtalker.studio.session_io import Inputs, Kept
from dgtalker.studio.user_state import Sessions
from dgtalker.studio.view import parse_view

EXP, LIP = ["exp1", "exp2"], ["lip1"]


def test_values_are_clamped():
    view = parse_view(
        {"identity": "a", "exp": [9, -9], "lip": [1], "blink": 7, "yaw": 999, "pitch": -999, "zoom": 0, "size": 1e9},
        EXP, LIP,
    )  # fmt: skip
    assert view.exp == (3, -3) and view.blink == 1 and view.yaw == 90 and view.pitch == -40
    assert view.zoom == 0.6 and view.size == 768
    assert view.edits == {"exp1": 3, "exp2": -3, "lip1": 1, "blink": 1}


def test_defaults_edit_nothing():
    view = parse_view({"identity": "a"}, EXP, LIP)
    assert view.edits == {} and view.exp == (0, 0) and view.lip == (0,)


@pytest.mark.parametrize(
    "data", [None, [], {"lip": "x"}, {"lip": [None]}, {"lip": [True]}, {"lip": []}, {"yaw": float("inf")}, {"size": {}}]
)
def test_nonsense_is_refused(data):
    with pytest.raises(UserError):
        parse_view(data, EXP, LIP)


def test_sessions_have_their_own_folders_and_clean_up():
    sessions = Sessions()
    a, b = sessions.start_job("a"), sessions.start_job("b")
    assert a.folder != b.folder and a.folder.is_dir()
    sessions.cancel("a")
    assert a.stop.is_set() and not b.stop.is_set()
    assert sessions.find("a", a.ticket) is a and sessions.find("b", a.ticket) is None and sessions.find("c", 1) is None
    again = sessions.start_job("a")
    assert sessions.find("a", a.ticket) is None and sessions.find("a", again.ticket) is again
    assert not a.folder.exists() and not again.stop.is_set()
    sessions.drop("a")
    sessions.drop("b")
    sessions.drop("nobody")
    assert not again.folder.exists() and len(sessions) == 0


class SlowEngine:
    """Stands for the engine: reports progress until cancelled."""

    def __init__(self, failure: Exception | None = None):
        self.failure, self.stopped = failure, threading.Event()

    def parse(self, data):
        return data

    def talk(self, view, folder: Path, progress, cancelled, **options):
        if self.failure:
            raise self.failure
        for i in range(500):
            progress(i, 500, "Rendering")
            if cancelled():
                break
            time.sleep(0.01)
        self.stopped.set()


@pytest.fixture
def audio(tmp_path) -> str:
    import numpy as np
    import soundfile

    path = tmp_path / "noise.wav"
    soundfile.write(path, np.full(4000, 0.2), 16000)
    return str(path)


def test_closing_the_stream_stops_the_work(audio):
    engine, session = SlowEngine(), Sessions().start_job("a")
    reports = run(engine, Job({}, Inputs(audio)), session, 60)
    assert next(reports).kind == "working"
    reports.close()
    assert engine.stopped.wait(2)


def test_cancelling_is_reported(audio):
    sessions = Sessions()
    reports = run(SlowEngine(), Job({}, Inputs(audio)), sessions.start_job("a"), 60)
    next(reports)
    sessions.cancel("a")
    assert list(reports)[-1].kind == "cancelled"


@pytest.mark.parametrize("failure, words", [(UserError("Bad thing."), "Bad thing."), (KeyError("x"), "log says why")])
def test_failures_become_one_sentence(audio, failure, words):
    last = list(run(SlowEngine(failure), Job({}, Inputs(audio)), Sessions().start_job("a"), 60))[-1]
    assert last.kind == "failed" and words in last.message


@pytest.mark.parametrize(
    "wrong",
    [{"audio": None}, {"camera": "Behind"}, {"size": 5000}, {"blinks": "often"}, {"rate": 1e9}, {"seed": -1},
     {"variant": 1.5}],
)  # fmt: skip
def test_impossible_jobs_are_refused(wrong, audio):
    job = Job({}, Inputs(**({"audio": audio} | wrong)))
    last = list(run(SlowEngine(), job, Sessions().start_job("a"), 60))[-1]
    assert last.kind == "failed" and last.message.endswith(".") and "log" not in last.message


def test_curves_are_shown_again_only_for_the_same_inputs(tmp_path):
    from dgtalker.performance.expression import ExpressionSettings
    from dgtalker.performance.session import Session, Sound

    mine, mood = Sound("a.wav", "1" * 64), Sound("b.wav", "2" * 64)
    view, plain = parse_view({"identity": "a"}, EXP, LIP), ExpressionSettings()
    session = Session("a", audio=mine, expression_audio=mood)
    assert Kept(session).fits(view, mine, mood, plain)
    assert not Kept(session).fits(view, mine, None, plain)  # the second voice was taken away
    assert Kept(session, loaded=True).fits(view, mine, None, plain)  # or never given: it is in the file's curves
    assert not Kept(session).fits(view, mood, mood, plain) and not Kept(session).fits(view, None, mood, plain)
    assert not Kept(session).fits(view, mine, mood, ExpressionSettings(variant=1))
    assert not Kept(session).fits(parse_view({"identity": "b"}, EXP, LIP), mine, mood, plain)
