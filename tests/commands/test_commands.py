"""The commands as processes: what comes out, and one clear sentence for each bad input."""

import csv
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from fakes.command_line import run_command, run_ffmpeg, start_command
from fakes.speech import write_speech

ROOT = Path(__file__).resolve().parents[2]


def refused(*argv, saying):
    """The command ends with code 2 and one sentence on stderr that contains `saying`."""
    code, out, err = run_command(*argv)
    sentence = err.splitlines()[-1]
    assert code == 2, err
    assert sentence.startswith("error: ") and saying.lower() in sentence.lower(), err
    assert all("%|" in line or not line.strip() for line in err.splitlines()[:-1]), err  # at most a progress bar
    assert "Traceback" not in err and out == ""


# -- good input -------------------------------------------------------------------------------------------------------


def test_render_writes_a_picture_that_follows_the_coefficients(fake_identity, tmp_path):
    from PIL import Image

    pictures = []
    for name, settings in (("rest", []), ("open", ["--set", "lip1=3", "--set", "blink=1"])):
        output = tmp_path / f"{name}.png"
        code, _, err = run_command("render", fake_identity, "-o", output, "--size", 128, "--yaw", 20, *settings)
        assert code == 0, err
        pictures.append(np.asarray(Image.open(output).convert("RGB"), np.int32))
    assert pictures[0].shape == (128, 128, 3) and pictures[0].min() < 200
    assert np.abs(pictures[0] - pictures[1]).max() > 10


def test_set_takes_face_controls_of_heads_that_have_them(fake_identity, fake_identity_with_controls, tmp_path):
    from PIL import Image

    pictures = []
    for settings in ([], ["--set", "smile=0.7"]):
        output = tmp_path / "head.png"
        code, _, err = run_command("render", fake_identity_with_controls, "-o", output, "--size", 64, *settings)
        assert code == 0, err
        pictures.append(np.asarray(Image.open(output).convert("RGB"), np.int32))
    assert np.abs(pictures[0] - pictures[1]).max() > 10
    refused("render", fake_identity, "-o", tmp_path / "x.png", "--set", "smile=0.7", saying="no coefficient 'smile'")


def test_export_writes_splats_that_load(fake_identity, tmp_path):
    from dgtalker.gaussians import Gaussians

    code, _, err = run_command("export", fake_identity, "-o", tmp_path / "head.ply", "--set", "lip1=1")
    assert code == 0, err
    assert Gaussians.load_ply(tmp_path / "head.ply").count > 0


@pytest.mark.parametrize("silent", [False, True])
def test_talk_writes_a_video_as_long_as_the_sound(fake_identity, tmp_path, silent):
    audio, video, table = (
        write_speech(tmp_path / "a.wav", 1.2, level=0.0 if silent else 0.3),
        tmp_path / "v.mp4",
        tmp_path / "c.csv",
    )
    code, out, err = run_command(
        "talk", fake_identity, audio, "-o", video, "--size", 64, "--camera", "spiral", "--save-coefficients", table,
        "--set", "lip1=0.5",
    )  # fmt: skip
    assert code == 0, err
    assert out == ""
    from moviepy import VideoFileClip

    with VideoFileClip(str(video)) as clip:
        assert abs(clip.duration - 1.2) <= 1 / 25 and clip.fps == 25 and clip.audio is not None
    with table.open() as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    assert "lip1" in rows[0] and "exp1" in rows[0] and len(rows) == 1 + 30


def test_ctrl_c_stops_quietly_and_leaves_no_half_video(fake_identity, tmp_path):
    audio = write_speech(tmp_path / "long.wav", 300)
    folder = tmp_path / "out"
    process = start_command("talk", fake_identity, audio, "-o", folder / "v.mp4", "--size", 512, start_new_session=True)
    deadline = time.monotonic() + 120
    # Until frames are being written.
    while not any(f.stat().st_size for f in folder.glob("*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err and err.splitlines()[-1] == "Stopped."
    assert not any(folder.glob("*"))


# -- bad input --------------------------------------------------------------------------------------------------------


def test_unknown_identity(tmp_path):
    refused("render", "nobody-we-know", "-o", tmp_path / "x.png", saying="nobody-we-know")


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_damaged_checkpoint(fake_identity, tmp_path, damage):
    import shutil

    folder = tmp_path / "damaged"
    shutil.copytree(fake_identity, folder)
    path = folder / ("model.safetensors" if damage == "weights" else "config.json")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused("render", folder, "-o", tmp_path / "x.png", saying="damaged")


@pytest.mark.parametrize(
    ("setting", "saying"), [("lip1=nan", "nan"), ("lip99=1", "lip99"), ("lip1=1e9", "lip1"), ("lip1", "NAME=")]
)
def test_coefficient_that_is_nan_unknown_or_absurd(fake_identity, tmp_path, setting, saying):
    refused("render", fake_identity, "-o", tmp_path / "x.png", "--set", setting, saying=saying)


@pytest.mark.parametrize("command", ["render", "export", "talk", "preprocess", "create-identity", "train-prior"])
def test_output_that_cannot_be_written(fake_identity, tmp_path, command):
    blocker = tmp_path / "blocker"
    blocker.write_text("a file where a folder should be")
    name = {"render": "x.png", "export": "x.ply", "talk": "x.mp4"}.get(command, "folder")
    inputs = {
        "talk": [fake_identity, write_speech(tmp_path / "a.wav")],
        "preprocess": [blocker],
        "create-identity": [tmp_path],
        "train-prior": [],
    }.get(command, [fake_identity])
    refused(command, *inputs, "-o", blocker / name, saying="cannot be written")


def bad_audio(kind, folder):
    path = folder / f"{kind}.wav"
    if kind == "empty file":
        path.write_bytes(b"")
    elif kind == "no samples":
        write_speech(path, 0)
    elif kind == "corrupt":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "too long":
        import soundfile

        path = path.with_suffix(".flac")
        with soundfile.SoundFile(path, "w", 4000, 1) as file:
            file.write(np.zeros(4000 * 3600, np.int16))  # an hour
    return path


@pytest.mark.parametrize(
    ("kind", "saying"),
    [("empty file", "empty"), ("no samples", ""), ("corrupt", "read"), ("too long", "limit"), ("absent", "exist")],
)
def test_bad_audio(fake_identity, tmp_path, kind, saying):
    video = tmp_path / "v.mp4"
    refused("talk", fake_identity, bad_audio(kind, tmp_path), "-o", video, saying=saying)
    assert not video.exists()


def test_not_a_data_set(fake_identity, tmp_path):
    refused("evaluate", fake_identity, tmp_path, saying="data set")
    refused("create-identity", tmp_path, "-o", tmp_path / "new", saying="data set")


def test_video_without_a_face(face_landmarker, tmp_path):
    video = tmp_path / "bars.mp4"
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25:duration=1", "-f", "lavfi", "-i", "sine=duration=1", video
    )
    refused("preprocess", video, "-o", tmp_path / "set", "--face-landmarker", face_landmarker, saying="face")


def test_video_with_two_faces(shared, face_landmarker, tmp_path):
    clips = sorted((shared / "data" / "grid_s1" / "test").glob("*.mpg"))[:1]
    clips += sorted((shared / "data" / "grid_other").glob("*.mpg"))[:1]
    if len(clips) < 2:
        pytest.skip("no GRID clips to put side by side")
    video = tmp_path / "two.mp4"
    run_ffmpeg("-i", clips[0], "-i", clips[1], "-t", 1, "-filter_complex", "[0:v][1:v]hstack[v]", "-map", "[v]",
           "-map", "0:a", video)  # fmt: skip
    refused("preprocess", video, "-o", tmp_path / "set", "--face-landmarker", face_landmarker, saying="two faces")
