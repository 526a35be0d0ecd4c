"""`import dgtalker as dg`: the examples of its docstrings, edits, sounds in every form, streams, bad input."""

import doctest
import io
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes.speech import RATE, syllables, write_speech

import dgtalker as dg
from dgtalker import api
from dgtalker.gaussians import Gaussians
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.performance.curves import EASE_SECONDS
from dgtalker.performance.recording import float_samples
from dgtalker.performance.streaming import look_ahead_seconds


@pytest.fixture(scope="module")
def head(identity) -> dg.Head:
    return dg.Head(identity)


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    soundfile.write(path, syllables(1.2), RATE)
    return path


@pytest.fixture(scope="module")
def performance(head, sound) -> dg.Performance:
    return head.listen(sound)


# -- the module -------------------------------------------------------------------------------------------------------


def test_importing_loads_nothing_heavy_and_shows_the_public_names():
    code = """
import sys
import dgtalker as dg
print([name for name in ("torch", "numpy", "numba", "gradio") if name in sys.modules])
print(sorted(dir(dg)) == sorted([*dg.__all__, "__version__"]), len(dg.__all__) <= 12)
from dgtalker import UserError
print(UserError.__module__)
try:
    dg.nothing
except AttributeError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "[]", "True True", "dgtalker.errors", "module 'dgtalker' has no attribute 'nothing'",
    ]  # fmt: skip


EXAMPLES = [
    example
    for name in [*dg.__all__, "Control"]
    for example in doctest.DocTestFinder().find(getattr(api, name), name, module=False)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_of_docstrings(example, fake_identity, tmp_path, monkeypatch):
    shutil.copytree(fake_identity, tmp_path / "checkpoints" / "identities" / "actor2")
    config = tmp_path / "checkpoints" / "identities" / "actor2" / "config.json"
    config.write_text(config.read_text().replace('"name": "fake"', '"name": "actor2"'))
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.chdir(tmp_path)
    write_speech(tmp_path / "speech.wav")
    example.globs = {"dg": dg, "np": np}
    said = io.StringIO()
    assert doctest.DocTestRunner().run(example, out=said.write).failed == 0, said.getvalue()


@pytest.mark.parametrize("name", dg.__all__)
def test_every_public_name_has_an_example(name):
    assert any(example.name.split(".")[0] == name for example in EXAMPLES)


# -- listening --------------------------------------------------------------------------------------------------------


def test_a_sound_is_a_path_bytes_or_samples(head, sound, performance):
    samples, rate = soundfile.read(sound, dtype="float32")
    stereo = np.stack([samples, samples], axis=1)
    for other in (str(sound), sound.read_bytes(), (samples, rate), (stereo.astype(float), rate)):
        np.testing.assert_allclose(head.listen(other).a_lip, performance.a_lip, atol=1e-4)
    louder = (np.round(samples * 32767).astype(np.int16), rate)
    np.testing.assert_allclose(head.listen(louder).a_lip, performance.a_lip, atol=0.05)
    slow = head.listen((samples, RATE // 2))
    assert len(slow) == 2 * len(performance) == 60 and slow.seconds == 2.4


def test_whole_numbers_are_scaled_to_one():
    for kind, values in {np.int16: [-(2**15), 0], np.int32: [-(2**31), 0], np.uint8: [0, 128]}.items():
        assert float_samples(np.array(values, kind)).tolist() == [-1, 0]


def test_the_upper_face_has_its_own_options(head, sound, performance):
    others = [
        head.listen(sound, blinks=np.array([0.4, 0.8], np.float32)),
        head.listen(sound, blinks=()),
        head.listen(sound, variant=1, seed=2),
        head.listen(sound, expression=(syllables(0.8, seed=3), RATE)),
    ]
    assert all(np.array_equal(other.a_lip, performance.a_lip) for other in others)
    assert others[0].blink[10] == others[0].blink[20] == 1 and not others[1].blink.any()
    assert not np.array_equal(others[2].a_exp, others[3].a_exp)


def test_silence_rests_the_face_and_progress_is_told(head):
    told = []
    quiet = head.listen((np.zeros(RATE, np.float32), RATE), blinks=(), progress=lambda *report: told.append(report))
    assert not quiet.a_lip.any() and not quiet.a_exp.any() and len(quiet) == 25
    assert all(total == 1.0 and "Listening" in message for _, total, message in told)


# -- editing ----------------------------------------------------------------------------------------------------------


def test_an_edit_of_a_part_changes_nothing_else(performance):
    edited = performance.edit(lip2=1.5, blink=0.5, start=0.4, end=0.8)
    inside = slice(10, 20)
    for name, curve in performance.curves.items():
        changed = edited.curves[name] != curve
        assert not changed[:10].any() and not changed[20:].any(), name
    added = (edited.curves["lip2"] - performance.curves["lip2"])[inside]
    np.testing.assert_allclose(added[4:6], 1.5, atol=1e-6)
    np.testing.assert_allclose(added, added[::-1], atol=1e-6)
    assert 0 < added[0] < 0.2 and (np.diff(added[: round(25 * EASE_SECONDS)]) > 0).all()
    assert np.array_equal(edited.curves["lip1"], performance.curves["lip1"])
    assert edited.sound is performance.sound and 0 <= edited.blink.min() <= edited.blink.max() <= 1


def test_an_edit_of_the_whole_is_that_of_a_slider(performance, identity):
    edits = {"lip1": 1.0, "exp2": -0.5, "blink": 0.25}
    edited = performance.edit(**edits)
    for name in ("a_exp", "a_lip", "blink"):
        assert np.array_equal(getattr(edited, name), getattr(performance.with_edits(edits, identity), name))
    blink = np.clip(performance.blink + np.float32(0.25), 0, 1)
    moved = identity.blink_coefficients(blink) - identity.blink_coefficients(performance.blink)
    np.testing.assert_allclose(edited.a_exp - performance.a_exp, moved + [[0, -0.5, 0]], atol=1e-6)


def test_edits_stop_at_the_ends_of_the_head_and_never_pull_speech_in(performance, identity):
    low, high = identity.ranges[identity.n_exp]
    far, outside = performance.edit(lip1=15.0), replace(performance, a_lip=performance.a_lip + 10)
    np.testing.assert_allclose(far.curves["lip1"], np.maximum(high, performance.curves["lip1"]))
    np.testing.assert_allclose(performance.edit(lip1=-15.0).curves["lip1"], np.minimum(low, performance.curves["lip1"]))
    assert np.array_equal(outside.edit(lip1=1.0).a_lip, outside.a_lip)
    still = identity.coefficients({"lip1": 15.0, "exp1": -15.0})
    assert still[1][0] == high and still[0][0] == identity.ranges[0, 0]


def test_an_edit_shorter_than_its_ease_still_shows(performance):
    edited = performance.edit(lip1=1.0, start=0.4, end=0.44)
    changed = np.flatnonzero(edited.a_lip[:, 0] != performance.a_lip[:, 0])
    assert changed.tolist() == [10]


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"mouth": 1}, "no coefficient 'mouth'"), ({"lip1": float("nan")}, "number"), ({"lip1": "much"}, "number"),
        ({"lip1": 99}, "20"), ({"blink": 2}, "within"), ({"lip1": True}, "number"),
        ({"lip1": 1, "start": 0.5, "end": 0.5}, "not after its start"), ({"lip1": 1, "start": 9}, "lasts 1.20 s"),
        ({"lip1": 1, "start": -1}, "seconds"), ({"lip1": 1, "end": float("nan")}, "seconds"),
    ],
)  # fmt: skip
def test_bad_edits(performance, options, saying):
    refused(lambda: performance.edit(**options), saying)


def test_curves_and_sessions_come_back_from_files(head, performance, tmp_path):
    loaded = dg.Performance.load(performance.save(tmp_path / "curves.csv"), head.identity)
    np.testing.assert_allclose(loaded.a_exp, performance.a_exp, atol=1e-4)
    assert loaded.edit(blink=1).blink.min() == 1
    dg.Session("fake", edits={"blink": 0.5}, curves=performance).save(tmp_path / "talk.json")
    session = dg.Session.load(tmp_path / "talk.json")
    assert np.array_equal(session.performance(head.identity).a_exp, performance.edit(blink=0.5).a_exp)
    refused(lambda: session.curves.edit(blink=1), "Session.performance")
    refused(lambda: dg.Session("fake").performance(head.identity), "no curves")


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", ["front", "spiral", (20, 5), (20.0, -5, 1.5)])
def test_a_stream_draws_the_frames_of_the_video(head, performance, tmp_path, camera, monkeypatch):
    written = []

    class Writer:
        def __init__(self, path, width, height, *args, audio=None, **options):
            written.append((width, height, audio))

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda self, *error: None  # noqa: E731
        write = lambda self, picture: written.append(picture)  # noqa: E731

    monkeypatch.setattr("dgtalker.talk.VideoWriter", Writer)
    path = head.render(performance, tmp_path / "talking.mp4", size=64, camera=camera)
    assert path == tmp_path / "talking.mp4" and written[0] == (64, 64, performance.sound.source)
    assert np.array_equal(written[1:], list(head.stream(performance, size=64, camera=camera)))


def test_a_video_has_the_sound_that_was_heard(head, performance, sound, tmp_path):
    for k, source in enumerate([performance.edit(lip1=1), sound.read_bytes(), (syllables(1.2), RATE)]):
        told = []
        path = head.render(source, tmp_path / f"{k}.mp4", size=64, progress=lambda *report, t=told: t.append(report))
        assert "aac" in probe(path).audio and len(list(read_video(path))) == 30 and told[-1][:2] == (30, 30)
    silent = dg.Performance.load(performance.save(tmp_path / "curves.csv"), head.identity)
    assert not probe(head.render(silent, tmp_path / "silent.mp4", size=64)).audio


def test_a_live_sound_is_shown_late_but_equal(head, identity):
    samples = syllables(2.0)
    heard, shown_at = 0, []

    def microphone():
        nonlocal heard
        for start in range(0, len(samples), 3000):
            heard = min(start + 3000, len(samples))
            yield samples[start:heard]

    frames = []
    for image in head.stream(microphone(), size=64):
        frames.append(image)
        shown_at.append(heard)
    assert len(frames) == 50 and shown_at[0] < len(samples)
    late = look_ahead_seconds(identity) + 3000 / RATE
    assert all(at / RATE - i / 25 < late + 0.05 for i, at in enumerate(shown_at[:30]))
    other = list(head.stream((s for s in np.split(samples, 4)), size=64))
    assert np.array_equal(frames, other)
    gaps = [piece for s in np.split(samples, 4) for piece in (s, s[:0])]  # a microphone may have nothing new
    assert np.array_equal(frames, list(head.stream(iter(gaps), size=64)))
    doubled = list(head.stream(iter([np.repeat(samples, 2)]), size=64, rate=2 * RATE, camera="spiral"))
    assert len(doubled) == 50 and not np.array_equal(doubled, frames)


def running() -> tuple[int, int]:
    """Threads and, where /proc says so, processes of this one."""
    children = [word for path in Path("/proc/self/task").glob("*/children") for word in path.read_text().split()]
    return threading.active_count(), len(children)


def test_a_closed_stream_leaves_nothing_running(head, sound):
    closed = []

    def microphone():
        try:
            while True:
                yield np.zeros(4000, np.float32)
        finally:
            closed.append(True)

    next(head.stream(sound, size=32))  # whatever threads a renderer keeps are there now
    before = running()
    for source in (sound, microphone()):
        stream = head.stream(source, size=32)
        next(stream)
        stream.close()
        assert next(stream, None) is None
    assert closed == [True]
    assert running() == before


def test_a_frame_follows_its_controls(head, identity):
    rest, moved = head.frame(size=128), head.frame(size=128, lip1=3, blink=np.float32(1), yaw=20)
    assert rest.shape == moved.shape == (128, 128, 3) and rest.dtype == np.uint8 and not np.array_equal(rest, moved)
    assert list(head.controls) == [*identity.exp_names, *identity.lip_names, "blink"]
    assert head.controls["lip1"] == ("lip 1", -3.0, 3.0) and head.title == "Fake person" and "fake" in repr(head)


def test_an_exported_head_has_the_splats_of_the_frame(head, identity, tmp_path):
    splats = Gaussians.load_ply(head.export(tmp_path / "new" / "head.ply", lip1=2))
    np.testing.assert_allclose(splats.means, identity.splats(*identity.coefficients({"lip1": 2})).means)


# -- bad input --------------------------------------------------------------------------------------------------------


def refused(call, saying: str) -> None:
    with pytest.raises(dg.UserError) as error:
        call()
    sentence = str(error.value)
    assert saying.lower() in sentence.lower() and "\n" not in sentence and sentence.endswith("."), sentence


@pytest.mark.parametrize(
    ("sound", "saying"),
    [
        ("nothing.wav", "not exist"), ("x" * 999, "not exist"), (([[1.0], 2.0], RATE), "samples are"),
        (b"", "empty"), (b"no sound at all" * 99, "sound"), (7, "not int"),
        (None, "not NoneType"), (np.zeros(RATE), "not ndarray"), ((np.zeros(0), RATE), "empty"),
        ((np.zeros((1, 1, 1)), RATE), "shape"), ((np.zeros((2, 9000)), RATE), "other way round"),
        ((np.array([0.1, np.nan]), RATE), "finite"), ((np.array(["a"]), RATE), "floats"),
        ((np.zeros(9, bool), RATE), "floats"), ((np.zeros(9, complex), RATE), "floats"),
        ((np.zeros(RATE), 16000.5), "rate"), ((np.zeros(RATE), 0), "rate"), ((np.zeros(RATE), True), "rate"),
        ((np.zeros(9), RATE), "less than one video frame"),
    ],
)  # fmt: skip
def test_bad_sounds(head, tmp_path, sound, saying):
    refused(lambda: head.listen(sound), saying)
    if sound is not None:
        refused(lambda: head.render(sound, tmp_path / "x.mp4"), saying)
    assert not any(tmp_path.iterdir())


def test_bad_requests(head, performance, sound, tmp_path):
    foreign = dg.Performance(
        np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32), np.zeros(5, np.float32), ("exp1", "exp2"),
        ("lip1", "lip2"), identity="other",
    )  # fmt: skip
    (tmp_path / "file").write_text("in the way")
    calls = {
        "no identity 'nobody'": lambda: dg.load("nobody"),
        "no device": lambda: dg.load(head.identity.folder, device="abacus"),
        "blinks are a list": lambda: head.listen(sound, blinks="often"),
        "a blink is set at 7 s": lambda: head.listen(sound, blinks=[7]),
        "blink rate": lambda: head.listen(sound, blink_rate=float("nan")),
        "variant": lambda: head.listen(sound, variant=-1),
        "'other', not of 'fake'": lambda: head.render(foreign, tmp_path / "x.mp4"),
        "those of 'other'": lambda: head.stream(foreign),
        "must end in .mp4": lambda: head.render(performance, tmp_path / "x.avi"),
        "cannot be written": lambda: head.render(performance, tmp_path / "file" / "x.mp4"),
        "must end in .ply": lambda: head.export(tmp_path / "x.png"),
        "even number": lambda: head.stream(performance, size=63),
        "from 16": lambda: head.stream(iter([]), size=4),
        "not big": lambda: head.frame(size="big"),
        "camera path": lambda: head.stream(performance, camera="dolly"),
        "a camera is": lambda: head.stream(performance, camera=(1, 2, 3, 4)),
        "pitch": lambda: head.frame(pitch=90),
        "finite": lambda: head.frame(yaw=float("nan")),
        "yaw, pitch, zoom": lambda: head.frame(yaw="left"),
        "too long": lambda: head.render(performance, tmp_path / f"{'x' * 300}.mp4"),
        "null byte": lambda: head.export("x\0.ply"),
        "the gain must be": lambda: head.stream(iter([]), gain=float("nan")),
        "no coefficient 'smile'": lambda: head.frame(smile=1),
        "lip1 must be": lambda: head.export(tmp_path / "x.ply", lip1=float("inf")),
        "samples are": lambda: list(head.stream(iter([np.zeros((2, 2, 2))]), size=32)),
        "not a data set": lambda: dg.create(tmp_path, tmp_path / "new"),
        "dataset.json": lambda: dg.evaluate(head, tmp_path),
    }
    for saying, call in calls.items():
        refused(call, saying)
    assert not (tmp_path / "x.mp4").exists() and not (tmp_path / "x.ply").exists()
