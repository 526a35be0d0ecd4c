"""Stage N, navigation: blendshapes and encoders by masked cross-view supervision; generator and anchor are frozen.

1. `measure_splat_response` (response.py): how splats of upper and lower face respond to each coordinate of W.
2. `initial_navigation`: directions and coefficients that solve the linearised objective for the latents of all frames.
3. Encoders learn those coefficients from sound and blink, on the linear cross-view loss: thousands of frames a step.
4. The objective itself, on pictures (navigation/losses.py masks them). The linear loss stays beside it, so that a batch
   of one picture pair does not unlearn the rest.
5. Other voices: the speech backbone's own lips are mixed in (borrowed_lips.py).
6. Axes (coefficient_axes.py): silence is zero; each branch gets principal axes, ordered and signed, in units of one
   training standard deviation; coefficients that hardly show are dropped.
7. Leakage removal (leakage_removal.py): what a direction still does to the other region's picture.
8. The anchor is refined on all frames (anchor.py).
9. Articulation: the mouth opens as far as in the video (articulation.py).

From step 6 on each stream moves the splats of its own region only (regional_head.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.encoders import BackboneEncoder
from dgtalker.navigation.losses import cross_view_loss, linear_cross_view_loss
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import SpeechBackbone
from dgtalker.navigation.warm_start import Response, initial_directions, principal_directions, projection_matrices
from dgtalker.training.identity.anchor import refine_anchor
from dgtalker.training.identity.articulation import calibrate_articulation
from dgtalker.training.identity.borrowed_lips import borrow_lips, can_borrow
from dgtalker.training.identity.coefficient_axes import (
    align_axes,
    drop_faint_coefficients,
    training_coefficients,
    zero_at_silence,
)
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.leakage_removal import remove_leakage
from dgtalker.training.identity.navigation_batches import ClipRunSampler, FramePairSampler
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.stage import Stage


def train_navigation(
    generator: Generator | WPlusGenerator,
    w_can: Tensor,
    deviations: Tensor,
    response: Response,
    frames: DatasetFrames,
    silence: Tensor,
    config: NavigationTrainingConfig,
    stage: Stage,
    backbone: SpeechBackbone | None = None,
) -> Navigation:
    """Steps 2 to 6: a Navigation trained on one tuned head.

    Args:
        generator: the tuned generator.
        w_can: the anchor [W].
        deviations: latents of all frames relative to it [T, W], whitened.
        response: of the splats, from `measure_splat_response`.
        frames: the training frames.
        silence: features [2F, D] in which nobody speaks.
        config: settings of this stage.
        stage: where to report, when to stop, how to render.
        backbone: what the lip encoder starts from; it is copied.
    """
    torch.manual_seed(stage.seed)
    generator.requires_grad_(False)
    if not config.cross_view.masks:  # the linear objective must see as much as the pictures do
        response = response.unmasked()
    navigation = initial_navigation(generator, w_can, response, deviations, frames, config, backbone)
    sampler = ClipRunSampler(frames, deviations, silence.to(w_can.device), config, stage.seed)
    factors = response.square_roots()

    def linear(parts: dict[str, Tensor]) -> Tensor:
        return linear_objective(navigation, sampler, factors, config, parts)

    def warm_step(number: int, fraction: float) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        return {"loss": linear(parts), **parts}

    bases = [*navigation.blendshapes.parameters()]
    navigation.train()
    stage.substage(0.05, 0.35).optimise(
        [
            *navigation.encoder_parameter_groups(config.rate, config.backbone_share),
            {"params": bases, "lr": config.rate_basis},
        ],
        warm_step,
        config.warm_minutes,
        config.warm_steps,
    )
    views = FramePairSampler(frames, config, stage.seed)

    def image_step(number: int, fraction: float) -> dict[str, Tensor]:
        i, j = views.draw()
        up, low = cross_view_loss(navigation, generator, stage.render, i, j, config.cross_view)
        parts = {"up": up, "low": low}
        return {"loss": up + low + config.linear_weight * linear(parts), **parts}

    stage.substage(0.35, 1.0).optimise(
        [
            *navigation.encoder_parameter_groups(config.rate_image, config.backbone_share),
            {"params": bases, "lr": config.rate_basis},
        ],
        image_step,
        config.image_minutes,
        config.image_steps,
    )
    navigation.eval().requires_grad_(False)
    if config.borrowed is not None and can_borrow(navigation):
        navigation, explained = borrow_lips(navigation, frames, deviations, response, config.borrowed)
        stage.log_values(borrowed_lips_explained=round(explained, 3))
    zero_at_silence(navigation, silence.to(w_can.device))
    align_axes(navigation, generator, response, frames)
    return drop_faint_coefficients(navigation, generator, frames, config.motion_kept, config.regional)


def finish_navigation(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    response: Response,
    frames: DatasetFrames,
    config: NavigationTrainingConfig,
    stage: Stage,
) -> Navigation:
    """Steps 7 to 9 in place, each unless its config is None; returns `navigation`."""
    coefficients = training_coefficients(navigation, frames)
    if config.leakage_removal is not None:
        stage.log_values(
            **remove_leakage(
                navigation, generator, coefficients, frames, stage.render, config.leakage_removal, response
            )
        )
    if config.anchor is not None:
        error = refine_anchor(navigation, generator, coefficients, frames, stage.render, config.anchor, config.regional)
        stage.log_values(anchor_error=error)
    if config.articulation is not None:
        figures = calibrate_articulation(navigation, generator, frames, config.articulation, config.regional)
        stage.log_values(**{f"articulation_{name}": round(value, 3) for name, value in figures.items()})
    return navigation


def linear_objective(
    navigation: Navigation,
    sampler: ClipRunSampler,
    factors: tuple[Tensor, Tensor],
    config: NavigationTrainingConfig,
    parts: dict[str, Tensor],
) -> Tensor:
    """Linear cross-view loss of a batch, plus the silence loss; both are added to `parts` for the log."""
    features, blink, target, swap = sampler.draw()
    a_exp, a_lip = navigation.expression(features, blink), navigation.lips(features)[swap]
    parts["linear"] = linear_cross_view_loss(
        navigation, a_exp, a_lip, target, target[swap], factors, config.cross_view.routing,
        swapped=swap != torch.arange(len(swap), device=swap.device),
    )  # fmt: skip
    quiet = sampler.draw_silence()
    b_exp, b_lip = navigation.blendshapes()
    rest = navigation.expression(quiet, torch.zeros(quiet.shape[0], quiet.shape[1] // 2).to(quiet)) @ b_exp.T
    step = rest + navigation.lips(quiet) @ b_lip.T
    parts["silence"] = sum((step @ factor.T).square().sum(-1).mean() for factor in factors)
    return parts["linear"] + config.silence_weight * parts["silence"]


def initial_navigation(
    generator: Generator | WPlusGenerator,
    w_can: Tensor,
    response: Response,
    deviations: Tensor,
    frames: DatasetFrames,
    config: NavigationTrainingConfig,
    backbone: SpeechBackbone | None = None,
) -> Navigation:
    """A Navigation whose bases solve the linearised problem; encoders are untrained but for blink and backbone."""
    features = torch.cat(frames.features)
    navigation = Navigation(
        NavigationConfig(
            latent=len(w_can),
            feature_dim=features.shape[1],
            n_exp=config.n_exp,
            n_lip=config.n_lip,
            hidden=config.hidden,
            dropout=config.dropout,
            bases=config.bases,
            backbone=None if backbone is None else backbone.config,
        )
    )
    if isinstance(navigation.lip_encoder.audio, BackboneEncoder) and backbone is not None:
        navigation.lip_encoder.audio.backbone.load_state_dict(backbone.state_dict())
    navigation.w_can.copy_(w_can)
    navigation.w_scale.copy_(generator.w_std)
    navigation.feature_mean.copy_(features.mean(dim=0))
    navigation.feature_std.copy_(features.std(dim=0).clamp_min(1e-3))
    if config.start == "principal" or not config.cross_view.masks:
        directions = principal_directions(response, deviations, config.n_exp + config.n_lip)
    else:
        directions = initial_directions(response, deviations, config.n_exp, config.n_lip, config.bases)
    navigation.blendshapes.set_directions(directions.cpu(), torch.ones(config.n_exp + config.n_lip))
    to_exp, _ = projection_matrices(response, directions, config.n_exp)
    fit_blink_response(navigation, frames.blink, (deviations @ to_exp.T).cpu())
    return navigation.to(w_can.device)


@torch.no_grad()
def fit_blink_response(navigation: Navigation, blink: Tensor, a_exp: Tensor) -> None:
    """Least squares of a_exp [T, n_exp] on blink [T] and its square; the constant is left to the sound."""
    columns = torch.stack([blink, blink.square(), torch.ones_like(blink)], dim=-1)
    ridge = 1e-3 * len(blink) * torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    fit = torch.linalg.solve(columns.T @ columns + ridge, columns.T @ a_exp)
    navigation.expression_encoder.blink.linear.copy_(fit[0])
    navigation.expression_encoder.blink.quadratic.copy_(fit[1])
