"""Articulation of a speech backbone against the true lips of filmed people.

Correlations are taken within each clip and then averaged: how large a mouth is, and how far it opens in general, is up
to the identity, not to the backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from dgtalker import metrics
from dgtalker.navigation.speech_backbone import SpeechBackbone
from dgtalker.speech.corpus import read_films
from dgtalker.speech.examples import Example, make_example
from dgtalker.speech.lips import HEADLINES

Progress = Callable[[int, int, str], None]


def evaluate_speech(
    backbone: SpeechBackbone,
    films: Sequence[str | Path],
    face_landmarker: str | Path | None = None,
    progress: Progress | None = None,
) -> dict:
    """{source: metrics} for data sets or folders of films that the backbone was not trained on.

    Sources go by their names, or by their paths where two have the same name. Raises UserError as read_films and
    extract_features do.
    """
    names = [Path(source).name for source in films]
    keys = [name if names.count(name) == 1 else str(source) for name, source in zip(names, films, strict=True)]
    return {
        key: backbone_metrics(backbone, load_held_out(backbone, source, face_landmarker, progress))
        for key, source in zip(keys, films, strict=True)
    }


def load_held_out(
    backbone: SpeechBackbone,
    source: str | Path,
    face_landmarker: str | Path | None = None,
    progress: Progress | None = None,
) -> list[Example]:
    """Load films as examples with features as `talk` extracts them. Raises UserError as evaluate_speech does."""
    films = read_films(source, face_landmarker, aligned=False)
    examples = []
    for done, film in enumerate(films):
        if progress:
            progress(done, len(films), f"features of {film.name}")
        assert film.lips is not None  # films have a picture
        examples.append(
            make_example(film.samples, film.lips, film.voice, True, backbone.config.feature_kind, quick=False)
        )
    return examples


def backbone_metrics(backbone: SpeechBackbone, examples: Sequence[Example]) -> dict:
    """{"clips", "frames", "aperture_r", "width_r", "mouthPucker_r", "lag_frames", "clips_r"}: clips_r is per clip."""
    rows: list[Mapping[str, float]] = []
    real, made = [], []
    for example in examples:
        curves = predict_articulation(backbone, example.features.float().numpy())
        lips = example.lips.numpy()
        columns = [backbone.config.channels.index(name) for name in HEADLINES]
        rows.append(
            {name: metrics.pearson(lips[:, k], curves[:, k]) for name, k in zip(HEADLINES, columns, strict=True)}
        )
        real.append(lips[:, columns[0]])
        made.append(curves[:, columns[0]])
    return {
        "clips": len(examples),
        "frames": sum(map(len, examples)),
        **{f"{name}_r": metrics.finite_mean([row[name] for row in rows]) for name in HEADLINES},
        "lag_frames": metrics.best_lag(real, made),
        "clips_r": [round(row[HEADLINES[0]], 3) for row in rows],
    }


@torch.inference_mode()
def predict_articulation(backbone: SpeechBackbone, features: np.ndarray) -> np.ndarray:
    """Articulation [N, C] to features [2N, D], in standard deviations of the films that the backbone was trained on."""
    training = backbone.training
    articulation = backbone.eval()(torch.as_tensor(features, dtype=torch.float32)[None])[1][0].numpy()
    backbone.train(training)
    return articulation
