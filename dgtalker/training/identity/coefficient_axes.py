"""What a coefficient means after training: zero in silence, principal axes, sign, unit, and which ones are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.warm_start import Response
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.identity.response import COLOR_UNIT, POSITION_UNIT


@torch.no_grad()
def training_coefficients(navigation: Navigation, frames: DatasetFrames) -> tuple[Tensor, Tensor]:
    """a_exp [T, n_exp], a_lip [T, n_lip] of all training frames."""
    device = navigation.w_can.device
    exp, lip = [], []
    for clip, features in enumerate(frames.features):
        blink = frames.blink[int(frames.starts[clip]) : int(frames.starts[clip + 1])].to(device)
        exp.append(navigation.expression(features[None].to(device), blink[None])[0])
        lip.append(navigation.lips(features[None].to(device))[0])
    return torch.cat(exp), torch.cat(lip)


@torch.no_grad()
def zero_at_silence(navigation: Navigation, silence: Tensor) -> None:
    """Shift the coefficients so that the encoders map silence [2F, D] to zero; the anchor takes up the shift.

    Latents do not change. Without it, coefficients that hardly show would be far from zero at rest.
    """
    frames = len(silence) // 2
    middle = slice(frames // 4, frames - frames // 4)  # the encoders see the padding beyond the ends
    blink = torch.zeros(1, frames).to(silence)
    a_exp = navigation.expression(silence[None], blink)[0, middle].mean(0)
    a_lip = navigation.lips(silence[None])[0, middle].mean(0)
    navigation.move_origin(a_exp, a_lip)


@torch.no_grad()
def align_axes(
    navigation: Navigation, generator: Generator | WPlusGenerator, response: Response, frames: DatasetFrames
) -> None:
    """Principal axes inside each branch, ordered by motion, in units of one training standard deviation.

    Positive expression coefficients raise the upper face, positive lip coefficients open the mouth.
    """
    a_exp, a_lip = training_coefficients(navigation, frames)
    metric = (response.upper + response.lower).to(a_exp)
    directions = navigation.blendshapes.directions()
    rotations = []
    for a, b in zip((a_exp, a_lip), directions.split([a_exp.shape[1], a_lip.shape[1]], dim=1), strict=True):
        variances, axes = torch.linalg.eigh(torch.cov(a.T).reshape(a.shape[1], a.shape[1]))
        motion = variances * ((metric @ b @ axes) * (b @ axes)).sum(dim=0)
        rotations.append(axes[:, motion.argsort(descending=True)])
    raised = _brow_motion(navigation, generator, rotations[0])
    opened = ((a_lip - a_lip.mean(dim=0)) @ rotations[1] * _centred(frames.aperture()).to(a_lip)[:, None]).sum(dim=0)
    navigation.rotate_coefficients(
        *(
            rotation * torch.where(positive < 0, -1.0, 1.0)
            for rotation, positive in zip(rotations, (raised, opened), strict=True)
        )
    )
    set_training_units(navigation, torch.cat(training_coefficients(navigation, frames), dim=-1))


def set_training_units(navigation: Navigation, coefficients: Tensor) -> None:
    """One training standard deviation becomes the unit of coefficients, those of all training frames [T, K]."""
    std = coefficients.std(dim=0).clamp_min(1e-3)
    extremes = [coefficients.amin(dim=0).clamp(max=0), coefficients.amax(dim=0).clamp(min=0)]
    limits = torch.stack(extremes, dim=-1) / std[:, None]
    navigation.set_units(std, limits)


@torch.no_grad()
def drop_faint_coefficients(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    frames: DatasetFrames,
    motion_kept: float,
    regional: bool,
) -> Navigation:
    """A Navigation without the coefficients that hardly show.

    Those kept make `motion_kept` (0..1) of each branch's visible change; the others move a lip by hundredths of a
    millimetre, as sliders that do nothing.
    """
    coefficients = torch.cat(training_coefficients(navigation, frames), dim=-1)
    sizes = [navigation.config.n_exp, navigation.config.n_lip]
    codes = torch.cat([torch.zeros_like(coefficients[:1]), coefficients.std(dim=0).diag()])
    splats = RegionalHead(generator, navigation, regional)(*codes.split(sizes, dim=-1))
    moved, painted = ((x[1:] - x[:1]).square().sum(dim=-1) for x in (splats.means, splats.colors))  # [K, N]
    shown = ((moved / POSITION_UNIT**2 + painted / COLOR_UNIT**2) * splats.opacities[:1]).sum(dim=-1)
    kept = torch.cat([strongest_share(branch, motion_kept) for branch in shown.split(sizes)])
    # Dropped coefficients become constants: zero for the expression, the mean over training for the lips.
    constant = coefficients.mean(dim=0).index_fill(0, torch.arange(sizes[0]).to(kept.device), 0.0)
    return navigation.select_coefficients(kept.nonzero()[:, 0], constant)


def strongest_share(energies: Tensor, share: float) -> Tensor:
    """Bool [K]: the fewest, strongest ones that make `share` of the sum of energies [K] >= 0; all for a share of 1."""
    strongest, order = energies.sort(descending=True)
    before = (strongest.cumsum(0) - strongest) / strongest.sum().clamp_min(1e-12)
    return torch.zeros_like(order, dtype=torch.bool).index_copy(0, order, (before < share) | (share >= 1))


def _brow_motion(navigation: Navigation, generator: Generator | WPlusGenerator, rotation: Tensor) -> Tensor:
    """[n_exp] mean upward motion of the upper face along the rotated expression directions."""
    upper, _ = region_weights(generator)
    b_exp, _ = navigation.blendshapes()
    steps = (b_exp @ rotation).T * navigation.w_scale  # [n_exp, W]
    means = generator.attributes(torch.cat([navigation.w_can[None], navigation.w_can + steps]))["means"]
    return ((means[1:] - means[:1])[..., 1] * upper.to(means)).sum(dim=-1)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()
