"""All that is measured on one person: the unit of work, of resuming and of the worker processes."""

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
from dgtalker.evaluation.prior.close_ups import compare_close_ups
from dgtalker.evaluation.prior.fitting import FittingConfig, SmoothField, invert_pictures, tune_splats
from dgtalker.evaluation.prior.geometry import geometry_error
from dgtalker.evaluation.prior.held_out import ALL_VIEWS, FIT_VIEWS, HeldOutPerson, cameras_of, make_held_out_person
from dgtalker.evaluation.prior.initialization import RidgeEncoder
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.people.source import PeopleSource
from dgtalker.people.target_cache import to_uint8
from dgtalker.render import render

SHEET_VIEWS = ((-60.0, 0.0), (-30.0, 0.0), (0.0, 0.0), (30.0, 0.0), (60.0, 0.0), (90.0, 0.0))  # none of them fitted
SHEET_SIZE = 128
WHITE = 250  # a pixel with a darker channel shows the head
OUTLINE = 4 / 256  # width of its outline, as a share of the picture's


@dataclass
class PriorContext:
    """What measuring a person needs."""

    generator: Generator
    source: PeopleSource
    encoder: RidgeEncoder
    fitting: FittingConfig
    size: int  # of the pictures
    seed: int  # of the people
    folder: Path  # of the results

    def __post_init__(self):
        self.generator.requires_grad_(False).eval()
        self.smooth = SmoothField(self.generator, self.fitting)


def result_path(folder: Path, number: int) -> Path:
    """File of person `number`."""
    return folder / f"person-{number:04d}.safetensors"


def measure_person(context: PriorContext, number: int, cancelled: resumable.Cancelled = resumable.always_false) -> None:
    """Fit and measure held-out person `number`, and write the results to a file. Raises TrainingStopped."""
    generator, timer = context.generator, StageTimer()
    person = make_held_out_person(context.source, context.seed, number, context.size, context.folder)
    timer.finish_stage("pictures")
    cameras, pictures = cameras_of(FIT_VIEWS, context.size), person.pictures(FIT_VIEWS)
    w = invert_pictures(generator, pictures, cameras, context.fitting, context.encoder, cancelled)
    timer.finish_stage("inversion")
    tuned = tune_splats(generator, w, pictures, cameras, context.fitting, context.smooth, cancelled)
    timer.finish_stage("tuning")
    heads = {"mean_head": _splats(generator, generator.w_mean), "inversion": _splats(generator, w), "tuned": tuned}
    figures = {name: compare_views(generator, splats, person) for name, splats in heads.items()}
    fitted = {name: heads[name] for name in ("inversion", "tuned")}
    detail, crops = compare_close_ups(generator, fitted, person)
    timer.finish_stage("measuring")
    _, expression = generator.geometry_from_w(w)
    values = {
        "index": person.index,
        "groups": person.groups,
        "expression_error": float((expression - person.expression).abs().mean()),
        "figures": figures,
        "detail": detail,
        "seconds": timer.seconds,
    }
    sheet = [F.interpolate(person.pictures(SHEET_VIEWS).permute(0, 3, 1, 2), size=SHEET_SIZE, mode="area")]
    for splats in fitted.values():
        image = render(splats, cameras_of(SHEET_VIEWS, context.size))[0].clamp(0, 1)
        sheet.append(F.interpolate(image.permute(0, 3, 1, 2), size=SHEET_SIZE, mode="area"))
    tensors = {"w": w, "sheet": to_uint8(torch.stack(sheet).permute(0, 1, 3, 4, 2))}  # [3,n,S,S,3]
    tensors |= {f"detail/{name}": crop for name, crop in crops.items()}
    resumable.save_state(result_path(context.folder, number), tensors, values)


@torch.no_grad()
def _splats(generator: Generator, w: Tensor) -> Gaussians:
    return generator(w[None])[0]


@torch.no_grad()
def compare_views(generator: Generator, splats: Gaussians, person: HeldOutPerson) -> dict:
    """psnr, psnr_inside and ssim per view of ALL_VIEWS, of pictures rounded to 8 bits, and geometry_mm."""
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
    """PSNR of the pixels more than OUTLINE within the true head's outline: the error without that of the silhouette.

    made, truth: uint8 [H,W,3] on white.
    """
    head = binary_fill_holes(truth.min(-1) < WHITE)
    inside = binary_erosion(head, iterations=max(1, round(OUTLINE * len(truth))))
    return metrics.psnr(made[inside], truth[inside]) if inside.any() else float("nan")


class StageTimer:
    """Seconds by stage."""

    def __init__(self):
        self.seconds, self.last = {}, time.perf_counter()

    def finish_stage(self, name: str) -> None:
        """Note the seconds since the last call under `name`."""
        now = time.perf_counter()
        self.seconds[name], self.last = round(now - self.last, 2), now
