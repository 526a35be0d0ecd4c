"""Lips for recordings without a picture: visemes, transferred lips, synthetic voices; and augmentation of the sound."""

import numpy as np
import pytest
import torch

from dgtalker.audio.phone_alignment import Phone
from dgtalker.errors import UserError
from dgtalker.speech import tts
from dgtalker.speech.augment import SoundAugmentation, augment_sound, draw_augmentation, retime_curves
from dgtalker.speech.corpus import Utterance, films_by_words, read_films, read_speech, transfer_lips, warp_lips
from dgtalker.speech.lips import CHANNELS, lip_curves
from dgtalker.speech.tts import parse_durations, read_phones
from dgtalker.speech.visemes import fit_visemes, with_pauses

RATE = 16000


def make_phones(labels: str, length: float = 0.16, start: float = 0.2) -> list[Phone]:
    return [Phone(label, start + k * length, start + (k + 1) * length, 1.0) for k, label in enumerate(labels.split())]


def lip_curve(phones: list[Phone], frames: int) -> torch.Tensor:
    """Lips [N, 1] that are open (1) on AA, shut (-1) on M and B and at rest (0) else, slightly smoothed."""
    heights = {"AA": 1.0, "M": -1.0, "B": -1.0}
    shown = (np.arange(frames) + 0.5) / 25
    at = [next((heights.get(p.label, 0.0) for p in phones if p.start <= t < p.end), 0.0) for t in shown]
    return torch.from_numpy(np.convolve(at, [0.25, 0.5, 0.25], mode="same")).float()[:, None]


def test_visemes_generalise_to_other_words():
    sentences = ["M AA T AA", "T AA M AA", "AA T M AA B", "B AA AA T"]
    model = fit_visemes([(make_phones(text), lip_curve(make_phones(text), 30)) for text in sentences], steps=250)
    unseen = make_phones("AA B AA M T", length=0.2)
    made, true = model(unseen, 36)[:, 0].numpy(), lip_curve(unseen, 36)[:, 0].numpy()
    assert np.corrcoef(made, true)[0, 1] > 0.9
    assert made[20:25].min() < -0.3 < 0.4 < made[7]  # M is shut, AA is open


def test_pauses_fill_the_gaps():
    segments = with_pauses([Phone("M", 0.2, 0.3, 1.0), Phone("??", 0.3, 0.4, 1.0), Phone("AA", 0.5, 0.6, 1.0)], 1.0)
    assert [s.label for s in segments] == ["SIL", "M", "SIL", "AA", "SIL"]
    assert [s.label for s in with_pauses([], 1.0)] == ["SIL"]


def test_transferred_lips_follow_the_recordings_phones():
    film_phones, phones = make_phones("M AA T B AA"), make_phones("M AA T B AA", length=0.28, start=0.5)
    film = Utterance(
        "film", "a", np.zeros(RATE, np.float32), "Mart ba!", tuple(film_phones), lip_curve(film_phones, 30)
    )
    lips = warp_lips(film, phones, 55)
    assert lips.shape == (55, 1)
    assert np.corrcoef(lips[:, 0], lip_curve(phones, 55)[:, 0])[0, 1] > 0.9
    assert warp_lips(film, make_phones("S IY K"), 30) is None  # other words

    recording = Utterance("talk", "b", np.zeros(RATE * 55 // 25, np.float32), "mart BA", tuple(phones))
    torch.testing.assert_close(transfer_lips(recording, films_by_words([film]), None), lips)
    assert transfer_lips(recording, {}, None) is None


def test_lips_are_interpolated_over_frames_without_a_face():
    points = np.random.default_rng(0).normal(size=(5, 478, 2)) + np.arange(5)[:, None, None]
    scores = np.linspace(0, 1, 5)[:, None].repeat(52, axis=1)
    points[2], scores[2] = np.nan, np.nan
    lips = lip_curves(points, scores)
    assert lips.shape == (5, len(CHANNELS)) and torch.isfinite(lips).all()
    torch.testing.assert_close(lips[2], (lips[1] + lips[3]) / 2)


def test_augmentation_changes_voice_and_tempo():
    tone = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)

    def pitch(sound):
        return np.abs(np.fft.rfft(sound)).argmax() * RATE / len(sound)

    assert abs(pitch(augment_sound(tone, SoundAugmentation(tract=1.2, tempo=1.2))) - 600) < 5
    slow = augment_sound(tone, SoundAugmentation(tract=1.2, tempo=0.8))
    assert abs(pitch(slow) - 600) < 12 and abs(len(slow) / RATE - 2.5) < 0.1
    same = augment_sound(
        tone, SoundAugmentation(snr_db=20.0, reverb=0.2, band=(100.0, 3000.0), tilt=(3.0,) * 8, seed=1)
    )
    assert len(same) == len(tone) and abs(pitch(same) - 500) < 5
    random = [draw_augmentation(np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert random[0] == random[1] != random[2]
    np.testing.assert_array_equal(augment_sound(tone, random[0]), augment_sound(tone, random[1]))


def test_curves_follow_the_tempo():
    ramp = np.arange(50, dtype=np.float32)[:, None]
    np.testing.assert_allclose(retime_curves(ramp, 1.0, 50), ramp)
    fast = retime_curves(ramp, 2.0, 25)
    np.testing.assert_allclose(fast[:, 0], 2 * np.arange(25) + 0.5)


def test_synthetic_voices_have_phones(tmp_path):
    phones = parse_durations("pau:0.2 b:0.3 ax:0.5 n:0.6 pau:0.8 ")
    assert [(p.label, p.start, p.end) for p in phones] == [("B", 0.2, 0.3), ("AH", 0.3, 0.5), ("N", 0.5, 0.6)]
    try:
        tts.require_flite()
    except UserError:
        pytest.skip("flite is not installed")
    tts.speak_sentences(tmp_path, [("one", "bin blue")], voices=["slt"])
    assert [p.label for p in read_phones(tmp_path / "slt" / "one.phones")] == ["B", "IH", "N", "B", "L", "UW"]
    (spoken,) = read_speech([tmp_path])
    assert spoken.voice == "slt" and spoken.text == "bin blue" and spoken.phones[-1].end <= len(spoken.samples) / RATE


def test_unusable_input_is_reported_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no folder of speech"):
        read_speech([tmp_path / "none"])
    with pytest.raises(UserError, match="no speech whose words are known"):
        read_speech([tmp_path])
    with pytest.raises(UserError, match="neither a data set nor a folder of films"):
        read_films(tmp_path)
    (tmp_path / "a.phones").write_text("B 0.1\n")
    with pytest.raises(UserError, match="LABEL START END"):
        read_phones(tmp_path / "a.phones")
    monkeypatch.setattr(tts.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="need flite"):
        tts.speak_sentences(tmp_path, [("one", "bin blue")])
