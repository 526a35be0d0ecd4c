"""Masked cross-view supervision: it makes the two branches control different parts of the face.

Frame i gives the expression and its upper face, frame j the lips and its lower face; one set of splats must satisfy
both pictures. With j != i the lip code is independent of the upper target, so L_up can only fall if B_lip stops
touching the upper face: hence the gradients of both losses go to both branches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.gaussians import Gaussians
from dgtalker.navigation.model import Navigation

Renderer = Callable[[Gaussians, Camera], tuple[Tensor, Tensor]]
GeneratorFunction = Callable[[Tensor], Gaussians]


@dataclass(frozen=True)
class CrossViewConfig:
    """The variants of masked cross-view supervision; the defaults are the method, the rest are its ablations.

    A single basis is p_swap=0 with masks=False: both branches then have the same loss of the same picture, and, the
    blink's curve being two-dimensional, [B_exp B_lip] spans what a single basis of as many directions driven by sound
    and blink would. Which directions are called lips has no meaning then.
    """

    p_swap: float = 0.5  # probability that the lips come from another frame
    routing: str = "both"  # "both" losses reach both branches, or only on "swapped" pairs, or each only its "own"
    masks: bool = True  # False: both losses see the whole picture
    gradient: float = 0.5  # weight of the image-gradient part of the reconstruction

    def __post_init__(self):
        assert self.routing in ("both", "swapped", "own"), self.routing


@dataclass(frozen=True)
class View:
    """One training frame with its window of sound."""

    features: Tensor  # [2F, D] window of audio features
    blink: Tensor  # [F] in [0, 1]
    centre: int  # which of the F frames the picture shows
    camera: Camera  # batch of one
    image: Tensor  # [H, W, 3] head on white
    mask_upper: Tensor  # [H, W, 1] soft
    mask_lower: Tensor  # [H, W, 1] soft


def cross_view_loss(
    navigation: Navigation, generator: GeneratorFunction, render: Renderer, i: View, j: View, config: CrossViewConfig
) -> tuple[Tensor, Tensor]:
    """L_up of view i and L_low of view j (the same view when not swapped)."""
    a_exp = navigation.expression(i.features[None], i.blink[None])[:, i.centre]  # [1, n_exp]
    a_lip = navigation.lips(j.features[None])[:, j.centre]  # [1, n_lip]
    cameras = Camera.stack([i.camera[0], j.camera[0]])
    if config.routing == "both" or (config.routing == "swapped" and i is not j):
        splats = generator(navigation.latent(a_exp, a_lip))[0]
        images, _ = render(splats, cameras)
        image_i, image_j = images[0], images[1]
    else:
        image_i = render(generator(navigation.latent(a_exp, a_lip, frozen="lip"))[0], cameras[:1])[0][0]
        image_j = render(generator(navigation.latent(a_exp, a_lip, frozen="exp"))[0], cameras[1:])[0][0]
    mask_up, mask_low = (
        (i.mask_upper, j.mask_lower) if config.masks else (torch.ones_like(i.mask_upper), torch.ones_like(j.mask_lower))
    )
    return (
        reconstruction_loss(image_i, i.image, mask_up, config.gradient),
        reconstruction_loss(image_j, j.image, mask_low, config.gradient),
    )


def reconstruction_loss(image: Tensor, target: Tensor, mask: Tensor, gradient: float = 0.5) -> Tensor:
    """L1 of colours and of their gradients under a soft mask; images [..., H, W, 3], mask [..., H, W, 1]."""
    error = (image - target) * mask
    loss = error.abs().sum()
    for dim in (-2, -3):  # the mask is part of the product: feathered, it adds no edges of its own
        loss = loss + gradient * error.diff(dim=dim).abs().sum()
    return loss / (3 * mask.sum()).clamp_min(1.0)


def linear_cross_view_loss(
    navigation: Navigation,
    a_exp: Tensor,
    a_lip: Tensor,
    target_exp: Tensor,
    target_lip: Tensor,
    response: tuple[Tensor, Tensor],
    routing: str = "both",
    velocity: float = 0.1,
    swapped: Tensor | None = None,
) -> Tensor:
    """The same objective with generator and renderer linearised around w_can: cheap enough for thousands of frames.

    a_exp, a_lip [B, F, K] of runs of frames; target_exp (of frames i), target_lip (of frames j) [B, F, W]: their fitted
    w - w_can, whitened. response: factors R_up, R_low [r, W] such that |R_up x|^2 is the squared change of the upper
    face under the whitened step x. velocity: weight of the same loss on differences in time (EDTalk). swapped [B] bool:
    rows whose lips come from other frames; needed by routing "swapped" only.
    """
    b_exp, b_lip = navigation.blendshapes()
    step_exp, step_lip = a_exp @ b_exp.T, a_lip @ b_lip.T
    if routing == "swapped":
        assert swapped is not None, "routing 'swapped' needs to know which rows are swapped"
        shared = swapped[:, None, None]
    else:
        shared = torch.full((len(a_exp), 1, 1), routing == "both", device=a_exp.device)

    def detach_unshared(step: Tensor) -> Tensor:
        """The other branch's step, without gradient where its rows are not shared."""
        return torch.where(shared, step, step.detach())

    up = (step_exp + detach_unshared(step_lip) - target_exp) @ response[0].T
    low = (step_lip + detach_unshared(step_exp) - target_lip) @ response[1].T
    return sum(
        error.square().sum(-1).mean() + velocity * error.diff(dim=-2).square().sum(-1).mean() for error in (up, low)
    )
