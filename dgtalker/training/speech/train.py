"""Training of the speech backbone: what do anybody's lips do while this is said?

1. films: lips as measured, and phones where the words are known;
2. a viseme model is fitted on them;
3. speech without a picture, and made-up voices, borrow lips from a film with the same words, or from the visemes;
4. everything is listened to several times, each time by another throat in another room;
5. regression, films and the rest in every step; what was borrowed counts less.
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
from dgtalker.audio.phones import find_transcripts, require_pocketsphinx
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
    """Training of the backbone."""

    feature_kind: str = "whisper-tiny.en"
    hidden: int = 96  # channels of the backbone
    reach: int = 6  # frames of context to each side
    dropout: float = 0.2
    changes: int = 4  # times that a film is listened to after a change of the sound, beside twice as it is
    speech_changes: int = 1  # the same for speech without a picture, which is not heard as it is
    viseme_steps: int = 200
    steps: int = 900
    minutes: float = 60.0
    batch: int = 12  # runs of frames a step
    run: int = 48  # frames of a run; what is shorter is left out
    borrowed_share: float = 0.25  # of a batch: speech whose lips are borrowed
    borrowed_weight: float = 0.5  # of its errors
    rate: float = 2e-3
    weight_decay: float = 1e-5
    noise: float = 0.15  # of features, in their standard deviations: white, and constant over a run
    headline_weight: float = 3.0  # of aperture, width and pucker over the other scores
    seed: int = 0


def train_speech(
    films: Sequence[str | Path],
    speech: Sequence[str | Path] = (),
    made_up: str | Path | None = None,
    config: SpeechConfig | None = None,
    work: str | Path | None = None,
    face_landmarker: str | Path | None = None,
    stage: Stage | None = None,
) -> tuple[SpeechBackbone, dict]:
    """A backbone trained on films and speech, and what it was trained on.

    films: data sets or folders of films, see material.read_films. speech: folders, see material.read_speech. made_up:
    folder for flite's voices, made if they are not there; None: without. work: folder in
    which phones, and what was heard, are kept between runs.

    Raises UserError if there is nothing to learn from, or something needed for it is missing.
    """
    config, stage = config or SpeechConfig(), stage or Stage("train-speech")
    if config.feature_kind not in FEATURE_DIMS:
        raise UserError(f"Unknown audio feature kind {config.feature_kind!r}; choose from {', '.join(FEATURE_DIMS)}.")
    cache = Path(work) / "phones" if work else None
    talks = bool(speech or made_up)
    if talks:
        require_pocketsphinx()
    if made_up is not None:
        require_flite()
    stage.report(0.0, "films")
    filmed = [film for source in films for film in read_films(source, face_landmarker, cache, aligned=talks)]
    filmed, mean, std = standardise_lips(filmed)
    others = read_unfilmed_speech(filmed, speech, made_up, config, cache, stage.part(0.02, 0.15)) if talks else []
    examples = make_examples(filmed, others, config, stage.part(0.15, 0.5), Path(work) / "heard" if work else None)
    backbone = fit_backbone(examples, config, stage.part(0.5, 1.0))
    return backbone, {
        "films": len(filmed),
        "film_seconds": round(sum(len(film.samples) for film in filmed) / 16000, 1),
        "recordings": len(others),
        "recording_seconds": round(sum(len(talk.samples) for talk in others) / 16000, 1),
        "voices": sorted({talk.voice for talk in others}),
        "examples": len(examples),
        "mean": dict(zip(CHANNELS, (round(float(v), 5) for v in mean), strict=True)),
        "std": dict(zip(CHANNELS, (round(float(v), 5) for v in std), strict=True)),
        "config": asdict(config),
    }


def standardise_lips(films: Sequence[Utterance]) -> tuple[list[Utterance], Tensor, Tensor]:
    """The films with lips in standard deviations of them all, and the mean and deviation [C] taken out."""
    lips = torch.cat([film.lips for film in films])
    mean, std = lips.mean(dim=0), lips.std(dim=0).clamp_min(1e-6)
    return [replace(film, lips=(film.lips - mean) / std) for film in films], mean, std


# -- speech without a picture -----------------------------------------------------------------------------------------


def read_unfilmed_speech(
    films: Sequence[Utterance],
    speech: Sequence[str | Path],
    made_up: str | Path | None,
    config: SpeechConfig,
    cache: Path | None,
    stage: Stage,
) -> list[Utterance]:
    """Recordings of `speech`, and of made-up voices, with lips that the films lend them."""
    known = [(film.phones, film.lips) for film in films if film.phones]
    if not known:
        raise UserError("Speech needs films whose words are known (named as GRID's are) to borrow lips from.")
    stage.report(0.0, "visemes")
    visemes = fit_visemes(known, config.viseme_steps, config.seed)
    folders = list(speech)
    if made_up is not None:
        folders.append(made_up)
        sentences = _sentences(films, speech)
        speak_sentences(
            made_up, sentences, progress=lambda done, total: stage.report(0.2 + 0.3 * done / total, "made-up voices")
        )
    talks = read_speech(folders, cache, lambda done, total, message: stage.report(0.5, message))
    lending = films_by_words(films)
    with_lips = [replace(talk, lips=transfer_lips(talk, lending, visemes)) for talk in talks]
    return [talk for talk in with_lips if talk.lips is not None]


def _sentences(films: Sequence[Utterance], speech: Sequence[str | Path]) -> list[tuple[str, str]]:
    """(name, words) of the films and the transcripts."""
    sentences = {film.name: _spell_letters(film.text) for film in films if film.text}
    for given in map(Path, speech):
        for folder in (given, *sorted(path for path in given.iterdir() if path.is_dir())) if given.is_dir() else ():
            sentences |= find_transcripts(folder)
    return sorted(sentences.items())


def _spell_letters(text: str) -> str:
    """GRID's letters as flite reads them: "f." would end a sentence, a bare "a" would be the article."""
    return re.sub(r"\b([b-z])\.", r"\1", text)


# -- listening --------------------------------------------------------------------------------------------------------


def make_examples(
    films: Sequence[Utterance],
    others: Sequence[Utterance],
    config: SpeechConfig,
    stage: Stage,
    cache: Path | None = None,
) -> list[Example]:
    """Every film twice as it is and `changes` times changed, everything else `speech_changes` times changed."""
    random = np.random.default_rng(config.seed)
    tasks = [(film, True, None) for film in films for _ in range(2)]  # heard as `talk` hears: what counts in the end
    tasks += [(film, True, draw_augmentation(random)) for _ in range(config.changes) for film in films]
    tasks += [(talk, False, draw_augmentation(random)) for _ in range(config.speech_changes) for talk in others]
    examples = []
    for done, (utterance, filmed, change) in enumerate(tasks):
        stage.report(done / len(tasks), "listening")
        lips = utterance.lips
        assert lips is not None
        heard = make_example(
            utterance.samples, lips, utterance.voice, filmed, config.feature_kind, change, change is not None, cache
        )
        examples.append(heard)
    return examples


# -- regression -------------------------------------------------------------------------------------------------------


def fit_backbone(examples: Sequence[Example], config: SpeechConfig, stage: Stage) -> SpeechBackbone:
    """Regress lips from features, on runs of frames; returns the backbone in eval mode."""
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
        heard, lips, trust = runs.draw()
        error = backbone(heard)[1] - lips  # [B, F, C]
        square = error.square().mean(dim=1) + VELOCITY * error.diff(dim=1).square().mean(dim=1)
        return {"loss": (trust * (square @ weight)).mean()}

    backbone.train()
    group = {"params": [*backbone.parameters()], "lr": config.rate, "weight_decay": config.weight_decay}
    stage.optimise([group], step, config.minutes, config.steps)
    return backbone.eval()


class ExampleRunSampler:
    """Batches of runs of frames, films and borrowed lips mixed; features with noise, as in identity training."""

    def __init__(self, examples: Sequence[Example], std: Tensor, config: SpeechConfig):
        self.config, self.std = config, std
        self.random = np.random.default_rng(config.seed + 1)
        long = [example for example in examples if len(example) >= config.run]
        self.pools = [[e for e in long if e.filmed], [e for e in long if not e.filmed]]
        if not self.pools[0]:
            raise UserError(f"None of the films is as long as {config.run} frames: too short to learn from.")

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """features [B, 2F, D], lips [B, F, C], and how much each run counts [B]."""
        lent = round(self.config.batch * self.config.borrowed_share) if self.pools[1] else 0
        features, lips, trust = [], [], []
        for pool, count, weight in zip(
            self.pools, (self.config.batch - lent, lent), (1.0, self.config.borrowed_weight), strict=True
        ):
            for _ in range(count):
                example = pool[int(self.random.integers(len(pool)))]
                first = int(self.random.integers(0, len(example) - self.config.run + 1))
                features.append(example.features[2 * first : 2 * (first + self.config.run)].float())
                lips.append(example.lips[first : first + self.config.run])
                trust.append(weight)
        return self.augment(torch.stack(features)), torch.stack(lips), torch.tensor(trust)

    def augment(self, features: Tensor) -> Tensor:
        batch, steps, channels = features.shape
        noise = self.config.noise
        gain = 1 + 0.5 * noise * torch.randn(batch, 1, channels)
        offset = torch.randn(batch, 1, channels) + torch.randn(batch, steps, channels)
        return features * gain + self.std * noise * offset


# -- the checkpoint ---------------------------------------------------------------------------------------------------


def save_backbone(backbone: SpeechBackbone, folder: str | Path, trained_on: dict, figures: dict, card: str) -> Path:
    """The checkpoint folder, with figures on held-out films as report.json. UserError if it cannot be written."""
    import json

    folder = backbone.save_pretrained(folder, {"training": trained_on}, card)
    write_atomic(folder / "report.json", (json.dumps(figures, indent=2) + "\n").encode())
    return folder
