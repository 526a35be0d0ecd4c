"""Stage T, pivotal tuning (PTI, Roich et al. 2021): the generator learns this person on the pivots.

The pictures are compared before backgrounds of random colours, or else splats between hair and neck turn white.
Three regularisers keep the rest of the head as in the prior:
* locality: for random latents near the anchor, splats that no pivot shows keep the attributes of the old generator, and
  all splats keep their response to a change of the latent;
* silhouette: the alpha of side views stays that of the old generator;
* smoothness: neighbouring texels move together, so that a face fitted from the front keeps its shape from the side.
Colours of unseen splats follow the seen ones near them, so that hair and skin continue round the head. At the end,
splats that the pivots do not show, or only at a grazing angle, are regularised (unseen_regions.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.splats import measure_visibility
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.inversion import InversionConfig, Pivots, photometric_loss
from dgtalker.training.identity.unseen_regions import mirror_colors, regularise_grazing_colors, restore_unseen
from dgtalker.training.stage import ShuffledIndices, Stage
from dgtalker.training.texel_neighbours import find_texel_neighbours

# Parameters of the generator by learning rate, relative to TuningConfig.rate.
RATES = {
    "color_mean": 1.0,
    "offset_mean": 0.15,
    "log_scale_mean": 1.0,
    "axis_angle_mean": 0.5,
    "logit_opacity_mean": 2.0,
    "color_basis": 0.1,
    "hair_basis": 0.1,
    "synthesis": 0.1,
}
FAST_SPLATS = 16000  # of a "fast" head; more splats cover fewer pixels each

# What counts as one unit of change of an attribute in the locality term.
UNITS = {"means": 0.03, "log_scales": 0.3, "axis_angles": 0.3, "logit_opacities": 1.0, "colors": 0.1}

# Cosines between normal and view direction: below the first a splat is seen edge-on and counts as unseen, above the
# second it counts in full. FRONTAL: the same for colour alone, into which the background bleeds further.
GRAZING, FRONTAL = (0.15, 0.45), (0.45, 0.9)


@dataclass(frozen=True)
class TuningConfig:
    """Pivotal tuning of the generator."""

    max_steps: int = 1200
    minutes: float = 25.0  # at most, whatever is left of the steps
    batch: int = 2  # pivots per step
    rate: float = 5e-3  # learning rate of colours; the others follow RATES
    rate_pivots: float = 5e-3
    rate_pose: float = 1e-4
    locality: bool = True  # all regularisers; False for comparison only
    locality_every: int = 4  # steps between locality terms; each is weighted by this number
    locality_unseen: float = 0.1  # weight of unseen splats' own attributes
    locality_response: float = 0.02  # weight of the response to latent changes, all splats
    silhouette: float = 0.3  # weight of the side views' alpha
    smoothness: float = 2.0  # weight of neighbouring texels' difference in motion, per decimetre
    radius: float = 1.0  # of random latents around the anchor, standard deviations
    visible: float = 1.0  # sum of blending weights over pixels that makes a splat fully seen
    harmonise_every: int = 100  # steps between updates of the target colours of unseen splats


def tune_generator(
    generator: Generator,
    pivots: Pivots,
    frames: DatasetFrames,
    config: TuningConfig,
    stage: Stage,
    losses: InversionConfig,
    early: tuple[int, Callable[[], None]] | None = None,
) -> Generator:
    """Fine-tune generator and pivots in place; returns the personalised generator, frozen.

    early: a number of steps, and what is called once after them; it may look at both.
    """
    old = copy.deepcopy(generator).requires_grad_(False)
    groups = _parameter_groups(generator, config)
    pivots.requires_grad_(True)
    groups += [
        {"params": [pivots.w_can, pivots.deviation], "lr": config.rate_pivots},
        {"params": [pivots.pose], "lr": config.rate_pose},
    ]
    seen = pivot_visibility(generator, pivots, frames, config, stage)
    locality = LocalityRegulariser(old, pivots, seen, config, stage) if config.locality else None
    order = ShuffledIndices(len(pivots.index), stage.seed + 2)
    colours = torch.Generator().manual_seed(stage.seed + 9)

    def step(number: int, fraction: float) -> dict[str, Tensor]:
        background = torch.rand(3, generator=colours).to(pivots.w_can)  # so that no splat takes the colour of one
        rows = order.next_indices(config.batch)
        picture = photometric_loss(generator, pivots, frames, rows, losses, stage, background)
        parts = {"picture": picture, "loss": picture}
        if locality is not None and number % config.locality_every == 0:
            if number % config.harmonise_every == 0:
                locality.update_color_targets(generator, pivots.w_can.detach())
            near = locality(generator, pivots.w_can.detach())
            parts = {**parts, "locality": near, "loss": picture + config.locality_every * near}
        if locality is not None:
            parts["loss"] = parts["loss"] + config.smoothness * locality.motion_roughness(generator)
        return parts

    done = 0

    def after_step() -> None:
        nonlocal done
        with torch.no_grad():
            pivots.pose.sub_(pivots.pose.mean(dim=0))
        done += 1
        if early is not None and done == early[0]:
            early[1]()

    stage.optimise(groups, step, config.minutes, config.max_steps, after_step)
    pivots.requires_grad_(False)
    if config.locality:
        seen = pivot_visibility(generator, pivots, frames, config, stage)
        smaller = replace(config, visible=config.visible * min(1.0, FAST_SPLATS / len(seen)))
        frontal = pivot_visibility(generator, pivots, frames, smaller, stage, FRONTAL)
        restore_unseen(generator, old, pivots.w_can.detach(), seen)
        known = mirror_colors(generator, pivots.w_can.detach(), frontal)
        regularise_grazing_colors(generator, pivots.w_can.detach(), known)
    return generator.requires_grad_(False).eval()


def _parameter_groups(generator: Generator, config: TuningConfig) -> list[dict]:
    groups = []
    for name, parameter in generator.named_parameters():
        rate = next((rate for prefix, rate in RATES.items() if name.split(".")[0] == prefix), None)
        parameter.requires_grad_(rate is not None)  # the mapping network is not used here
        if rate is not None:
            groups.append({"params": [parameter], "lr": config.rate * rate})
    return groups


@torch.no_grad()
def pivot_visibility(
    generator: Generator,
    pivots: Pivots,
    frames: DatasetFrames,
    config: TuningConfig,
    stage: Stage,
    grazing: tuple[float, float] = GRAZING,
    views: int = 12,
) -> Tensor:
    """How well the pivots show each splat, [N] in 0..1: the maximum over `views` of them.

    grazing: cosines to the view from which a splat begins to count, and counts in full.
    """
    rows = torch.linspace(0, len(pivots.index) - 1, min(views, len(pivots.index))).round().long().tolist()
    most = torch.zeros_like(generator.texel_part, dtype=pivots.w_can.dtype)
    for row in rows:
        splats = generator(pivots.latents([row]))[0]
        cameras = frames.cameras(pivots.index[[row]].tolist())
        with torch.enable_grad():
            weight = measure_visibility(splats, cameras, stage.render)
        weight = weight * ((view_cosines(splats, cameras) - grazing[0]) / (grazing[1] - grazing[0])).clamp(0, 1)
        most = torch.maximum(most, weight)
    return (most / config.visible).clamp(0, 1)


def view_cosines(splats: Gaussians, cameras: Camera) -> Tensor:
    """Cosine [N] between each splat's normal, its third axis, and the direction to the first camera."""
    w, x, y, z = torch.nn.functional.normalize(splats.quats, dim=-1).unbind(-1)
    normal = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], dim=-1)
    return (normal * torch.nn.functional.normalize(cameras.position[0] - splats.means, dim=-1)).sum(dim=-1)


class LocalityRegulariser:
    """Keeps the tuned generator close to the old one where the pivots give no evidence."""

    def __init__(self, old: Generator, pivots: Pivots, seen: Tensor, config: TuningConfig, stage: Stage):
        self.old, self.config, self.stage = old, config, stage
        self.seen = seen  # [N]
        self.spread = pivots.deviation.detach().std(dim=0) + 0.3  # [W] of random latents, from that of the pivots
        self.color_shift = torch.zeros(len(seen), 3, device=seen.device)  # target colour change of unseen splats
        self.random = torch.Generator().manual_seed(stage.seed + 3)
        self.first, self.second = find_texel_neighbours(old)

    def __call__(self, generator: Generator, w_can: Tensor) -> Tensor:
        """Locality and silhouette loss at the anchor and one random latent near it."""
        noise = torch.randn(len(w_can), generator=self.random).to(w_can.device)
        w = torch.stack([w_can, w_can + self.config.radius * self.old.w_std * self.spread * noise])
        with torch.no_grad():
            before = self.old.attributes(w)
        after = generator.attributes(w)
        unseen, loss = 1 - self.seen, w.new_zeros(())
        for name, unit in UNITS.items():
            change = (after[name] - before[name]) / unit
            change = change if change.ndim == 3 else change[..., None]
            if name == "colors":
                loss = loss + self._unseen_loss(change - self.color_shift / unit, unseen)
            else:
                loss = loss + self._unseen_loss(change, unseen)
            loss = loss + self.config.locality_response * huber(change[1] - change[0]).mean()
        return loss + self.config.silhouette * self.silhouette_loss(generator, after, before)

    def _unseen_loss(self, change: Tensor, unseen: Tensor) -> Tensor:
        return self.config.locality_unseen * (huber(change) * unseen[:, None]).mean()

    def silhouette_loss(self, generator: Generator, after: dict[str, Tensor], before: dict[str, Tensor]) -> Tensor:
        """L1 between the alpha of tuned and old generator in one random side view of the random latent."""
        side = 1 if torch.rand((), generator=self.random) < 0.5 else -1
        yaw = side * (30 + 60 * float(torch.rand((), generator=self.random)))
        cameras = Camera.stack([orbit_camera(yaw=yaw, size=128)]).to(self.seen.device)
        with torch.no_grad():
            _, wanted = self.stage.render(self.old.gaussians_from_attributes(before)[1], cameras)
        _, alpha = self.stage.render(generator.gaussians_from_attributes(after)[1], cameras)
        return (alpha - wanted).abs().mean()

    def motion_roughness(self, generator: Generator) -> Tensor:
        """Mean difference between the motions of neighbouring texels since the old generator, decimetres."""
        motion = generator.offset_mean - self.old.offset_mean
        return (motion[self.first] - motion[self.second]).abs().mean()

    @torch.no_grad()
    def update_color_targets(
        self, generator: Generator, w_can: Tensor, reach: float = 0.35, samples: int = 2000
    ) -> None:
        """Set the target colour change of unseen splats to the mean one of seen splats of their part nearby."""
        before, after = self.old.attributes(w_can[None]), generator.attributes(w_can[None])
        change, means = (after["colors"] - before["colors"])[0], before["means"][0]
        for part in self.old.texel_part.unique():
            mine = (self.old.texel_part == part).nonzero()[:, 0]
            known = mine[self.seen[mine] > 0.5]
            if len(known) < 20:
                continue
            known = known[torch.linspace(0, len(known) - 1, min(samples, len(known))).long()]
            distance = torch.cdist(means[mine], means[known])
            weight = (-(distance.square()) / (2 * reach**2)).exp() + 1e-4  # far from all of them: their plain mean
            self.color_shift[mine] = weight @ change[known] / weight.sum(dim=1, keepdim=True)


def huber(change: Tensor) -> Tensor:
    """Huber loss per element: quadratic up to one unit, linear beyond, so that single texels may differ."""
    return torch.nn.functional.huber_loss(change, torch.zeros_like(change), reduction="none")
