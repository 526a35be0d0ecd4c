"""How the head responds to steps in W: finite differences of its splats, and of its pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.warm_start import Response
from dgtalker.training.identity.frames import DatasetFrames

POSITION_UNIT, COLOR_UNIT = 0.03, 0.15  # changes of a splat that count as equally visible: decimetres, colour
PROBE = 0.5  # step of the finite differences, standard deviations
POOL = 4  # pixels: pictures are compared at a quarter of the resolution


@torch.no_grad()
def measure_splat_response(
    generator: Generator | WPlusGenerator, w_can: Tensor, seen: Tensor, deviations: Tensor
) -> Response:
    """Visible change of the splats of upper and lower face along each whitened coordinate of w [W].

    seen [N] in 0..1 is how visible each splat is; deviations [T, W] scale the result.
    """
    weights = [(weight.to(w_can.device) * seen).sqrt()[:, None] for weight in region_weights(generator)]
    base = generator.attributes(w_can[None])
    opacity = base["logit_opacities"][0].sigmoid().sqrt()[:, None]
    columns: list[list[Tensor]] = [[], []]
    for rows in torch.arange(len(w_can), device=w_can.device).split(8):
        steps = torch.zeros(len(rows), len(w_can), device=w_can.device)
        steps[torch.arange(len(rows)), rows] = PROBE
        moved = generator.attributes(w_can + generator.w_std * steps)
        change = torch.cat(
            [
                (moved["means"] - base["means"]) / POSITION_UNIT,
                (moved["colors"] - base["colors"]) / COLOR_UNIT,
            ],
            dim=-1,
        )
        for region, weight in zip(columns, weights, strict=True):
            region.append((change / PROBE * weight * opacity)[:, weight[:, 0] > 1e-3].flatten(1))
    jacobians = [torch.cat(region) for region in columns]  # [W, splats x 6]
    return Response.normalised(*(j @ j.T for j in jacobians), deviations)


@torch.no_grad()
def measure_picture_response(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    coefficients: tuple[Tensor, Tensor],
    frames: DatasetFrames,
    render: Callable,
    states: int,
    probe: float = PROBE,
) -> tuple[Tensor, Tensor, Tensor]:
    """M_up, M_low, M_hair [W, W]: squared change of the pooled picture in upper face, lower face and hair.

    For whitened steps, mean over the anchor and the heads of `states` - 1 training frames; coefficients (a_exp, a_lip)
    are those of the training frames.
    """
    a_exp, a_lip = coefficients
    rows = torch.linspace(0, len(a_exp) - 1, states + 1)[1:].long().tolist()
    zero = torch.zeros(len(navigation.w_can), len(navigation.w_can), device=navigation.w_can.device)
    total = [zero, zero, zero]
    for number, row in enumerate(rows):
        w = navigation.latent(a_exp[[row]], a_lip[[row]])[0] if number else navigation.w_can
        camera = frames.cameras([row])
        splats = generator(w[None])[0]
        base = render(splats, camera)[0][0]
        not_hair = torch.ones_like(splats.colors).index_fill(0, generator.hair_texels, 0.0)
        hair = 1 - render(replace(splats, colors=not_hair), camera)[0][0][..., :1]  # [H, W, 1], on white
        up, low = (frames.read_images(key, [row])[0] for key in ("mask_upper", "mask_lower"))  # [H, W, 1]
        masks = (up * (1 - hair), low * (1 - hair), hair)
        responses: list[list[Tensor]] = [[], [], []]
        for chunk in torch.arange(len(w), device=w.device).split(8):
            steps = torch.zeros(len(chunk), len(w), device=w.device)
            steps[torch.arange(len(chunk)), chunk] = probe
            moved = generator(w + navigation.w_scale * steps)
            for k in range(len(chunk)):
                change = (render(moved[k], camera)[0][0] - base) / probe
                for response, mask in zip(responses, masks, strict=True):
                    masked = (change * mask).permute(2, 0, 1)
                    response.append(torch.nn.functional.avg_pool2d(masked, POOL).flatten())
        for region, response in enumerate(responses):
            columns = torch.stack(response)  # [W, pixels]
            total[region] = total[region] + columns @ columns.T / len(rows)
    return total[0], total[1], total[2]
