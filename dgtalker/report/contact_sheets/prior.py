"""Contact sheets of a prior: random heads in five views, and what single directions of w do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.head.generator import Generator
from dgtalker.render import render

VIEWS = ((-80.0, 0.0), (-40.0, 0.0), (0.0, 0.0), (40.0, 10.0), (180.0, 0.0))
# Shown on the sheet of directions: ARKit units, several together where one alone is rare.
EXPRESSIONS = {
    "rest": (),
    "jaw open": ("jawOpen",),
    "lips closed": ("mouthPressLeft", "mouthPressRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "pucker": ("mouthPucker",),
    "funnel": ("mouthFunnel", "jawOpen"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "brows up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "brows down": ("browDownLeft", "browDownRight"),
    "look left": ("eyeLookOutLeft", "eyeLookInRight"),
}


@torch.no_grad()
def random_heads(
    generator: Generator, count: int = 24, size: int = 128, seed: int = 0, psi: float = 0.8
) -> list[list[np.ndarray]]:
    """Rows of `count` random people, each in the five VIEWS."""
    return [_pictures(generator, row, VIEWS, size) for row in generator.sample(count, seed, psi)]


@torch.no_grad()
def single_changes(generator: Generator, size: int = 192, seed: int = 3) -> list[list[np.ndarray]]:
    """Rows of: expressions on the mean head; the first coordinates of shape, appearance and hair at -2, 0, +2."""
    names = list(generator.template.expression_names)
    faces = []
    for units in EXPRESSIONS.values():
        scores = torch.zeros(len(names))
        scores[[names.index(u) for u in units if u in names]] = 1.0
        faces.append(_pictures(generator, generator.w_from_geometry(expression=scores), [(0.0, 0.0)], size)[0])
    half = len(faces) // 2
    rows = [faces[:half], faces[half:]]
    for name in ("shape", "appearance", "hair"):
        row = []
        for k in range(2):
            for value in (-2.0, 2.0):
                w = generator.w_mean.clone()
                w[generator.slices[name].start + k] += value
                row.append(_pictures(generator, w, [(20.0, 0.0)], size)[0])
        rows.append([_pictures(generator, generator.w_mean, [(20.0, 0.0)], size)[0], *row])
    return rows


def _pictures(generator: Generator, w: torch.Tensor, views: Sequence[tuple[float, float]], size: int):
    gaussians = generator(w[None])[0]
    cameras = Camera.stack([orbit_camera(yaw, pitch, size) for yaw, pitch in views])
    return list(render(gaussians, cameras)[0].clamp(0, 1).cpu().numpy())


def save_rows(path: str | Path, rows: Sequence[Sequence[np.ndarray]]) -> None:
    """Write rows of equally sized [H,W,3] images in 0..1 as one picture; short rows are filled with white."""
    from PIL import Image

    width = max(len(row) for row in rows)
    blank = np.ones_like(rows[0][0])
    sheet = np.concatenate([np.concatenate([*row, *[blank] * (width - len(row))], 1) for row in rows])
    Image.fromarray((sheet.clip(0, 1) * 255).round().astype(np.uint8)).save(path, quality=90)


@torch.no_grad()
def write_sheets(generator: Generator, folder: str | Path) -> None:
    """heads.jpg (random heads in five views, two heads a row), directions.jpg and preview.png (one head)."""
    folder = Path(folder)
    heads = random_heads(generator)
    save_rows(folder / "heads.jpg", [a + b for a, b in zip(heads[::2], heads[1::2], strict=True)])
    save_rows(folder / "directions.jpg", single_changes(generator))
    portrait = _pictures(generator, generator.sample(1)[0], [(0.0, 0.0)], 192)
    save_rows(folder / "preview.png", [portrait])
