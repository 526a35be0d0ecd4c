"""Contact sheets of a prior: random heads, single directions of w, and the pictures of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.head.generator import Generator
from dgtalker.render import render
from dgtalker.report.contact_sheets.grid import save_rows
from dgtalker.report.figures import evenly_spaced

VIEWS = ((-80.0, 0.0), (-40.0, 0.0), (0.0, 0.0), (40.0, 10.0), (180.0, 0.0))
# Expressions on the sheet of directions: ARKit units, several together where one alone is rare.
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
    """Rows of `count` random people, each in the five VIEWS; float pictures in 0..1."""
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


def _pictures(generator: Generator, w: Tensor, views: Sequence[tuple[float, float]], size: int) -> list[np.ndarray]:
    gaussians = generator(w[None])[0]
    cameras = Camera.stack([orbit_camera(yaw, pitch, size) for yaw, pitch in views])
    return list(render(gaussians, cameras)[0].clamp(0, 1).cpu().numpy())


@torch.no_grad()
def write_sheets(generator: Generator, folder: str | Path) -> None:
    """Write heads.jpg (random heads in five views, two a row), directions.jpg and preview.png (one head)."""
    folder = Path(folder)
    heads = random_heads(generator)
    save_rows(folder / "heads.jpg", [a + b for a, b in zip(heads[::2], heads[1::2], strict=True)])
    save_rows(folder / "directions.jpg", single_changes(generator))
    portrait = _pictures(generator, generator.sample(1)[0], [(0.0, 0.0)], 192)
    save_rows(folder / "preview.png", [portrait])


def pick_best_to_worst(psnr: Sequence[float], count: int = 5) -> list[int]:
    """Indices of the best, the worst and an even spread in between, best first."""
    order = np.argsort(psnr)[::-1]
    return [int(order[i]) for i in dict.fromkeys(evenly_spaced(len(order), count))]


def write_report_sheet(path: Path, sheets: Sequence[Tensor]) -> None:
    """Write one row per person: true, inverted and tuned views. sheets: uint8 [3,n,S,S,3] of each person."""
    rows = []
    for sheet in sheets:
        true, inverted, tuned = (list(views.numpy()) for views in sheet)
        gap = np.full_like(true[0][:, :8], 255)
        rows.append([np.concatenate([*true, gap, *inverted, gap, *tuned], 1)])
    save_rows(path, rows)


def write_close_up_sheet(path: Path, people: Sequence[Mapping[str, Tensor]]) -> None:
    """Write one row per person: truth, inverted and tuned, eyes above mouth.

    people: "eyes" and "mouth" of each, uint8 [3,h,w,3].
    """
    rows = []
    for crops in people:
        eyes, mouth = crops["eyes"].numpy(), crops["mouth"].numpy()
        side = (eyes.shape[2] - mouth.shape[2]) // 2
        padding = ((0, 0), (0, 0), (side, eyes.shape[2] - mouth.shape[2] - side), (0, 0))
        rows.append(list(np.concatenate([eyes, np.pad(mouth, padding, constant_values=255)], 1)))
    save_rows(path, rows)
