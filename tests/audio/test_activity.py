"""The gate opens for speech and stays shut for silence and steady noise, whatever the level."""

import numpy as np
import pytest

from dgtalker.audio.activity import speech_activity
from dgtalker.media.audio import load_audio

RATE = 16000


def noise(seconds: float, exponent: float, seed: int = 0) -> np.ndarray:
    """Noise with power falling as 1 / f^exponent, RMS 0.1."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(round(RATE * seconds)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (exponent / 2)
    samples = np.fft.irfft(spectrum)
    return (0.1 * samples / samples.std()).astype(np.float32)


@pytest.mark.parametrize("exponent", [0, 1, 2])
@pytest.mark.parametrize("gain", [1.0, 0.03])
def test_steady_noise_is_not_speech(exponent, gain):
    assert speech_activity(gain * noise(10, exponent)).max() < 0.05


def test_silence_is_not_speech():
    assert not speech_activity(np.zeros(5 * RATE, np.float32)).any()
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(5 * RATE) / RATE)
    assert speech_activity(hum).mean() < 0.05


def test_length_and_range():
    for count in (640, 1000, 5000, 47680):
        gate = speech_activity(noise(count / RATE, 0))
        assert gate.shape == (round(25 * count / RATE),) and gate.dtype == np.float32
    assert speech_activity(np.zeros(RATE, np.float32), 30).shape == (30,)


@pytest.mark.parametrize("gain", [1.0, 0.05])
def test_speech_opens_it_and_pauses_close_it(shared, gain):
    speech = load_audio(shared / "data/speech/ljspeech/LJ001-0002.wav")  # 1.9 s
    pause = np.zeros(40 * 640, np.float32)
    samples = gain * np.concatenate([pause, speech, pause, speech, pause])
    background = 0.002 * gain * noise(len(samples) / RATE, 1)
    frames = round(len(speech) / 640)
    for gate in (speech_activity(samples), speech_activity(samples + background)):
        for start in (40, 80 + frames):
            assert gate[start + 5 : start + frames - 8].mean() > 0.95
        assert gate[:26].max() < 0.1 and gate[-10:].max() < 0.1
        assert gate[40 + frames + 14 : 80 + frames - 14].max() < 0.1
        assert np.abs(np.diff(gate)).max() < 0.35  # it fades, it does not click


def test_follows_the_words_of_grid(shared):
    for align in sorted((shared / "data/grid_s1/train").glob("*.align"))[:5]:
        words = [line.split() for line in align.read_text().splitlines()]
        words = [(int(a) // 1000, int(b) // 1000) for a, b, word in words if word not in ("sil", "sp")]
        gate = speech_activity(load_audio(align.with_suffix(".mpg")))
        first, last = words[0][0], words[-1][1]
        assert gate[first + 2 : last - 2].mean() > 0.9
        assert gate[: max(first - 13, 1)].mean() < 0.1 and gate[last + 16 :].mean() < 0.15
