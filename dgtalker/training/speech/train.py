"""Training of the speech backbone, which predicts lip curves of any speaker from audio features.

1. Filmed speech: lips are measured, and phones aligned where the words are known.
2. A viseme model is fitted to it.
3. Recordings without a picture, and synthetic voices, get lips from a film with the same words or from the visemes.
4. Features are extracted from several augmentations of each recording: other voices, rooms and microphones.
5. Regression on batches of both kinds; transferred lips have a lower weight.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.audio.features import FEATURE_DIMS
from dgtalker.audio.phone_alignment import find_transcripts, require_pocketsphinx
from dgtalker.errors import UserError
from dgtalker.files import write_atomic
from dgtalker.navigation.speech_backbone import BackboneConfig, SpeechBackbone
from dgtalker.speech.augment import draw_augmentation
from dgtalker.speech.corpus import Utterance, films_by_words, read_films, read_speech, transfer_lips
from dgtalker.speech.examples import Example, make_example
from dgtalker.speech.lips import CHANNELS, HEADLINES
from dgtalker.speech.tts import require_flite, speak_sentences
from dgtalker.speech.visemes import fit_visemes
from dgtalker.training.stage import Stage

VELOCITY = 0.2  # weight of the curves' changes from frame to frame beside the curves


@dataclass(frozen=True)
class SpeechConfig:
    """Training of the speech backbone."""

    feature_kind: str = "whisper-tiny.en"
    hidden: int = 96  # channels of the backbone
    reach: int = 6  # frames of context to each side
    dropout: float = 0.2
    augmentations: int = 4  # examples of each film with augmented sound, beside two with the original one
    unfilmed_augmentations: int = 1  # the same for recordings without a picture, which are always augmented
    viseme_steps: int = 200
    steps: int = 900
    minutes: float = 60.0
    batch: int = 12  # runs of frames per step
    run: int = 48  # frames of a run; shorter recordings are left out
    unfilmed_share: float = 0.25  # of a batch: recordings with transferred lips
    unfilmed_weight: float = 0.5  # of their errors
    rate: float = 2e-3
    weight_decay: float = 1e-5
    noise: float = 0.15  # of features, in their standard deviations: white, and constant over a run
    headline_weight: float = 3.0  # of aperture, width and pucker relative to the other curves
    seed: int = 0


def train_speech(
    films: Sequence[str | Path],
    speech: Sequence[str | Path] = (),
    synthetic_voices: str | Path | None = None,
    config: SpeechConfig | None = None,
    work: str | Path | None = None,
    face_landmarker: str | Path | None = None,
    stage: Stage | None = None,
) -> tuple[SpeechBackbone, dict]:
    """Train a speech backbone; returns it and a summary of the training for its config.json.

    Args:
        films: data sets or folders of videos, see corpus.read_films.
        speech: folders of recordings without a picture, see corpus.read_speech.
        synthetic_voices: folder of flite's voices, which are generated if missing; None: none.
        config: settings.
        work: folder in which phones and features are kept between runs.
        face_landmarker: MediaPipe model; found automatically if None.
        stage: where to report and when to stop.

    Raises:
        UserError: there is nothing to learn from, or a program or package is missing.
    """
    config, stage = config or SpeechConfig(), stage or Stage("train-speech")
    if config.feature_kind not in FEATURE_DIMS:
        raise UserError(f"Unknown audio feature kind {config.feature_kind!r}; choose from {', '.join(FEATURE_DIMS)}.")
    cache = Path(work) / "phones" if work else None
    has_unfilmed = bool(speech or synthetic_voices)
    if has_unfilmed:
        require_pocketsphinx()
    if synthetic_voices is not None:
        require_flite()
    stage.report(0.0, "films")
    filmed = [film for source in films for film in read_films(source, face_landmarker, cache, aligned=has_unfilmed)]
    filmed, mean, std = standardise_lips(filmed)
    unfilmed: list[Utterance] = []
    if has_unfilmed:
        unfilmed = read_unfilmed_speech(filmed, speech, synthetic_voices, config, cache, stage.substage(0.02, 0.15))
    examples = make_examples(
        filmed, unfilmed, config, stage.substage(0.15, 0.5), Path(work) / "features" if work else None
    )
    backbone = fit_backbone(examples, config, stage.substage(0.5, 1.0))
    return backbone, {
        "films": len(filmed),
        "film_seconds": round(sum(len(film.samples) for film in filmed) / 16000, 1),
        "recordings": len(unfilmed),
        "recording_seconds": round(sum(len(recording.samples) for recording in unfilmed) / 16000, 1),
        "voices": sorted({recording.voice for recording in unfilmed}),
        "examples": len(examples),
        "mean": dict(zip(CHANNELS, (round(float(v), 5) for v in mean), strict=True)),
        "std": dict(zip(CHANNELS, (round(float(v), 5) for v in std), strict=True)),
        "config": asdict(config),
    }


def standardise_lips(films: Sequence[Utterance]) -> tuple[list[Utterance], Tensor, Tensor]:
    """The films with lips in standard deviations over all of them; mean [C] and standard deviation [C]."""
    curves = [film.lips for film in films if film.lips is not None]
    lips = torch.cat(curves)
    mean, std = lips.mean(dim=0), lips.std(dim=0).clamp_min(1e-6)
    return [replace(film, lips=(curve - mean) / std) for film, curve in zip(films, curves, strict=True)], mean, std


# -- recordings without a picture -------------------------------------------------------------------------------------


def read_unfilmed_speech(
    films: Sequence[Utterance],
    speech: Sequence[str | Path],
    synthetic_voices: str | Path | None,
    config: SpeechConfig,
    cache: Path | None,
    stage: Stage,
) -> list[Utterance]:
    """Read `speech` and synthetic voices, with lips transferred from the films."""
    known = [(film.phones, film.lips) for film in films if film.phones and film.lips is not None]
    if not known:
        raise UserError("Speech needs films whose words are known (named as GRID's are) to transfer lips from.")
    stage.report(0.0, "visemes")
    visemes = fit_visemes(known, config.viseme_steps, config.seed)
    folders = list(speech)
    if synthetic_voices is not None:
        folders.append(synthetic_voices)
        sentences = _sentences(films, speech)
        speak_sentences(
            synthetic_voices,
            sentences,
            progress=lambda done, total: stage.report(0.2 + 0.3 * done / total, "synthetic voices"),
        )
    recordings = read_speech(folders, cache, lambda done, total, message: stage.report(0.5, message))
    by_words = films_by_words(films)
    with_lips = [replace(recording, lips=transfer_lips(recording, by_words, visemes)) for recording in recordings]
    return [recording for recording in with_lips if recording.lips is not None]


def _sentences(films: Sequence[Utterance], speech: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Collect (name, words) of the films and the transcripts."""
    sentences = {film.name: _spell_letters(film.text) for film in films if film.text}
    for given in map(Path, speech):
        for folder in (given, *sorted(path for path in given.iterdir() if path.is_dir())) if given.is_dir() else ():
            sentences |= find_transcripts(folder)
    return sorted(sentences.items())


def _spell_letters(text: str) -> str:
    """Write GRID's letters so that flite spells them: "f." would end a sentence, a bare "a" would be the article."""
    return re.sub(r"\b([b-z])\.", r"\1", text)


# -- features ---------------------------------------------------------------------------------------------------------


def make_examples(
    films: Sequence[Utterance],
    unfilmed: Sequence[Utterance],
    config: SpeechConfig,
    stage: Stage,
    cache: Path | None = None,
) -> list[Example]:
    """Two original and config.augmentations augmented examples per film, augmented ones only of other recordings."""
    random = np.random.default_rng(config.seed)
    tasks = [(film, True, None) for film in films for _ in range(2)]  # as at inference
    tasks += [(film, True, draw_augmentation(random)) for _ in range(config.augmentations) for film in films]
    tasks += [
        (item, False, draw_augmentation(random)) for _ in range(config.unfilmed_augmentations) for item in unfilmed
    ]
    examples = []
    for done, (utterance, filmed, augmentation) in enumerate(tasks):
        stage.report(done / len(tasks), "features")
        lips = utterance.lips
        assert lips is not None
        quick = augmentation is not None
        examples.append(
            make_example(
                utterance.samples, lips, utterance.voice, filmed, config.feature_kind, augmentation, quick, cache
            )
        )
    return examples


# -- regression -------------------------------------------------------------------------------------------------------


def fit_backbone(examples: Sequence[Example], config: SpeechConfig, stage: Stage) -> SpeechBackbone:
    """Regress lip curves from features, on runs of frames; returns the backbone in eval mode."""
    torch.manual_seed(config.seed)
    backbone = SpeechBackbone(
        BackboneConfig(
            config.feature_kind, examples[0].features.shape[1], CHANNELS, config.hidden, config.reach, config.dropout
        )
    )
    features = torch.cat([example.features.float() for example in examples[:: max(1, len(examples) // 300)]])
    backbone.feature_mean.copy_(features.mean(dim=0))
    backbone.feature_std.copy_(features.std(dim=0).clamp_min(1e-3))
    weight = torch.tensor([config.headline_weight if name in HEADLINES else 1.0 for name in CHANNELS])
    weight = weight / weight.sum()
    runs = ExampleRunSampler(examples, backbone.feature_std.clone(), config)

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        features, lips, weights = runs.draw()
        error = backbone(features)[1] - lips  # [B, F, C]
        square = error.square().mean(dim=1) + VELOCITY * error.diff(dim=1).square().mean(dim=1)
        return {"loss": (weights * (square @ weight)).mean()}

    backbone.train()
    group = {"params": [*backbone.parameters()], "lr": config.rate, "weight_decay": config.weight_decay}
    stage.optimise([group], step, config.minutes, config.steps)
    return backbone.eval()


class ExampleRunSampler:
    """Batches of runs of frames, with measured and with transferred lips; features are augmented as in navigation."""

    def __init__(self, examples: Sequence[Example], std: Tensor, config: SpeechConfig):
        self.config, self.std = config, std
        self.random = np.random.default_rng(config.seed + 1)
        long = [example for example in examples if len(example) >= config.run]
        self.pools = [[e for e in long if e.filmed], [e for e in long if not e.filmed]]
        if not self.pools[0]:
            raise UserError(f"None of the films is as long as {config.run} frames: too short to learn from.")

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, 2F, D], lips [B, F, C], and the weight of each run [B]."""
        unfilmed = round(self.config.batch * self.config.unfilmed_share) if self.pools[1] else 0
        features, lips, weights = [], [], []
        for pool, count, weight in zip(
            self.pools, (self.config.batch - unfilmed, unfilmed), (1.0, self.config.unfilmed_weight), strict=True
        ):
            for _ in range(count):
                example = pool[int(self.random.integers(len(pool)))]
                first = int(self.random.integers(0, len(example) - self.config.run + 1))
                features.append(example.features[2 * first : 2 * (first + self.config.run)].float())
                lips.append(example.lips[first : first + self.config.run])
                weights.append(weight)
        return self.augment(torch.stack(features)), torch.stack(lips), torch.tensor(weights)

    def augment(self, features: Tensor) -> Tensor:
        """Add noise: gain and offset per channel and run, and white noise."""
        batch, steps, channels = features.shape
        noise = self.config.noise
        gain = 1 + 0.5 * noise * torch.randn(batch, 1, channels)
        offset = torch.randn(batch, 1, channels) + torch.randn(batch, steps, channels)
        return features * gain + self.std * noise * offset


# -- the checkpoint ---------------------------------------------------------------------------------------------------


def save_backbone(backbone: SpeechBackbone, folder: str | Path, trained_on: dict, figures: dict, card: str) -> Path:
    """Write the checkpoint folder, with figures on held-out films in report.json; returns it.

    Raises UserError if it cannot be written.
    """
    import json

    folder = backbone.save_pretrained(folder, {"training": trained_on}, card)
    write_atomic(folder / "report.json", (json.dumps(figures, indent=2) + "\n").encode())
    return folder
