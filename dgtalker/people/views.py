"""Pictures of a filmed person from several sides, made while the person is at hand (video/true_views.py reads them)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.people.capture import PersonRenderer
from dgtalker.people.person import Person
from dgtalker.video.true_views import YAWS, TrueViews, views_path

SIZE = 256


def capture_views(person: Person, film: Path, moments: int, size: int = SIZE) -> Path:
    """Picture `moments` frames of a film that has its truth beside it, from all YAWS; writes NAME.views.safetensors.

    Raises UserError if the film's truth is of another person: the sampler may have changed since it was made.
    """
    truth = load_file(film.with_suffix(".truth.safetensors"))
    if not np.allclose(truth["shape"].numpy(), person.shape_coefficients, atol=1e-4):
        raise UserError(
            f"The person in {film.name} is not the one that this seed gives now: make the film again, without --resume."
        )
    expressions = truth["expression"].numpy()
    frames = choose_moments(expressions, moments)
    cameras = Camera.stack([orbit_camera(yaw, 0.0, size) for yaw in YAWS])
    renderer, pictures = PersonRenderer(person), []
    for frame in frames:
        renderer.pose(expressions[frame])
        pictures.append([renderer.view(cameras[v]) for v in range(len(YAWS))])
    return TrueViews(np.array(pictures, np.uint8), frames, np.array(YAWS), cameras).save(views_path(film))


def choose_moments(expressions: np.ndarray, count: int) -> np.ndarray:
    """Frames [<= count] that differ most from one another, ascending: expressions [N, 52]; farthest-point sampling."""
    chosen = [int(np.linalg.norm(expressions - expressions.mean(0), axis=1).argmin())]
    distance = np.full(len(expressions), np.inf)
    while len(chosen) < min(count, len(expressions)):
        distance = np.minimum(distance, np.linalg.norm(expressions - expressions[chosen[-1]], axis=1))
        if distance.max() <= 0:
            break
        chosen.append(int(distance.argmax()))
    return np.array(sorted(chosen), np.int64)
