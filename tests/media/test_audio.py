"""Any sound file becomes 16 kHz mono; everything else becomes one sentence."""

import numpy as np
import pytest
import soundfile
from fakes.command_line import run_ffmpeg

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.clock import num_frames


def tone(rate: int, seconds: float = 1.0, channels: int = 1, frequency: float = 440.0) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return np.repeat(0.5 * np.sin(2 * np.pi * frequency * time)[:, None], channels, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "subtype"),
    [
        (".wav", 8000, 1, "PCM_16"),
        (".wav", 44100, 2, "PCM_24"),
        (".wav", 96000, 6, "FLOAT"),
        (".wav", 11025, 1, "PCM_U8"),
        (".flac", 48000, 2, "PCM_16"),
        (".ogg", 44100, 1, "VORBIS"),
    ],
)
def test_formats_rates_and_channels(tmp_path, suffix, rate, channels, subtype):
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, tone(rate, channels=channels), rate, subtype=subtype)
    samples = load_audio(path)
    assert samples.dtype == np.float32 and samples.ndim == 1 and abs(len(samples) - 16000) <= 16
    # The same tone came out: same pitch, same level.
    spectrum = np.abs(np.fft.rfft(samples[2000:14000] * np.hanning(12000)))
    assert abs(np.argmax(spectrum) * 16000 / 12000 - 440) < 2
    assert samples[2000:14000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("suffix", [".m4a", ".mp3", ".opus", ".mp4"])
def test_compressed_and_video_files(tmp_path, suffix):
    wav, path = tmp_path / "tone.wav", tmp_path / f"tone{suffix}"
    soundfile.write(wav, tone(44100, 2.0), 44100)
    picture = ["-f", "lavfi", "-i", "color=red:s=64x64:d=2"] if suffix == ".mp4" else []
    run_ffmpeg("-i", wav, *picture, path)
    samples = load_audio(path)
    assert abs(len(samples) / 16000 - 2.0) < 0.08
    assert samples[4000:28000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.08)  # lame takes 5 % off


def test_silence_is_legal(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    assert not load_audio(tmp_path / "silence.wav").any()


def test_not_finite_samples_are_removed(tmp_path):
    data = tone(16000)[:, 0]
    data[100], data[200], data[300] = np.nan, np.inf, 1e30
    soundfile.write(tmp_path / "odd.wav", data, 16000, subtype="FLOAT")
    samples = load_audio(tmp_path / "odd.wav")
    assert np.isfinite(samples).all() and np.abs(samples).max() <= 8


def test_missing_empty_corrupt_and_foreign_files(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam,\n" * 50)
    soundfile.write(tmp_path / "header.wav", np.zeros(0), 16000)
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", tmp_path / "mute.mp4")
    expected = {
        "absent.wav": "does not exist",
        "empty.wav": "is empty",
        "noise.mp3": "can be read",
        "letter.wav": "is a text",
        "header.wav": "can be decoded|can be read|less than one video frame",
        "mute.mp4": "no audio track",
    }
    for name, message in expected.items():
        with pytest.raises(UserError, match=message) as error:
            load_audio(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="not a file"):
        load_audio(tmp_path)


def test_truncated_file_keeps_what_can_be_decoded(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(16000, 2.0), 16000)
    path.write_bytes(path.read_bytes()[:32044])
    assert abs(len(load_audio(path)) - 16000) < 100


def test_damaged_mp3_is_decoded_without_a_word(tmp_path, capfd):
    soundfile.write(tmp_path / "tone.wav", tone(44100, 2.0), 44100)
    path = tmp_path / "tone.mp3"
    run_ffmpeg("-i", tmp_path / "tone.wav", path)
    data, random = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in random.integers(2000, len(data), 200):
        data[place] = random.integers(256)
    path.write_bytes(data)
    assert len(load_audio(path)) > 16000
    assert capfd.readouterr().err == ""


def test_too_long_and_too_short(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(3 * 8000, np.int16), 8000)
    assert len(load_audio(path, max_seconds=3)) == 48000
    with pytest.raises(UserError, match="limit"):
        load_audio(path, max_seconds=2)
    run_ffmpeg("-i", path, tmp_path / "long.m4a")  # the other decoder counts while it reads
    with pytest.raises(UserError, match="limit"):
        load_audio(tmp_path / "long.m4a", max_seconds=2)
    soundfile.write(path, np.zeros(100, np.int16), 16000)
    with pytest.raises(UserError, match="less than one video frame"):
        load_audio(path)


def test_num_frames():
    assert [num_frames(n) for n in (0, 319, 321, 16000, 47680)] == [0, 0, 1, 25, 74]
    assert num_frames(np.zeros(44100), 44100) == 25


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".m4a", ".opus", ".mp4"])
def test_no_decoder_shifts_the_sound(tmp_path, suffix):
    click = np.zeros(88200, np.float32)
    click[44100:44110] = 0.9
    soundfile.write(tmp_path / "click.wav", click, 44100)
    path = tmp_path / f"click{suffix}"
    picture = ["-f", "lavfi", "-i", "color=red:s=64x64:d=2"] if suffix == ".mp4" else []
    run_ffmpeg("-i", tmp_path / "click.wav", *picture, path)
    assert abs(np.abs(load_audio(path)).argmax() / 16000 - 1.0) < 0.002


def test_sound_that_starts_late_in_a_video_stays_late(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(44100), 44100)
    path = tmp_path / "late.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=2", "-itsoffset", "0.5", "-i", tmp_path / "tone.wav", path)
    samples = load_audio(path)
    assert abs(np.flatnonzero(np.abs(samples) > 0.1)[0] / 16000 - 0.5) < 0.03
