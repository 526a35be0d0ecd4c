"""Everything that is measured on one person: the unit of work, of resuming and of the worker processes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion, binary_fill_holes
from torch import Tensor
from torch.nn import functional as F

from dgtalker import metrics, resumable
from dgtalker.evaluation.prior.close_ups import compare_detail
from dgtalker.evaluation.prior.fitting import FittingConfig, SmoothChange, invert, tune
from dgtalker.evaluation.prior.geometry import geometry_error
from dgtalker.evaluation.prior.held_out import ALL_VIEWS, FIT_VIEWS, HeldOutPerson, cameras_of, held_out_person
from dgtalker.evaluation.prior.initialization import FirstGuess
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.people.cache import PeopleSource, to_uint8
from dgtalker.render import render

SHEET_VIEWS = ((-60.0, 0.0), (-30.0, 0.0), (0.0, 0.0), (30.0, 0.0), (60.0, 0.0), (90.0, 0.0))  # none of them fitted
SHEET_SIZE = 128
WHITE = 250  # a pixel with a darker channel shows the head
RIM = 4 / 256  # width of its outline, as a share of the picture's


@dataclass
class Bench:
    """What measuring any person needs."""

    generator: Generator
    source: PeopleSource
    guess: FirstGuess
    fitting: FittingConfig
    size: int  # of the pictures
    seed: int  # of the people
    folder: Path  # of the results

    def __post_init__(self):
        self.generator.requires_grad_(False).eval()
        self.smooth = SmoothChange(self.generator, self.fitting)


def result_path(folder: Path, number: int) -> Path:
    """File of person `number`."""
    return folder / f"person-{number:04d}.safetensors"


def measure_person(bench: Bench, number: int, cancelled: resumable.Cancelled = resumable.never) -> None:
    """Fit and measure held-out person `number`, and write what was found to their file. Raises TrainingStopped."""
    generator, clock = bench.generator, Clock()
    person = held_out_person(bench.source, bench.seed, number, bench.size, bench.folder)
    clock("pictures")
    cameras, pictures = cameras_of(FIT_VIEWS, bench.size), person.pictures(FIT_VIEWS)
    w = invert(generator, pictures, cameras, bench.fitting, bench.guess, cancelled)
    clock("inversion")
    tuned = tune(generator, w, pictures, cameras, bench.fitting, bench.smooth, cancelled)
    clock("tuning")
    heads = {"mean_head": _splats(generator, generator.w_mean), "inversion": _splats(generator, w), "tuned": tuned}
    figures = {name: compare(generator, splats, person) for name, splats in heads.items()}
    fitted = {name: heads[name] for name in ("inversion", "tuned")}
    detail, crops = compare_detail(generator, fitted, person)
    clock("measuring")
    _, expression = generator.geometry_from_w(w)
    values = {
        "index": person.index,
        "groups": person.groups,
        "expression_error": float((expression - person.expression).abs().mean()),
        "figures": figures,
        "detail": detail,
        "seconds": clock.seconds,
    }
    sheet = [F.interpolate(person.pictures(SHEET_VIEWS).permute(0, 3, 1, 2), size=SHEET_SIZE, mode="area")]
    for splats in fitted.values():
        image = render(splats, cameras_of(SHEET_VIEWS, bench.size))[0].clamp(0, 1)
        sheet.append(F.interpolate(image.permute(0, 3, 1, 2), size=SHEET_SIZE, mode="area"))
    tensors = {"w": w, "sheet": to_uint8(torch.stack(sheet).permute(0, 1, 3, 4, 2))}  # [3,n,S,S,3]
    tensors |= {f"detail/{name}": crop for name, crop in crops.items()}
    resumable.save_state(result_path(bench.folder, number), tensors, values)


@torch.no_grad()
def _splats(generator: Generator, w: Tensor) -> Gaussians:
    return generator(w[None])[0]


@torch.no_grad()
def compare(generator: Generator, splats: Gaussians, person: HeldOutPerson) -> dict:
    """{psnr, psnr_inside, ssim: one value per view of ALL_VIEWS; geometry_mm}; pictures are rounded to 8 bits as they
    are saved."""
    size = person.images.shape[1]
    made = to_uint8(render(splats, cameras_of(ALL_VIEWS, size))[0]).numpy()
    truth = person.images.numpy()
    return {
        "psnr": [metrics.psnr(a, b) for a, b in zip(made, truth, strict=True)],
        "psnr_inside": [psnr_inside(a, b) for a, b in zip(made, truth, strict=True)],
        "ssim": [metrics.ssim(a, b) for a, b in zip(made, truth, strict=True)],
        "geometry_mm": geometry_error(generator, splats, person.positions),
    }


def psnr_inside(made: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of the pixels more than RIM within the true head's outline: what of the error is no matter of silhouette.

    made, truth: uint8 [H,W,3] on white.
    """
    head = binary_fill_holes(truth.min(-1) < WHITE)
    inside = binary_erosion(head, iterations=max(1, round(RIM * len(truth))))
    return metrics.psnr(made[inside], truth[inside]) if inside.any() else float("nan")


class Clock:
    """Seconds between calls, by name."""

    def __init__(self):
        self.seconds, self.last = {}, time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self.last = round(now - self.last, 2), now
