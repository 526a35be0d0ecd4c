"""Talking videos of synthetic people: expressions and head motion read off real clips, their sound kept.

The true cameras and expressions are written beside each video, so that tracking and 3D can be measured; on request
also pictures from several sides (video/true_views.py reads them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.media.video_writer import VideoWriter
from dgtalker.people.capture import PersonRenderer
from dgtalker.people.person import Person
from dgtalker.video.landmarks import SCORE_NAMES, Landmarker
from dgtalker.video.true_views import YAWS, TrueViews, views_path

VIEW_SIZE = 256  # of the pictures from the side
BLUE = (0.16, 0.28, 0.62)  # the plain background of the GRID corpus
# Scores that rest away from zero on many faces (they read the shape of the face): their rest is taken off.
RESTING = ("browDown", "eyeSquint", "mouthPucker", "mouthFrown", "mouthRoll", "mouthShrug", "mouthPress", "cheek")


@dataclass(frozen=True)
class RecordedPerformance:
    """What a face did in a clip, at 25 frames a second."""

    expressions: np.ndarray  # [N, 52] ARKit values in the order asked for
    poses: np.ndarray  # [N, 4, 4] of the head relative to its mean place, world units (decimetres)
    source: Path


def read_performance(
    clip: str | Path, expression_names: tuple[str, ...], landmarker: Landmarker, smoothing: float = 0.6
) -> RecordedPerformance:
    """ARKit scores and head motion of the largest face in a clip, smoothed over time (sigma in frames).

    Frames without a face repeat the last one. Raises UserError if there is no face at all.
    """
    scores, transforms = [], []
    for frame in read_video(clip):
        faces = landmarker.detect(frame)
        if faces:
            scores.append(faces[0].scores)
            transforms.append(faces[0].transform)
        elif scores:
            scores.append(scores[-1])
            transforms.append(transforms[-1])
    if not scores:
        raise UserError(f"No face was found in {Path(clip).name}; use a clip that shows one face from the front.")
    scores = np.stack(scores).astype(np.float64)
    rest = np.percentile(scores, 15, axis=0)
    for i, name in enumerate(SCORE_NAMES):
        if name.startswith(RESTING):
            scores[:, i] = np.clip(scores[:, i] - rest[i], 0, 1)
    blinks = [i for i, name in enumerate(SCORE_NAMES) if name.startswith("eyeBlink")]
    # Open eyes score about 0.1 to 0.2 and shut ones about 0.6 to 0.8.
    scores[:, blinks] = np.clip((scores[:, blinks] - rest[blinks] - 0.05) / np.maximum(0.6 - rest[blinks], 0.25), 0, 1)
    scores = np.clip(gaussian_filter1d(scores, smoothing, axis=0, mode="nearest"), 0, 1)
    column: dict[str, int] = {name: i for i, name in enumerate(SCORE_NAMES)}
    expressions = np.stack([scores[:, column[name]] for name in expression_names], 1)

    transforms = np.stack(transforms).astype(np.float64)
    rotations = Rotation.from_matrix(transforms[:, :3, :3])
    vectors = gaussian_filter1d(rotations.as_rotvec(), 2.0, axis=0, mode="nearest")
    shifts = gaussian_filter1d(transforms[:, :3, 3], 2.0, axis=0, mode="nearest") / 10  # centimetres
    poses = np.tile(np.eye(4), (len(vectors), 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(vectors).as_matrix()
    poses[:, :3, 3] = np.clip(shifts - shifts.mean(0), -0.4, 0.4)
    return RecordedPerformance(expressions, poses, Path(clip))


def performance_cameras(performance: RecordedPerformance, size: int, zoom: float = 0.85) -> Camera:
    """A fixed camera before a moving head, as cameras [N] around a fixed head (pose is always the camera)."""
    front = orbit_camera(0, 0, size, zoom)
    moved = front.world_to_camera.double() @ torch.from_numpy(performance.poses)
    return Camera(moved.float(), front.intrinsics.expand(len(moved), 3, 3), size, size)


def synthesize_performance(
    person: Person,
    performance: RecordedPerformance,
    output: str | Path,
    size: int = 480,
    background: tuple[float, float, float] = BLUE,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a performance by a synthetic person as an mp4 with the clip's sound.

    Writes OUTPUT and OUTPUT.truth.safetensors: expression [N, 52], world_to_camera [N, 4, 4], intrinsics [N, 3, 3],
    shape [Ks]. Returns the video's path.
    """
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    cameras = performance_cameras(performance, size)
    renderer = PersonRenderer(person)
    sound = performance.source if probe(performance.source).audio else None
    seconds = len(performance.expressions) / FPS + 1
    with VideoWriter(output, size, size, FPS, audio=sound, audio_seconds=seconds) as writer:
        for i, expression in enumerate(performance.expressions):
            writer.write(renderer.render(expression, cameras[i], background))
            if progress is not None:
                progress(i + 1, len(performance.expressions))
    truth = {
        "expression": torch.from_numpy(performance.expressions).float(),
        "world_to_camera": cameras.world_to_camera.contiguous(),
        "intrinsics": cameras.intrinsics.contiguous(),
        "shape": torch.from_numpy(person.shape_coefficients),
    }
    save_file(truth, output.with_suffix(".truth.safetensors"))
    return output


def capture_views(person: Person, film: Path, moments: int, size: int = VIEW_SIZE) -> Path:
    """Picture `moments` frames of a film that has its truth beside it, from all YAWS; writes NAME.views.safetensors.

    Raises UserError if the film's truth is of another person: the sampler may have changed since it was made.
    """
    truth = load_file(film.with_suffix(".truth.safetensors"))
    if not np.allclose(truth["shape"].numpy(), person.shape_coefficients, atol=1e-4):
        raise UserError(
            f"The person in {film.name} is not the one that this seed gives now: make the film again, without --resume."
        )
    expressions = truth["expression"].numpy()
    frames = choose_distinct_frames(expressions, moments)
    cameras = Camera.stack([orbit_camera(yaw, 0.0, size) for yaw in YAWS])
    renderer, pictures = PersonRenderer(person), []
    for frame in frames:
        renderer.pose(expressions[frame])
        pictures.append([renderer.view(cameras[v]) for v in range(len(YAWS))])
    return TrueViews(np.array(pictures, np.uint8), frames, np.array(YAWS), cameras).save(views_path(film))


def choose_distinct_frames(expressions: np.ndarray, count: int) -> np.ndarray:
    """Frames [<= count] that differ most from one another, ascending: expressions [N, 52]; farthest-point sampling."""
    chosen = [int(np.linalg.norm(expressions - expressions.mean(0), axis=1).argmin())]
    distance = np.full(len(expressions), np.inf)
    while len(chosen) < min(count, len(expressions)):
        distance = np.minimum(distance, np.linalg.norm(expressions - expressions[chosen[-1]], axis=1))
        if distance.max() <= 0:
            break
        chosen.append(int(distance.argmax()))
    return np.array(sorted(chosen), np.int64)
