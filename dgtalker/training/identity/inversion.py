"""Stage I, inversion: the anchor w_can, pivots w_t of selected frames, then a latent for every frame; G is frozen.

    w_t = w_can + w_std * deviation_t

Regularisation: |w| stays small and deviations stay close to the tracked expression. Cameras of the selected frames are
refined with the identity, as rigid motions of the splats.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from dgtalker.head.generator import Generator
from dgtalker.head.splats import apply_pose
from dgtalker.metrics.image_loss import ssim_map
from dgtalker.navigation.losses import reconstruction_loss
from dgtalker.training.identity.frames import DatasetFrames, TargetPictures, choose_pivots, find_rest_frames
from dgtalker.training.stage import ShuffledIndices, Stage

MAX_LATENT = 5.0  # standard deviations from the mean latent (OTAvatar's clamp)
MAX_TRACKED = 4.0  # standard deviations; tracked expressions beyond this are tracking errors


@dataclass(frozen=True)
class InversionConfig:
    """Inversion of a tracked clip."""

    frames: int = 128  # pivots, chosen to cover pose, mouth and blink
    max_steps: int = 220
    minutes: float = 6.0  # at most, whatever is left of the steps
    batch: int = 2  # frames per step
    rate: float = 0.03  # learning rate of latents, in standard deviations
    rate_pose: float = 3e-4  # learning rate of camera refinements, radians and decimetres
    prior_weight: float = 1e-3  # pull of w_can towards the mean head
    expression_weight: float = 2e-3  # pull of deviations towards the tracked expression
    other_weight: float = 3e-2  # the same for all other coordinates: the identity must not change between frames
    ssim_weight: float = 0.1
    alpha_weight: float = 0.3


@dataclass(frozen=True)
class AllFramesConfig:
    """A latent for every frame, as a linear function of what tracking says about it."""

    rank: int = 40  # dimensions of the deviations
    max_steps: int = 220
    minutes: float = 5.0  # at most
    batch: int = 2
    rate: float = 2e-3
    ridge: float = 0.03  # of the initial map, relative to the features' variance
    decay: float = 1e-3  # pull towards the initial map


class Pivots(nn.Module):
    """The anchor and, per pivot frame, a deviation from it and a refinement of its camera."""

    w_std: Tensor  # [W]
    index: Tensor  # [F] frame numbers
    tracked: Tensor  # [F, W] initial deviations

    def __init__(self, w_can: Tensor, w_std: Tensor, index: list[int], deviation: Tensor):
        """Start from w_can, w_std [W], frame numbers index [F] and deviation [F, W] in standard deviations."""
        super().__init__()
        self.w_can = nn.Parameter(w_can.clone())
        self.deviation = nn.Parameter(deviation.clone())
        self.pose = nn.Parameter(torch.zeros(len(index), 6))  # rotation vector (radians), translation (dm)
        self.register_buffer("w_std", w_std.clone())
        self.register_buffer("index", torch.tensor(index))
        self.register_buffer("tracked", deviation.clone())

    def latents(self, rows: list[int]) -> Tensor:
        """Latents w of pivots [B, W]."""
        return self.w_can + self.w_std * self.deviation[rows]

    @staticmethod
    def from_state(state: dict[str, Tensor]) -> Pivots:
        """Rebuild from state_dict()."""
        pivots = Pivots(state["w_can"], state["w_std"], state["index"].tolist(), state["deviation"])
        pivots.load_state_dict(state)
        return pivots


def tracked_deviation(generator: Generator, frames: DatasetFrames, index: list[int] | Tensor) -> Tensor:
    """Tracked expression of frames minus that of the rest frames, [B, W] in whitened latent units."""
    rest = frames.expression[find_rest_frames(frames)].mean(dim=0)
    device = generator.w_mean.device
    step = generator.w_from_geometry(expression=frames.expression[index].to(device)) - generator.w_from_geometry(
        expression=rest.to(device)
    )
    return (step / generator.w_std).clamp(-MAX_TRACKED, MAX_TRACKED)


def initial_pivots(generator: Generator, frames: DatasetFrames, config: InversionConfig, seed: int = 0) -> Pivots:
    """Tracked shape and rest expression as anchor, tracked expressions as deviations."""
    index = choose_pivots(frames, config.frames, seed)
    shape = frames.dataset.shape
    rest = frames.expression[find_rest_frames(frames)].mean(dim=0)
    device = generator.w_mean.device
    w_can = generator.w_from_geometry(shape.to(device), rest.to(device))
    reach = MAX_LATENT * generator.w_std
    w_can = torch.clamp(w_can, generator.w_mean - reach, generator.w_mean + reach)
    return Pivots(w_can, generator.w_std, index, tracked_deviation(generator, frames, index)).to(device)


def invert_pivots(generator: Generator, frames: DatasetFrames, config: InversionConfig, stage: Stage) -> Pivots:
    """Fit anchor, deviations and cameras of the pivots to their pictures; the generator is not changed."""
    generator.requires_grad_(False)
    pivots = initial_pivots(generator, frames, config, stage.seed)
    order = ShuffledIndices(len(pivots.index), stage.seed)
    expression = torch.zeros_like(generator.w_mean)
    expression[generator.slices["expression"]] = 1
    stiffness = config.expression_weight * expression + config.other_weight * (1 - expression)

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        rows = order.next_indices(config.batch)
        picture = photometric_loss(generator, pivots, frames, rows, config, stage)
        prior = (((pivots.w_can - generator.w_mean) / generator.w_std).square()).mean()
        drift = (stiffness * (pivots.deviation[rows] - pivots.tracked[rows]).square()).mean()
        return {"loss": picture + config.prior_weight * prior + drift, "picture": picture, "prior": prior}

    @torch.no_grad()
    def clamp() -> None:
        mean, reach = generator.w_mean, MAX_LATENT * generator.w_std
        pivots.w_can.copy_(torch.clamp(pivots.w_can, mean - reach, mean + reach))
        pivots.deviation.clamp_(-MAX_LATENT, MAX_LATENT)
        pivots.pose.sub_(pivots.pose.mean(dim=0))  # a common motion belongs to the head, not to the cameras

    groups = [
        {"params": [pivots.w_can], "lr": config.rate},
        {"params": [pivots.deviation], "lr": config.rate},
        {"params": [pivots.pose], "lr": config.rate_pose},
    ]
    stage.optimise(groups, step, config.minutes, config.max_steps, clamp)
    return pivots.requires_grad_(False)


def photometric_loss(
    generator: Generator,
    pivots: Pivots,
    frames: DatasetFrames,
    rows: list[int],
    config: InversionConfig,
    stage: Stage,
    background: Tensor | None = None,
) -> Tensor:
    """Mean picture loss of pivots `rows` through the generator, before a background [3] instead of white."""
    index = pivots.index[rows].tolist()
    splats, pictures, cameras = generator(pivots.latents(rows)), frames.read_targets(index), frames.cameras(index)
    losses = []
    for b, row in enumerate(rows):
        image, alpha = stage.render(apply_pose(splats[b], pivots.pose[row]), cameras[b : b + 1])
        truth = _select_picture(pictures, b)
        if background is not None:
            image = image + (1 - alpha) * (background - 1)
            truth = replace(truth, image=truth.image + (1 - truth.alpha) * (background - 1))
        losses.append(picture_loss(image, alpha, truth, config.ssim_weight, config.alpha_weight))
    return torch.stack(losses).mean()


def picture_loss(
    image: Tensor, alpha: Tensor, truth: TargetPictures, ssim_weight: float, alpha_weight: float
) -> Tensor:
    """Weighted L1 and gradient loss, SSIM, and L1 of the silhouette; errors count less where the matte is unsure."""
    image, alpha = truth.image.lerp(image, truth.sure), truth.alpha.lerp(alpha, truth.sure)
    loss = reconstruction_loss(image, truth.image, truth.emphasis)
    if ssim_weight:  # on grey: SSIM is the most expensive term
        grey, true_grey = (picture.mean(dim=-1, keepdim=True) for picture in (image, truth.image))
        loss = loss + ssim_weight * (1 - ssim_map(grey, true_grey).mean())
    return loss + alpha_weight * (alpha - truth.alpha).abs().mean()


def _select_picture(pictures: TargetPictures, b: int) -> TargetPictures:
    return TargetPictures(*(getattr(pictures, f.name)[b : b + 1] for f in fields(TargetPictures)))


# ---- a latent for every frame ----


def tracking_features(frames: DatasetFrames) -> Tensor:
    """Tracking results of each frame, whitened, [T, 107]: expression, scores, blink, lip opening and width."""
    columns = torch.cat(
        [
            frames.expression,
            frames.scores,
            torch.stack([frames.blink, frames.aperture(), frames.lip_width()], dim=-1),
        ],
        dim=-1,
    )
    std = columns.std(dim=0)
    return torch.where(std > 1e-4, (columns - columns.mean(dim=0)) / std.clamp_min(1e-4), 0.0).clamp(-5, 5)


def fit_all_frames(
    generator: Generator,
    pivots: Pivots,
    frames: DatasetFrames,
    config: AllFramesConfig,
    stage: Stage,
    losses: InversionConfig,
) -> Tensor:
    """Deviations [T, W] of all frames: a linear map of the tracking features onto the basis of the pivots' deviations.

    The map starts as ridge regression on the pivots and is then refined photometrically on random frames (amortised
    inversion); the generator is not changed.
    """
    generator.requires_grad_(False)
    device = pivots.w_can.device
    features = tracking_features(frames)
    features = torch.cat([features, torch.ones(len(features), 1)], dim=-1).to(device)
    rank = min(config.rank, len(pivots.index), pivots.deviation.shape[1])
    _, spread, basis = torch.linalg.svd(pivots.deviation, full_matrices=False)
    basis, spread = basis[:rank], spread[:rank] / len(pivots.index) ** 0.5  # [r, W], rms of each component
    x, y = features[pivots.index], pivots.deviation @ basis.T
    penalty = config.ridge * len(x) * torch.eye(x.shape[1], device=device)
    penalty[-1, -1] = 1e-6  # the constant is free
    initial_map = torch.linalg.solve(x.T @ x + penalty, x.T @ y)  # [features, r]
    map_change = nn.Parameter(torch.zeros_like(initial_map))  # in units of each component's rms
    order = ShuffledIndices(len(frames), stage.seed + 1)

    def deviations(index: list[int] | Tensor) -> Tensor:
        return (features[index] @ (initial_map + map_change * spread)) @ basis

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        index = order.next_indices(config.batch)
        splats = generator(pivots.w_can + pivots.w_std * deviations(index))
        pictures, cameras = frames.read_targets(index), frames.cameras(index)
        picture = torch.stack(
            [
                picture_loss(
                    *stage.render(splats[b], cameras[b : b + 1]),
                    _select_picture(pictures, b),
                    losses.ssim_weight,
                    losses.alpha_weight,
                )
                for b in range(len(index))
            ]
        ).mean()
        return {"loss": picture + config.decay * map_change.square().sum(), "picture": picture}

    stage.optimise([{"params": [map_change], "lr": config.rate}], step, config.minutes, config.max_steps)
    with torch.no_grad():
        return deviations(torch.arange(len(frames))).clamp(-MAX_LATENT, MAX_LATENT)
