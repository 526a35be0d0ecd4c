"""Training of the speech backbone: recordings with transferred lips generalise it to other voices; the commands."""

import json
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.speech import RATE, syllables

from dgtalker.errors import UserError
from dgtalker.evaluation.speech_backbone import backbone_metrics
from dgtalker.navigation.speech_backbone import load_backbone
from dgtalker.speech.examples import Example, extract_augmented_features
from dgtalker.speech.lips import CHANNELS
from dgtalker.training.speech.train import SpeechConfig, fit_backbone, train_speech
from dgtalker.video.dataset import CLIP_TENSORS, ClipInfo, DatasetInfo, write_clip, write_info

ROOT = Path(__file__).resolve().parents[3]
TOY = SpeechConfig("log-mel", hidden=16, reach=2, dropout=0.0, steps=150, batch=6, run=40, rate=1e-2)


def example(seed: int, voice: int, filmed: bool) -> Example:
    """Features 0-3 follow the lips for all voices; 4-7 follow them for voice 0 only, and are louder."""
    random = np.random.default_rng(seed)
    opening = np.convolve(random.normal(size=60), np.ones(4) / 2, mode="same")
    speaker_specific = opening if voice == 0 else np.convolve(random.normal(size=60), np.ones(4) / 2, mode="same")
    features = random.normal(0, 0.3, (120, 12))
    features[:, :4] += 0.5 * np.repeat(opening, 2)[:, None]
    features[:, 4:8] += 2.0 * np.repeat(speaker_specific, 2)[:, None]
    lips = np.repeat(opening[:, None], len(CHANNELS), axis=1)
    return Example(torch.from_numpy(features).half(), torch.from_numpy(lips).float(), str(voice), filmed)


def test_recordings_of_other_voices_improve_unseen_voices():
    films = [example(seed, 0, True) for seed in range(6)]
    others = [example(10 + seed, 1 + seed % 3, False) for seed in range(6)]
    unseen = [example(30 + seed, 9, True) for seed in range(4)]
    alone = backbone_metrics(fit_backbone(films, TOY, stage()), unseen)["aperture_r"]
    with_others = backbone_metrics(fit_backbone([*films, *others], TOY, stage()), unseen)["aperture_r"]
    assert with_others > 0.8 and with_others > alone + 0.2


def stage():
    from dgtalker.training.stage import Stage

    return Stage("test")


def test_the_same_seed_gives_the_same_backbone():
    films = [example(seed, 0, True) for seed in range(2)]
    config = replace(TOY, steps=3)
    first, second = (fit_backbone(films, config, stage()).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(UserError, match="too short"):
        fit_backbone(films, replace(config, run=100), stage())


def test_features_are_cached(tmp_path, monkeypatch):
    sound = syllables(1.0)
    first = extract_augmented_features(sound, "log-mel", cache=tmp_path)
    monkeypatch.setattr("dgtalker.speech.examples.extract_features", None)
    torch.testing.assert_close(extract_augmented_features(sound, "log-mel", cache=tmp_path), first)


def write_films(folder: Path, clips: int = 2, frames: int = 60) -> Path:
    """A data set of nobody's pictures, whose lips open with the syllables."""
    infos = []
    for c in range(clips):
        sound = syllables(frames / 25, seed=c)
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / "audio" / f"clip{c}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        opening = np.sqrt(np.mean(sound.reshape(frames, -1) ** 2, axis=1))
        points = np.random.default_rng(0).normal(0, 9, (478, 2))[None].repeat(frames, axis=0)
        points[:, [14, 87, 317], 1] += 200 * opening[:, None]
        tensors = {
            name: torch.zeros(frames, *(8 if d == "S" else d for d in tail), dtype=dtype)
            for name, (dtype, tail) in CLIP_TENSORS.items()
        }
        tensors |= {
            "landmarks": torch.from_numpy(points).float(),
            "scores": torch.from_numpy(opening).float()[:, None].repeat(1, 52),
            "features": torch.zeros(2 * frames, 80, dtype=torch.float16),
        }
        write_clip(folder, f"clip{c}", tensors)
        infos.append(ClipInfo(f"clip{c}", frames, "made up"))
    write_info(folder, DatasetInfo("log-mel", [0.0], infos, size=8))
    return folder


def test_speech_needs_films_whose_words_are_known(tmp_path):
    pytest.importorskip("pocketsphinx")
    films = write_films(tmp_path / "films")
    with pytest.raises(UserError, match="whose words are known"):
        train_speech([films], [tmp_path], config=TOY)


def test_the_commands_train_measure_and_refuse(tmp_path):
    films = write_films(tmp_path / "films")
    code, out, err = run(
        "train-speech", "-o", tmp_path / "backbone", "--clips", films, "--features", "log-mel", "--changes", 1,
        "--steps", 60, "--held-out", films, "--attribution", "CC0, nobody", "--json",
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads(out)["films"]
    assert figures["clips"] == 2 and figures["aperture_r"] > 0.7
    assert {p.name for p in (tmp_path / "backbone").iterdir()} == {
        "config.json", "model.safetensors", "README.md", "report.json",
    }  # fmt: skip
    assert "CC0, nobody" in (tmp_path / "backbone" / "README.md").read_text()
    assert load_backbone(tmp_path / "backbone").config.channels == CHANNELS

    code, out, err = run("evaluate-speech", tmp_path / "backbone", films, "--json")
    assert code == 0, err
    assert json.loads(out)["films"]["aperture_r"] == pytest.approx(figures["aperture_r"], abs=0.01)

    weights = tmp_path / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for argv, saying in (
        (("evaluate-speech", tmp_path / "backbone", films), "damaged"),
        (("train-speech", "-o", tmp_path / "new", "--clips", tmp_path / "none"), "neither a data set nor"),
    ):
        code, out, err = run(*argv)
        sentence = err.strip().splitlines()[-1]
        assert code == 2 and sentence.startswith("error: ") and saying in sentence and "Traceback" not in err, err


def run(*argv) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "dgtalker", *map(str, argv)], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    return done.returncode, done.stdout, done.stderr
