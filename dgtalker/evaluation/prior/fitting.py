"""Fit a head to a few pictures: inversion (w alone), then tuning (the generator's per-texel parameters around that w).

Only pictures and cameras are used. Tuning is pivotal tuning (Roich et al. 2021) restricted to the texels' means: at a
fixed w they add to the attributes, so that a step costs a render and no convolutions. Unrestricted, they overfit the
given views. Therefore every change is a smooth field over the head (`SmoothField`), which also extends it to unseen
texels nearby.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.spatial import KDTree
from torch import Tensor

from dgtalker import resumable
from dgtalker.camera import Camera
from dgtalker.evaluation.prior.initialization import MAX_LATENT, RidgeEncoder
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply
from dgtalker.metrics.image_loss import image_loss
from dgtalker.render import render

# What tuning changes: name -> channels.
CHANGES = {"color": 3, "offset": 3, "log_scale": 3, "axis_angle": 3, "logit_opacity": 1}
MIRRORED = ("skin", "hair")  # parts whose changes are mirrored to the other side of the head
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class FittingConfig:
    """How a head is fitted."""

    samples: int = 400  # random heads that the encoder is fitted to
    invert_steps: int = 120
    invert_rate: float = 0.12  # of w in standard deviations
    refresh: int = 4  # steps for which the convolutions' output is kept; the linear path follows w at every step
    prior_weight: float = 1e-3  # pull of w towards the mean head
    square_weight: float = 4.0  # weight of the mean squared error beside L1 and gradients
    tune_steps: int = 20
    reach: float = 0.08  # decimetres over which a change fades in one pass of smoothing (standard deviation)
    neighbours: int = 48  # texels that share a change in one pass, at most
    broad_passes: int = 16  # of the broad field of changes
    fine_passes: int = 2  # of the fine field of changes
    fine: float = 0.3  # weight of the fine field
    mirror: float = 0.1  # weight of the mirrored texel's change relative to the texel's own
    color_rate: float = 0.03
    offset_rate: float = 0.005  # decimetres in the texel's frame
    log_scale_rate: float = 0.05
    axis_angle_rate: float = 0.02
    logit_opacity_rate: float = 0.1
    max_offset: float = 0.1  # bound of an offset's change, decimetres


def picture_loss(images: Tensor, pictures: Tensor, config: FittingConfig) -> Tensor:
    """L1, gradients and squares of [C,H,W,3], without SSIM, which would cost more than the render and gains no PSNR."""
    loss = image_loss(images, pictures, ssim_weight=0.0)
    return loss + config.square_weight * (images - pictures).square().mean()


def invert_pictures(
    generator: Generator, pictures: Tensor, cameras: Camera, config: FittingConfig, encoder: RidgeEncoder | None = None,
    cancelled: resumable.Cancelled = resumable.always_false,
) -> Tensor:  # fmt: skip
    """Invert pictures [C,H,W,3] in 0..1 to w [W], all coordinates free, the generator frozen.

    Raises TrainingStopped.
    """
    generator.requires_grad_(False)
    white = torch.zeros_like(generator.w_mean) if encoder is None else encoder(generator, pictures, cameras)
    white.requires_grad_(True)
    optimizer = torch.optim.Adam([white], betas=BETAS)
    residuals: dict[str, Tensor] = {}
    for step in range(config.invert_steps):
        _stop_if(cancelled)
        w = (generator.w_mean + generator.w_std * white)[None]
        if step % config.refresh == 0:
            with torch.no_grad():
                residuals = generator.residuals(w)
        image = render(_with_residuals(generator, w, residuals)[0], cameras)[0]
        loss = picture_loss(image, pictures, config) + config.prior_weight * white.square().mean()
        _descend(optimizer, loss, [config.invert_rate * learning_rate_factor(step, config.invert_steps)])
        with torch.no_grad():
            white.clamp_(-MAX_LATENT, MAX_LATENT)
    return (generator.w_mean + generator.w_std * white).detach()


def tune_splats(
    generator: Generator, w: Tensor, pictures: Tensor, cameras: Camera, config: FittingConfig, smooth: SmoothField,
    cancelled: resumable.Cancelled = resumable.always_false,
) -> Gaussians:  # fmt: skip
    """Splats [N] of the generator at w [W] after tuning its per-texel parameters on pictures [C,H,W,3]."""
    with torch.no_grad():
        attributes = generator.attributes(w[None])
        before = generator.gaussians_from_attributes(attributes)[0]
        frames = generator.surface.frames(generator.vertices(w[None]))[0][0]
        logits = attributes["logit_opacities"][0]
    rates = [getattr(config, f"{name}_rate") for name in CHANGES]
    fields = [torch.zeros(2, smooth.texels, channels, requires_grad=True) for channels in CHANGES.values()]
    optimizer = torch.optim.Adam([{"params": [field]} for field in fields], betas=BETAS)

    def changed() -> Gaussians:
        color, offset, log_scale, turn, logit = smooth(*torch.cat(fields, 2)).split(tuple(CHANGES.values()), 1)
        offset = config.max_offset * torch.tanh(offset / config.max_offset)
        return Gaussians(
            before.means + (frames @ offset[..., None])[..., 0],
            quaternion_multiply(before.quats, axis_angle_to_quaternion(turn)),
            before.scales * log_scale.clamp(-2, 1).exp(),
            (logits + logit[:, 0]).sigmoid(),
            before.colors + color,
        )

    for step in range(config.tune_steps):
        _stop_if(cancelled)
        loss = picture_loss(render(changed(), cameras)[0], pictures, config)
        _descend(optimizer, loss, [rate * learning_rate_factor(step, config.tune_steps) for rate in rates])
    with torch.no_grad():
        return changed()


def _with_residuals(generator: Generator, w: Tensor, residuals: dict[str, Tensor]) -> Gaussians:
    """The generator's splats with given residuals of the convolutions instead of computed ones."""
    computed = generator.residuals
    generator.residuals = lambda w: residuals
    try:
        return generator(w)
    finally:
        generator.residuals = computed


def learning_rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate: a short warm-up, then a cosine to a tenth."""
    return min(1.0, (step + 1) / 5) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _stop_if(cancelled: resumable.Cancelled) -> None:
    if cancelled():
        raise resumable.TrainingStopped("Stopped.")


class SmoothField:
    """A linear map of two fields of values at `texels` points to one smooth field over all texels.

    Values are averaged repeatedly over nearby points of the same part of the head, many times for the broad field and
    few times for the fine one. The points are those of the generator's bases, so that changes have the same width on
    finer maps.

    A step along the map's gradient is preconditioned with its square, as in "Large Steps in Inverse Rendering of
    Geometry" (Nicolet et al. 2021), with a Gaussian in place of the inverse Laplacian.
    """

    def __init__(self, generator: Generator, config: FittingConfig):
        self.coarse = generator.uv_pyramid
        place = self.coarse.downsample(generator.surface.positions(generator.rest_vertices[None])[0]).numpy()  # [Nc,3]
        part = generator.template.atlas(generator.config.basis_size).texel_part.numpy()
        rows, columns, weights = [], [], []

        def link(texels: np.ndarray, near: np.ndarray, distance: np.ndarray, strength: float) -> None:
            rows.append(np.repeat(texels, near.shape[1]))
            columns.append(near.ravel())
            weights.append(strength * np.exp(-0.5 * (distance / config.reach) ** 2).ravel())

        for number, name in enumerate(generator.template.part_names):
            texels = np.flatnonzero(part == number)
            if not len(texels):
                continue
            tree, count = KDTree(place[texels]), [*range(1, min(config.neighbours, len(texels)) + 1)]
            distance, near = tree.query(place[texels], k=count)
            link(texels, texels[near], distance, 1.0)
            if config.mirror and name in MIRRORED:
                distance, near = tree.query(place[texels] * [-1, 1, 1], k=count)
                link(texels, texels[near], distance, config.mirror)
        self.texels = size = len(part)
        links = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
        matrix = sp.coo_matrix(links, shape=(size, size)).tocsr()
        matrix = sp.diags(1 / np.asarray(matrix.sum(1)).ravel()) @ matrix
        self.config = config
        self.matrix, self.transposed = matrix.tocsr().astype(np.float32), matrix.T.tocsr().astype(np.float32)

    def __call__(self, broad: Tensor, fine: Tensor) -> Tensor:
        """Smooth field [N,C] of the sum of two fields [Nc,C]."""
        config = self.config
        smooth = self._passes(broad, config.broad_passes) + config.fine * self._passes(fine, config.fine_passes)
        return self.coarse.upsample(smooth)

    def _passes(self, values: Tensor, count: int) -> Tensor:
        for _ in range(count):
            values = _Product.apply(values, self.matrix, self.transposed)
        return values


class _Product(torch.autograd.Function):
    """Sparse matrix times dense columns; scipy's product is several times faster than torch's on a CPU."""

    @staticmethod
    def forward(ctx, values: Tensor, matrix: sp.csr_matrix, transposed: sp.csr_matrix) -> Tensor:
        ctx.transposed = transposed
        return torch.from_numpy(matrix @ values.detach().numpy())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # ty: ignore[incompatible-method-override]
        return torch.from_numpy(ctx.transposed @ gradient.contiguous().numpy()), None, None
