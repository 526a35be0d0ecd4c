"""Stage N, navigation: bases and encoders by masked cross-view supervision; generator and anchor are frozen.

1. response: how upper and lower face answer to every direction of w, by finite differences through the generator;
2. warm start: directions and coefficients that solve the linearised objective for the fitted latents of all frames;
3. encoders learn those coefficients from sound and blink (linear cross-view loss, thousands of frames a step);
4. the objective itself, on pictures; the linear one stays beside it so that a batch of one does not unlearn the rest;
5. axes: silence is zero; inside each branch principal, ordered by motion, positive opens or raises, 1 = one std; what
   hardly shows is dropped;
6. purification: what a direction still does to the other region's picture is taken out (purify.py);
7. the anchor settles on all frames (anchor.py).

From then on each stream drives the splats of its own region (driven.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights
from dgtalker.navigation.losses import CrossViewConfig, View, cross_view_loss, linear_cross_view_loss
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import SpeechBackbone
from dgtalker.navigation.warm_start import Response, initial_directions, principal_directions, projections
from dgtalker.training.identity.anchor import AnchorConfig, refine_anchor
from dgtalker.training.identity.frames import Frames
from dgtalker.training.identity.leakage_removal import LeakageRemovalConfig, remove_leakage
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import Shuffle, Stage

POSITION_UNIT, COLOR_UNIT = 0.03, 0.15  # changes of a splat that count as equally visible: decimetres, colour
PROBE = 0.5  # standard deviations of the finite differences


@dataclass(frozen=True)
class NavigationTrainingConfig:
    """Training of bases and encoders."""

    n_exp: int = 8  # expression coefficients, at most
    n_lip: int = 12  # lip coefficients, at most
    motion_kept: float = 0.99  # share of a branch's visible change that its coefficients keep; 1: all of them stay
    hidden: int = 96  # channels of the audio encoders
    dropout: float = 0.1
    bases: str = "joint"  # of blendshapes.BASES: both from one QR; the others are ablations
    start: str = "separated"  # directions begin apart by region, or "principal": no regions known; always without masks
    w_plus: bool = False  # directions in W+, a style for every size of the convolutions (head/layered.py)
    cross_view: CrossViewConfig = field(default_factory=CrossViewConfig)
    warm_minutes: float = 3.0
    warm_steps: int = 6000
    image_minutes: float = 10.0
    image_steps: int = 8000
    clips: int = 8  # runs of frames a step, linear objective
    run: int = 64  # frames of a run
    context: int = 16  # frames of sound to each side of a picture
    rate: float = 2e-3  # of the encoders, warm start
    rate_image: float = 3e-4  # of the encoders, on pictures
    rate_basis: float = 3e-4  # of the bases
    backbone_share: float = 0.1  # of the encoders' rates: a speech backbone is adapted, not learned anew
    weight_decay: float = 1e-6
    linear_weight: float = 0.05  # of the linear objective beside the pictures
    silence_weight: float = 1.0  # silence -> canonical expression
    leakage_removal: LeakageRemovalConfig | None = field(
        default_factory=LeakageRemovalConfig
    )  # None: leave the bases as training left them
    regional: bool = True  # each stream moves the splats of its own region alone (driven.py)
    anchor: AnchorConfig | None = field(default_factory=AnchorConfig)  # None: the anchor stays as tuning left it
    noise: float = 0.15  # of features, in their standard deviations: white, and constant over a run

    def __post_init__(self):
        assert self.start in ("separated", "principal"), self.start


def navigate(
    generator: Generator,
    w_can: Tensor,
    deviations: Tensor,
    seen: Tensor,
    frames: Frames,
    silence: Tensor,
    config: NavigationTrainingConfig,
    stage: Stage,
    backbone: SpeechBackbone | None = None,
) -> Navigation:
    """Train and return the Navigation of one identity.

    w_can [W]; deviations [T, W] of all frames, whitened; seen [N] how visible each splat is; silence [2F, D] features
    of a sound in which nobody speaks. backbone: what the lip encoder starts from; it is copied.
    """
    stage.report(0.0, "response of the head")
    response = measure_response(generator, w_can, seen, deviations)
    navigation = train_navigation(generator, w_can, deviations, response, frames, silence, config, stage, backbone)
    return finish_navigation(navigation, generator, response, frames, config, stage)


def train_navigation(
    generator: Generator,
    w_can: Tensor,
    deviations: Tensor,
    response: Response,
    frames: Frames,
    silence: Tensor,
    config: NavigationTrainingConfig,
    stage: Stage,
    backbone: SpeechBackbone | None = None,
) -> Navigation:
    """Steps 2 to 5; arguments as of `navigate`."""
    torch.manual_seed(stage.seed)
    generator.requires_grad_(False)
    if not config.cross_view.masks:  # the linear objective stands for the pictures' and must see what they see
        response = response.whole()
    navigation = initial_navigation(generator, w_can, response, deviations, frames, config, backbone)
    sampler = RunSampler(frames, deviations, silence.to(w_can.device), config, stage.seed)
    factors = response.factors()

    def linear(parts: dict[str, Tensor]) -> Tensor:
        return linear_objective(navigation, sampler, factors, config, parts)

    def warm_step(number: int, fraction: float) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        return {"loss": linear(parts), **parts}

    bases = [*navigation.blendshapes.parameters()]
    navigation.train()
    stage.part(0.05, 0.35).optimise(
        [*navigation.encoder_groups(config.rate, config.backbone_share), {"params": bases, "lr": config.rate_basis}],
        warm_step,
        config.warm_minutes,
        config.warm_steps,
    )
    views = ViewSampler(frames, config, stage.seed)

    def image_step(number: int, fraction: float) -> dict[str, Tensor]:
        i, j = views.draw()
        up, low = cross_view_loss(navigation, generator, stage.render, i, j, config.cross_view)
        parts = {"up": up, "low": low}
        return {"loss": up + low + config.linear_weight * linear(parts), **parts}

    stage.part(0.35, 1.0).optimise(
        [
            *navigation.encoder_groups(config.rate_image, config.backbone_share),
            {"params": bases, "lr": config.rate_basis},
        ],
        image_step,
        config.image_minutes,
        config.image_steps,
    )
    navigation.eval().requires_grad_(False)
    rest_in_silence(navigation, silence.to(w_can.device))
    set_axes(navigation, generator, response, frames)
    return without_faint(navigation, generator, frames, config)


def finish_navigation(
    navigation: Navigation,
    generator: Generator,
    response: Response,
    frames: Frames,
    config: NavigationTrainingConfig,
    stage: Stage,
) -> Navigation:
    """Steps 6 and 7, in place, as far as the config wants them; returns `navigation`."""
    coefficients = training_coefficients(navigation, frames)
    if config.leakage_removal is not None:
        stage.note(
            **remove_leakage(
                navigation, generator, coefficients, frames, stage.render, config.leakage_removal, response
            )
        )
    if config.anchor is not None:
        error = refine_anchor(navigation, generator, coefficients, frames, stage.render, config.anchor, config.regional)
        stage.note(anchor_error=error)
    return navigation


def linear_objective(
    navigation: Navigation,
    sampler: RunSampler,
    factors: tuple[Tensor, Tensor],
    config: NavigationTrainingConfig,
    parts: dict[str, Tensor],
) -> Tensor:
    """Linear cross-view loss of a batch of runs, and silence; the parts are written into `parts` for the log."""
    features, blink, target, swap = sampler.draw()
    a_exp, a_lip = navigation.expression(features, blink), navigation.lips(features)[swap]
    parts["linear"] = linear_cross_view_loss(
        navigation, a_exp, a_lip, target, target[swap], factors, config.cross_view.routing,
        swapped=swap != torch.arange(len(swap), device=swap.device),
    )  # fmt: skip
    quiet = sampler.quiet()
    b_exp, b_lip = navigation.blendshapes()
    rest = navigation.expression(quiet, torch.zeros(quiet.shape[0], quiet.shape[1] // 2).to(quiet)) @ b_exp.T
    step = rest + navigation.lips(quiet) @ b_lip.T
    parts["silence"] = sum((step @ factor.T).square().sum(-1).mean() for factor in factors)
    return parts["linear"] + config.silence_weight * parts["silence"]


@torch.no_grad()
def measure_response(generator: Generator, w_can: Tensor, seen: Tensor, deviations: Tensor) -> Response:
    """Finite differences of what is seen of upper and lower face along every whitened coordinate of w."""
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
    return Response.scaled(*(j @ j.T for j in jacobians), deviations)


def initial_navigation(
    generator: Generator,
    w_can: Tensor,
    response: Response,
    deviations: Tensor,
    frames: Frames,
    config: NavigationTrainingConfig,
    backbone: SpeechBackbone | None = None,
) -> Navigation:
    """A Navigation whose bases solve the linearised problem; its encoders know nothing but what the backbone does."""
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
            backbone=backbone and backbone.config,
        )
    )
    if backbone is not None:
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
    to_exp, _ = projections(response, directions, config.n_exp)
    start_blink(navigation, frames.blink, (deviations @ to_exp.T).cpu())
    return navigation.to(w_can.device)


@torch.no_grad()
def start_blink(navigation: Navigation, blink: Tensor, a_exp: Tensor) -> None:
    """Least squares of a_exp [T, n_exp] on blink [T] and its square; the constant is left to the sound."""
    columns = torch.stack([blink, blink.square(), torch.ones_like(blink)], dim=-1)
    ridge = 1e-3 * len(blink) * torch.diag(torch.tensor([1.0, 1.0, 0.0]))
    fit = torch.linalg.solve(columns.T @ columns + ridge, columns.T @ a_exp)
    navigation.expression_encoder.blink.linear.copy_(fit[0])
    navigation.expression_encoder.blink.quadratic.copy_(fit[1])


class RunSampler:
    """Batches of runs of frames: augmented features, blink, fitted deviations, and who lends whom the lips."""

    def __init__(
        self, frames: Frames, deviations: Tensor, silence: Tensor, config: NavigationTrainingConfig, seed: int
    ):
        self.frames, self.deviations, self.silence, self.config = frames, deviations, silence, config
        self.device = deviations.device
        self.order = Shuffle(len(frames.clips), seed + 4)
        self.std = torch.cat(frames.features).std(dim=0).to(self.device)
        self.length = min(config.run, min(len(clip) for clip in frames.clips))
        self.random = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """features [B, 2F, D], blink [B, F], deviations [B, F, W], swap [B] (identity where not swapped)."""
        features, blink, target = [], [], []
        for clip in self.order.next_indices(self.config.clips):
            start, length = int(self.frames.starts[clip]), len(self.frames.clips[clip])
            first = int(self.random.integers(0, length - self.length + 1))
            rows = slice(start + first, start + first + self.length)
            features.append(self.frames.features[clip][2 * first : 2 * (first + self.length)])
            blink.append(self.frames.blink[rows])
            target.append(self.deviations[rows])
        features, blink = torch.stack(features).to(self.device), torch.stack(blink).to(self.device)
        swap = np.arange(len(features))
        others = np.roll(swap, 1)  # a fixed partner: the batch itself is random
        swap = np.where(self.random.random(len(swap)) < self.config.cross_view.p_swap, others, swap)
        return self.augment(features), blink, torch.stack(target), torch.from_numpy(swap).to(self.device)

    def quiet(self) -> Tensor:
        """Two runs of silence, [2, 2F, D]."""
        length = min(2 * self.length, len(self.silence) // 2 * 2)
        firsts = 2 * self.random.integers(0, (len(self.silence) - length) // 2 + 1, 2)
        return self.augment(torch.stack([self.silence[first : first + length] for first in firsts]))

    def augment(self, features: Tensor) -> Tensor:
        """Other voices and rooms, in feature space: gain and offset per channel and run, noise, a masked span."""
        batch, steps, channels = features.shape
        noise = self.config.noise
        gain = 1 + 0.5 * noise * torch.randn(batch, 1, channels, device=self.device)
        offset = noise * torch.randn(batch, 1, channels, device=self.device)
        white = noise * torch.randn(batch, steps, channels, device=self.device)
        features = features * gain + self.std * (offset + white)
        for row in range(batch):
            if self.random.random() < 0.3:
                span = int(self.random.integers(1, 6))
                first = int(self.random.integers(0, max(1, steps - span)))
                features[row, first : first + span] = features[row].mean(dim=0)
        return features


class ViewSampler:
    """Pairs of training frames (i, j) with pictures, cameras, masks and the sound around them."""

    def __init__(self, frames: Frames, config: NavigationTrainingConfig, seed: int):
        self.frames, self.config = frames, config
        self.order = Shuffle(len(frames), seed + 5)
        self.random = np.random.default_rng(seed + 6)

    def draw(self) -> tuple[View, View]:
        """i, and with probability p_swap another frame j, else i again."""
        i = self.view(self.order.next_indices(1)[0])
        if self.random.random() >= self.config.cross_view.p_swap:
            return i, i
        return i, self.view(int(self.random.integers(len(self.frames))))

    def view(self, frame: int) -> View:
        """One frame with +-context frames of sound, as far as its clip goes."""
        frames, device = self.frames, self.frames.device
        clip, number = int(frames.clip_of[frame]), int(frame - frames.starts[frames.clip_of[frame]])
        start = max(0, number - self.config.context)
        end = min(len(frames.clips[clip]), number + self.config.context + 1)
        first = int(frames.starts[clip])
        return View(
            features=frames.features[clip][2 * start : 2 * end].to(device),
            blink=frames.blink[first + start : first + end].to(device),
            centre=number - start,
            camera=frames.camera([frame]),
            image=frames.read("images", [frame])[0],
            mask_upper=frames.read("mask_upper", [frame])[0],
            mask_lower=frames.read("mask_lower", [frame])[0],
        )


@torch.no_grad()
def training_coefficients(navigation: Navigation, frames: Frames) -> tuple[Tensor, Tensor]:
    """a_exp [T, n_exp], a_lip [T, n_lip] of all training frames."""
    device = navigation.w_can.device
    exp, lip = [], []
    for clip, features in enumerate(frames.features):
        blink = frames.blink[int(frames.starts[clip]) : int(frames.starts[clip + 1])].to(device)
        exp.append(navigation.expression(features[None].to(device), blink[None])[0])
        lip.append(navigation.lips(features[None].to(device))[0])
    return torch.cat(exp), torch.cat(lip)


@torch.no_grad()
def rest_in_silence(navigation: Navigation, silence: Tensor) -> None:
    """Make zero what the encoders say of silence [2F, D]: its steps become part of the anchor; latents stay the same.

    Directions that hardly show drift far from zero while they train, and sliders would begin in odd places.
    """
    frames = len(silence) // 2
    middle = slice(frames // 4, frames - frames // 4)  # the ends hear that nothing is beyond them
    blink = torch.zeros(1, frames).to(silence)
    a_exp = navigation.expression(silence[None], blink)[0, middle].mean(0)
    a_lip = navigation.lips(silence[None])[0, middle].mean(0)
    navigation.w_can.copy_(navigation.latent(a_exp, a_lip))
    encoders = navigation.expression_encoder.audio, navigation.lip_encoder.audio
    units = navigation.unit.split([len(a_exp), len(a_lip)])
    for encoder, rest, unit in zip(encoders, (a_exp, a_lip), units, strict=True):
        shift = rest * unit
        encoder.head.bias -= shift
        encoder.attention.bias += encoder.attention.weight.sum(-1) @ shift  # it weighs neighbours as before


@torch.no_grad()
def set_axes(navigation: Navigation, generator: Generator, response: Response, frames: Frames) -> None:
    """Principal axes inside each branch, ordered by motion, signed, in units of one training standard deviation."""
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
    navigation.rotate(
        *(
            rotation * torch.where(positive < 0, -1.0, 1.0)
            for rotation, positive in zip(rotations, (raised, opened), strict=True)
        )
    )
    coefficients = torch.cat(training_coefficients(navigation, frames), dim=-1)
    std = coefficients.std(dim=0).clamp_min(1e-3)
    extremes = [coefficients.amin(dim=0).clamp(max=0), coefficients.amax(dim=0).clamp(min=0)]
    limits = torch.stack(extremes, dim=-1) / std[:, None]
    navigation.set_units(std, limits)


@torch.no_grad()
def without_faint(
    navigation: Navigation, generator: Generator, frames: Frames, config: NavigationTrainingConfig
) -> Navigation:
    """The navigation with the coefficients that matter: the rest move a lip by hundredths of a millimetre, as sliders
    that do nothing and stand off zero while somebody speaks."""
    coefficients = torch.cat(training_coefficients(navigation, frames), dim=-1)
    sizes = [navigation.config.n_exp, navigation.config.n_lip]
    codes = torch.cat([torch.zeros_like(coefficients[:1]), coefficients.std(dim=0).diag()])
    splats = RegionalHead(generator, navigation, config.regional)(*codes.split(sizes, dim=-1))
    moved, painted = ((x[1:] - x[:1]).square().sum(dim=-1) for x in (splats.means, splats.colors))  # [K, N]
    shown = ((moved / POSITION_UNIT**2 + painted / COLOR_UNIT**2) * splats.opacities[:1]).sum(dim=-1)
    kept = torch.cat([enough(branch, config.motion_kept) for branch in shown.split(sizes)])
    # What is dropped becomes part of the whole head: the upper face as at rest, the lips as they are in speech.
    constant = coefficients.mean(dim=0).index_fill(0, torch.arange(sizes[0]).to(kept.device), 0.0)
    return navigation.keeping(kept.nonzero()[:, 0], constant)


def enough(energies: Tensor, share: float) -> Tensor:
    """bool [K]: the strongest, as few as have `share` of the sum of energies [K] >= 0; all for a share of 1."""
    strongest, order = energies.sort(descending=True)
    before = (strongest.cumsum(0) - strongest) / strongest.sum().clamp_min(1e-12)
    return torch.zeros_like(order, dtype=torch.bool).index_copy(0, order, (before < share) | (share >= 1))


def _brow_motion(navigation: Navigation, generator: Generator, rotation: Tensor) -> Tensor:
    """[n_exp] mean upward motion of the upper face along the rotated expression directions."""
    upper, _ = region_weights(generator)
    b_exp, _ = navigation.blendshapes()
    steps = (b_exp @ rotation).T * navigation.w_scale  # [n_exp, W]
    means = generator.attributes(torch.cat([navigation.w_can[None], navigation.w_can + steps]))["means"]
    return ((means[1:] - means[:1])[..., 1] * upper.to(means)).sum(dim=-1)


def _centred(values: Tensor) -> Tensor:
    return values - values.mean()
