"""Sound for pages: small, played by every browser, in step, and without the tags of its file."""

import numpy as np
import pytest
import soundfile
from fakes.command_line import run_ffmpeg
from fakes.speech import RATE, syllables

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.web_sound import KEPT_BYTES, make_web_sound


@pytest.fixture
def speech(tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, syllables(3.0), RATE)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_small_files_of_web_formats_keep_their_samples_and_lose_their_tags(speech, tmp_path, suffix):
    path = tmp_path / f"tagged.{suffix}"
    codec = {"wav": "pcm_s16le", "flac": "flac"}[suffix]
    run_ffmpeg("-i", speech, "-metadata", "comment=/home/somebody/secret", "-c:a", codec, path)
    assert b"secret" in path.read_bytes()
    data, mime = make_web_sound(path)
    assert mime == f"audio/{suffix}" and b"secret" not in data
    kept = tmp_path / f"kept.{suffix}"
    kept.write_bytes(data)
    np.testing.assert_array_equal(soundfile.read(kept)[0], soundfile.read(path)[0])


@pytest.mark.parametrize("suffix", ["m4a", "ogg", "mp4", "long.wav", "float.wav", "mp3"])
def test_others_become_mp3_in_step(speech, tmp_path, suffix):
    path = tmp_path / f"sound.{suffix}"
    if suffix == "mp4":
        run_ffmpeg("-i", speech, "-f", "lavfi", "-i", "color=red:s=64x64:d=3", path)
    elif suffix == "long.wav":
        soundfile.write(path, np.repeat(syllables(3.0)[:, None], 12, axis=1), RATE, subtype="PCM_16")
        assert path.stat().st_size > KEPT_BYTES
    elif suffix == "float.wav":
        soundfile.write(path, syllables(3.0), RATE, subtype="FLOAT")
    else:
        run_ffmpeg("-i", speech, path)
    data, mime = make_web_sound(path)
    assert mime == "audio/mpeg" and len(data) < 100_000
    (tmp_path / "out.mp3").write_bytes(data)
    before, after = load_audio(path), load_audio(tmp_path / "out.mp3")
    count = min(len(before), len(after))
    assert abs(len(before) - len(after)) < 0.06 * RATE
    shifts = range(-800, 801, 8)
    fits = [float(before[1000 : count - 1000] @ after[1000 + s : count - 1000 + s]) for s in shifts]
    lag = shifts[int(np.argmax(fits))]
    assert abs(lag) <= 0.005 * RATE, lag


def test_what_is_no_sound_is_one_sentence(tmp_path):
    silent = tmp_path / "silent.mp4"
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", silent)
    with pytest.raises(UserError, match="no audio track"):
        make_web_sound(silent)
    (tmp_path / "list.mp3").write_text("#EXTM3U\nother.wav\n")
    with pytest.raises(UserError, match="playlist"):
        make_web_sound(tmp_path / "list.mp3")
