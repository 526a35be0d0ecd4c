"""What the viewport's server functions accept, and what a job reports, without a browser."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from fakes.speech import write_speech

from dgtalker.errors import UserError
from dgtalker.studio.generate import Job, run_job
from dgtalker.studio.session_io import CachedPerformance, Inputs
from dgtalker.studio.user_state import UserJobs
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


def test_every_slider_has_its_own_ends():
    view = parse_view({"identity": "a", "exp": [9, -9], "lip": [9]}, EXP, LIP, {"exp1": (-3, 5.5), "lip1": (-4, 3)})
    assert view.exp == (5.5, -3) and view.lip == (3,)


def test_face_controls_run_from_zero_to_one():
    data = {"identity": "a", "face": [0.6, 7, -1]}
    view = parse_view(data, EXP, LIP, control_names=["smile", "squint", "frown"])
    assert view.face == (0.6, 1, 0) and view.edits == {"smile": 0.6, "squint": 1}
    assert view.pose != parse_view(data | {"face": [0, 0, 0]}, EXP, LIP, control_names=["smile", "x", "y"]).pose
    assert parse_view({"identity": "a"}, EXP, LIP, control_names=["smile"]).face == (0,)
    with pytest.raises(UserError, match="has 0 face sliders"):
        parse_view(data, EXP, LIP)


def test_defaults_edit_nothing():
    view = parse_view({"identity": "a"}, EXP, LIP)
    assert view.edits == {} and view.exp == (0, 0) and view.lip == (0,)


@pytest.mark.parametrize(
    "data", [None, [], {"lip": "x"}, {"lip": [None]}, {"lip": [True]}, {"lip": []}, {"yaw": float("inf")}, {"size": {}}]
)
def test_nonsense_is_refused(data):
    with pytest.raises(UserError):
        parse_view(data, EXP, LIP)


def test_jobs_have_their_own_folders_and_clean_up():
    jobs = UserJobs()
    a, b = jobs.start("a"), jobs.start("b")
    assert a.folder != b.folder and a.folder.is_dir()
    jobs.cancel("a")
    assert a.stop.is_set() and not b.stop.is_set()
    assert jobs.find("a", a.number) is a and jobs.find("b", a.number) is None and jobs.find("c", 1) is None
    again = jobs.start("a")
    assert jobs.find("a", a.number) is None and jobs.find("a", again.number) is again
    assert not a.folder.exists() and not again.stop.is_set()
    jobs.drop("a")
    jobs.drop("b")
    jobs.drop("nobody")
    assert not again.folder.exists() and len(jobs) == 0


class SlowEngine:
    """Stands for the engine: reports progress until cancelled."""

    def __init__(self, failure: Exception | None = None):
        self.failure, self.stopped = failure, threading.Event()

    def parse_view(self, data):
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

    path = tmp_path / "speech.wav"
    write_speech(path, 0.25)
    return str(path)


def test_closing_the_stream_stops_the_work(audio):
    engine, user_job = SlowEngine(), UserJobs().start("a")
    reports = run_job(engine, Job({}, Inputs(audio)), user_job, 60)
    assert next(report for report in reports if report.message == "Rendering").kind == "working"
    reports.close()
    assert engine.stopped.wait(2)


def test_cancelling_is_reported(audio):
    jobs = UserJobs()
    reports = run_job(SlowEngine(), Job({}, Inputs(audio)), jobs.start("a"), 60)
    next(reports)
    jobs.cancel("a")
    assert list(reports)[-1].kind == "cancelled"


@pytest.mark.parametrize("failure, words", [(UserError("Bad thing."), "Bad thing."), (KeyError("x"), "log says why")])
def test_failures_become_one_sentence(audio, failure, words):
    last = list(run_job(SlowEngine(failure), Job({}, Inputs(audio)), UserJobs().start("a"), 60))[-1]
    assert last.kind == "failed" and words in last.message


@pytest.mark.parametrize(
    "wrong",
    [{"audio": None}, {"camera": "Behind"}, {"size": 5000}, {"blinks": "often"}, {"rate": 1e9}, {"seed": -1},
     {"variant": 1.5}],
)  # fmt: skip
def test_impossible_jobs_are_refused(wrong, audio):
    job = Job({}, Inputs(**({"audio": audio} | wrong)))
    last = list(run_job(SlowEngine(), job, UserJobs().start("a"), 60))[-1]
    assert last.kind == "failed" and last.message.endswith(".") and "log" not in last.message


def test_curves_are_shown_again_only_for_the_same_inputs(tmp_path):
    from dgtalker.performance.expression import ExpressionSettings
    from dgtalker.performance.session import Session, Sound

    mine, mood = Sound("a.wav", "1" * 64), Sound("b.wav", "2" * 64)
    view, plain = parse_view({"identity": "a"}, EXP, LIP), ExpressionSettings()
    session = Session("a", audio=mine, expression_audio=mood)
    made, loaded = CachedPerformance(session), CachedPerformance(session, loaded=True)
    assert made.matches(view, mine, mood, plain)
    assert not made.matches(view, mine, None, plain)  # the second voice was taken away
    assert loaded.matches(view, mine, None, plain)  # or never given: it is in the file's curves
    assert not made.matches(view, mood, mood, plain) and not made.matches(view, None, mood, plain)
    assert not made.matches(view, mine, mood, ExpressionSettings(variant=1))
    assert not made.matches(parse_view({"identity": "b"}, EXP, LIP), mine, mood, plain)
