"""Close-ups: eyes and mouth of a fitted head at 1024 px against the truth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgtalker import metrics
from dgtalker.camera import Camera
from dgtalker.evaluation.prior.held_out import DETAIL_SIZE, DETAIL_VIEW, HeldOutPerson, cameras_of
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.people.target_cache import to_uint8
from dgtalker.render import render
from dgtalker.video.masks import project

# Crops [height, width] as shares of the picture, centred on the texels of some parts.
CROPS = {
    "eyes": ((0.125, 0.375), ("eyeball_left", "eyeball_right")),
    "mouth": ((0.1875, 0.28125), ("teeth_upper", "teeth_lower")),
}


def crop_boxes(generator: Generator, positions: Tensor, camera: Camera) -> dict[str, tuple[slice, slice]]:
    """Rows and columns of eyes and mouth in a picture through one camera, within the picture.

    positions: [N,3] true positions of the texels. A crop whose parts the template lacks is left out.
    """
    names, boxes = list(generator.template.part_names), {}
    for name, (shares, parts) in CROPS.items():
        numbers = torch.tensor([names.index(part) for part in parts if part in names])
        mine = torch.isin(generator.texel_part, numbers)
        if not bool(mine.any()):
            continue
        place = project(positions[mine].numpy(), camera.world_to_camera.numpy(), camera.intrinsics.numpy())
        column, row, _ = place.mean(0)
        height, width = (round(share * camera.height) for share in shares)
        top = int(np.clip(row - height / 2, 0, camera.height - height))
        left = int(np.clip(column - width / 2, 0, camera.width - width))
        boxes[name] = slice(top, top + height), slice(left, left + width)
    return boxes


@torch.no_grad()
def compare_close_ups(generator: Generator, heads: dict[str, Gaussians], person: HeldOutPerson) -> tuple[dict, dict]:
    """Returns ({head: {crop: {psnr, ssim}}}, {crop: uint8 [1+heads,h,w,3], truth first})."""
    camera = cameras_of((DETAIL_VIEW,), DETAIL_SIZE)
    boxes = crop_boxes(generator, person.positions, camera[0])
    pictures = [person.detail, *(to_uint8(render(splats, camera)[0][0]) for splats in heads.values())]
    crops = {name: torch.stack([picture[box] for picture in pictures]) for name, box in boxes.items()}
    figures = {
        head: {
            name: {
                "psnr": metrics.psnr(crop[row].numpy(), crop[0].numpy()),
                "ssim": metrics.ssim(crop[row].numpy(), crop[0].numpy()),
            }
            for name, crop in crops.items()
        }
        for row, head in enumerate(heads, 1)
    }
    return figures, crops
