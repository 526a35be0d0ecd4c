"""Any sound file becomes 16 kHz mono; everything else becomes one sentence."""

import numpy as np
import pytest
import soundfile
from fakes.command_line import run_ffmpeg

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.clock import num_frames
from dgtalker.media.video_writer import VideoWriter


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


def speech_like(seconds: float = 2.0) -> np.ndarray:
    """Bursts of a voiced sound [samples] at 16 kHz."""
    time = np.arange(round(16000 * seconds)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12))
    return (0.1 * voice * (np.sin(2 * np.pi * 3 * time) > 0)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp4", ".ogg"])
def test_channels_that_cancel_speak_as_one_does(tmp_path, suffix):
    voice = speech_like()
    soundfile.write(tmp_path / "both.wav", np.stack([voice, -0.9 * voice], 1), 16000)
    path = tmp_path / f"opposed{suffix}"
    if suffix == ".wav":
        (tmp_path / "both.wav").rename(path)
    else:
        run_ffmpeg("-i", tmp_path / "both.wav", *(["-b:a", "256k"] if suffix == ".mp4" else []), path)
    heard = load_audio(path)[: len(voice)]
    assert abs(np.corrcoef(heard, voice[: len(heard)])[0, 1]) > 0.95
    assert heard.std() == pytest.approx(voice.std(), rel=0.1)


def test_unrelated_channels_are_averaged(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (16000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 16000, subtype="FLOAT")
    assert np.allclose(load_audio(tmp_path / "a.wav")[100:-100], noise.mean(1)[100:-100], atol=1e-5)


@pytest.mark.parametrize("rumble", ["12 Hz", "offset", "wind"])
def test_rumble_below_the_voice_is_filtered_out(tmp_path, rumble):
    voice, time = 0.1 * speech_like(), np.arange(32000) / 16000
    low = {
        "12 Hz": 0.7 * np.sin(2 * np.pi * 12 * time),
        "offset": np.full(32000, 0.5),
        "wind": np.convolve(np.random.default_rng(0).normal(0, 1, 32000), np.hanning(3200), "same") / 100,
    }[rumble]
    soundfile.write(tmp_path / "a.wav", voice + low, 16000, subtype="FLOAT")
    heard = load_audio(tmp_path / "a.wav")
    assert np.corrcoef(heard[4000:-4000], voice[4000:-4000])[0, 1] > 0.97  # no delay either


def test_clean_sound_is_not_filtered(tmp_path):
    voice = speech_like() + 0.005
    soundfile.write(tmp_path / "a.wav", voice, 16000, subtype="FLOAT")
    assert np.array_equal(load_audio(tmp_path / "a.wav"), voice.astype(np.float32))


def test_flac_written_to_a_pipe_is_read(tmp_path):
    """Its header says length 0."""
    soundfile.write(tmp_path / "a.flac", speech_like(), 16000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # the lowest 36 bits before the checksum: the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(data)
    assert np.allclose(load_audio(tmp_path / "piped.flac"), load_audio(tmp_path / "a.flac"), atol=1e-4)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".flac", ".mp3"])
def test_lips_and_sound_track_hear_the_same_of_a_damaged_file(tmp_path, suffix):
    """What comes after the damage is heard when the video plays it, whose sound ffmpeg decodes."""
    soundfile.write(tmp_path / "a.wav", np.r_[speech_like(6.0), np.zeros(8000)], 16000)
    path = tmp_path / f"a{suffix}"
    run_ffmpeg("-i", tmp_path / "a.wav", *(["-page_duration", "200000"] if suffix in (".ogg", ".opus") else []), path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    with VideoWriter(tmp_path / "a.mp4", 64, 64, audio=path) as writer:
        for _ in range(162):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    ends = [np.flatnonzero(np.abs(load_audio(file)) > 0.05)[-1] / 16000 for file in (path, tmp_path / "a.mp4")]
    assert ends[0] == pytest.approx(ends[1], abs=0.03)
    assert ends[0] > 5.7


def test_integers_stored_as_floats_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like() * 32768, 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="divide them by 32768") as error:
        load_audio(tmp_path / "a.wav")
    assert "\n" not in str(error.value)


def test_shared_sounds_that_go_wrong(shared):
    folder = shared / "data/hard_inputs"
    if not folder.is_dir():
        pytest.skip("hard_inputs is not there")
    assert len(load_audio(folder / "one_bad_page.ogg")) / 16000 == pytest.approx(2.6, abs=0.02)
    piped, opposed = load_audio(folder / "piped.flac"), load_audio(folder / "antiphase.flac")
    assert np.abs(np.corrcoef(piped, opposed)[0, 1]) > 0.99
    assert np.abs(np.fft.rfft(load_audio(folder / "rumble.wav")))[:120].max() < 1  # below 30 Hz
    with pytest.raises(UserError, match="integers"):
        load_audio(folder / "float_int16_scale.wav")
