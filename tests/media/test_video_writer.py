"""Videos that play everywhere, in true colours, with their sound, or no file at all."""

import os
import subprocess

import numpy as np
import pytest
import soundfile

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.ffmpeg import ffmpeg_exe
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.media.video_writer import VideoWriter


def frames_of(count: int, height: int = 64, width: int = 96):
    for i in range(count):
        yield np.full((height, width, 3), 5 * i % 256, np.uint8)


@pytest.fixture
def click(tmp_path):
    """2 s of 44.1 kHz stereo with one click at 1 s."""
    samples = np.zeros((88200, 2), np.float32)
    samples[44100:44120] = 0.9
    soundfile.write(tmp_path / "click.wav", samples, 44100)
    return tmp_path / "click.wav"


def test_format_and_length(tmp_path, click):
    out = tmp_path / "new" / "out.mp4"
    with VideoWriter(out, 96, 64, audio=click) as writer:
        for frame in frames_of(50):
            writer.write(frame)
    info = probe(out)
    assert "h264" in info.video and "yuv420p" in info.video and "bt709" in info.video and "aac" in info.audio
    assert (info.width, info.height, info.fps) == (96, 64, 25.0)
    assert abs(info.seconds - 2.0) <= 0.04
    assert len(list(read_video(out))) == 50
    data = out.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads
    assert os.listdir(out.parent) == ["out.mp4"]
    assert abs(np.abs(load_audio(out)).argmax() / 16000 - 1.0) < 0.005  # sound and picture share their zero


def test_colours_survive(tmp_path):
    colours = [(255, 255, 255), (220, 30, 40), (20, 180, 60), (30, 60, 200), (224, 172, 150), (0, 0, 0)]
    with VideoWriter(tmp_path / "out.mp4", 64, 64) as writer:
        for colour in colours:
            writer.write(np.broadcast_to(np.uint8(colour), (64, 64, 3)))
    command = [ffmpeg_exe(), "-v", "error", "-i", tmp_path / "out.mp4", "-vf", "scale=in_color_matrix=bt709"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    read = np.frombuffer(raw, np.uint8).reshape(-1, 64, 64, 3).astype(int)
    assert len(read) == len(colours)
    for frame, colour in zip(read, colours, strict=True):
        assert np.abs(frame[16:48, 16:48].mean(axis=(0, 1)) - colour).max() <= 3


def test_odd_sizes_are_padded(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", 95, 63) as writer:
        for frame in frames_of(3, 63, 95):
            writer.write(frame)
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (96, 64)


def test_nothing_is_left_after_a_failure(tmp_path):
    out = tmp_path / "out.mp4"
    out.write_bytes(b"the old video")
    with pytest.raises(KeyboardInterrupt):
        with VideoWriter(out, 96, 64) as writer:
            for frame in frames_of(10):
                writer.write(frame)
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["out.mp4"] and out.read_bytes() == b"the old video"


def test_wrong_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a uint8 frame"):
        with VideoWriter(tmp_path / "out.mp4", 96, 64) as writer:
            writer.write(np.zeros((64, 64, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_outputs_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file" / "out.mp4", tmp_path):
        with pytest.raises(UserError, match="Output") as error:
            VideoWriter(out, 96, 64)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_full_disk(tmp_path, monkeypatch):
    from dgtalker.media import video_writer as media

    partial = tmp_path / "partial.mp4"
    partial.symlink_to("/dev/full")
    monkeypatch.setattr(media, "_partial_file", lambda path: partial)
    with pytest.raises(UserError, match="disk is full"):
        with VideoWriter(tmp_path / "out.mp4", 256, 256) as writer:
            for i in range(50):
                writer.write(np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_probe_of_what_is_no_media(tmp_path, click):
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(UserError, match="cannot|can be read"):
        probe(tmp_path / "noise.mp4")
    with pytest.raises(UserError, match="does not exist"):
        probe(tmp_path / "absent.mp4")
    with pytest.raises(UserError, match="no picture"):
        next(read_video(click))
