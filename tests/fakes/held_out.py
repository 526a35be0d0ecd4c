"""A data set rendered from an identity's own answers, and readers of its landmarks: the truth is known."""

from __future__ import annotations

import numpy as np
import torch

from dgtalker import metrics
from dgtalker.camera import orbit_camera
from dgtalker.evaluation.attached_landmarks import landmark_halves
from dgtalker.evaluation.context import render_coefficients
from dgtalker.video.dataset import ClipInfo, Dataset, DatasetInfo, write_clip, write_info

SIZE, FRAMES, SHORTER = 64, 16, 10  # every clip has so many frames less than the one before


def fake_landmarks(pictures):
    """Stands for MediaPipe: lips open with the darkness of the lower half, lids with the brightness of the upper."""
    found = []
    for picture in pictures:
        rows = picture.astype(np.float64).mean((1, 2))
        points = np.random.default_rng(0).uniform(0.4, 0.6, (478, 2)) * SIZE
        points[33], points[133], points[263], points[362] = (10, 20), (26, 20), (54, 20), (38, 20)
        for u, v in metrics.INNER_PAIRS:
            gap = (255 - rows[SIZE // 2 :].mean()) / 10
            points[u], points[v] = (32, 48 - gap / 2), (32, 48 + gap / 2)
        for pairs, _ in metrics.EYES:
            for u, v in pairs:
                gap = rows[: SIZE // 2].mean() / 20
                points[u], points[v] = (32, 20 - gap), (32, 20 + gap)
        found.append(points)
    return np.array(found, np.float32)


def same_landmarks(pictures):
    """Finds one face everywhere: the landmarks of its upper and of its lower half in a row each."""
    found = []
    for picture in pictures:
        size = picture.shape[0]
        points = np.full((478, 2), 0.5 * size)
        for numbers, row in zip(landmark_halves(), (0.38, 0.66), strict=True):  # of the picture's height
            points[numbers] = np.stack([np.linspace(0.42, 0.58, len(numbers)), np.full(len(numbers), row)], -1) * size
        found.append(points)
    return np.array(found, np.float32)


def make_dataset(folder, identity, clips=2, late=0, kind="log-mel"):
    """Clips rendered from the identity's own answer to random features, the pictures `late` frames late."""
    camera = orbit_camera(size=SIZE)
    infos = []
    for number in range(clips):
        rng, frames = np.random.default_rng(number), FRAMES - SHORTER * number
        smooth = np.cumsum(rng.normal(size=(2 * frames, 80)), 0) * 0.3
        features, blink = smooth.astype(np.float16), np.linspace(0, 1, frames).astype(np.float32)
        coefficients = identity.encode(features.astype(np.float32), blink)
        pictures = np.stack([render_coefficients(identity, e, a, camera) for e, a in zip(*coefficients, strict=True)])
        upper = np.zeros((frames, SIZE, SIZE), np.uint8)
        lower = upper.copy()
        upper[:, : SIZE // 2 - 4], lower[:, SIZE // 2 + 4 :] = 255, 255
        tensors = {
            "images": np.roll(pictures, late, axis=0),
            "alpha": np.full((frames, SIZE, SIZE), 255, np.uint8),
            "mask_upper": upper,
            "mask_lower": lower,
            "world_to_camera": camera.world_to_camera.expand(frames, 4, 4).numpy(),
            "intrinsics": camera.intrinsics.expand(frames, 3, 3).numpy(),
            "landmarks": np.zeros((frames, 478, 2), np.float32),
            "expression": np.zeros((frames, 52), np.float32),
            "scores": np.zeros((frames, 52), np.float32),
            "blink": blink,
            "features": features,
        }
        name = f"clip{number}"
        write_clip(folder, name, {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()})
        infos.append(ClipInfo(name, frames, "made"))
    write_info(folder, DatasetInfo(kind, [0.0] * 4, infos, size=SIZE))
    return Dataset.open(folder)
