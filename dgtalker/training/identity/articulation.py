"""Articulation: in speech the mouth opens as far as it does in the video.

Encoders learn the mean of what goes with a sound, and a mean moves less than what it is the mean of. So the part of the
lips' motion that goes with the opening of the mouth is enlarged, until the opening varies as much as in the video; its
slope over the true one is then their correlation. Silence stays zero; width and rounding stay as they are, but for what
goes with the opening.

Then the lips are closed at rest: zero becomes a moment of speech in which they are nearly shut. A film without silence
does not show its speaker's rest, and the encoders' guess stands open. Where nobody speaks, a gate brings the face to
zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation
from dgtalker.training.identity.coefficient_axes import set_training_units, training_coefficients
from dgtalker.training.identity.frames import FACE_ENDS, INNER_LIPS, DatasetFrames
from dgtalker.training.identity.regional_head import RegionalHead

SPLATS = 6  # whose mean is a landmark
ROUNDS = 2  # of measuring and enlarging: the opening is no linear function of the coefficients
MIN_CORRELATION, MIN_AMPLITUDE = 0.15, 0.15  # below which there is nothing to enlarge
BATCH = 4


@dataclass(frozen=True)
class ArticulationConfig:
    """Calibration of the opening of the mouth."""

    frames: int = 96  # at which the head is measured, spread over the data set
    amplitude: float = 1.0  # standard deviation of the head's opening over that of the video's
    largest: float = 1.8  # gain
    rest_share: float = 0.02  # share of the moments in speech in which the mouth is shut further than at rest


def calibrate_articulation(
    navigation: Navigation,
    generator: Generator | WPlusGenerator,
    frames: DatasetFrames,
    config: ArticulationConfig,
    regional: bool = True,
) -> dict[str, float]:
    """Change the lip encoder of `navigation` in place; returns correlation, amplitude before and after, and gain.

    regional: see regional_head.py. Nothing is done where the video's mouth or the head's hardly opens, or where they do
    not go together.
    """
    rows = torch.linspace(0, len(frames) - 1, min(config.frames, len(frames))).long()
    truth = frames.aperture()[rows].to(navigation.w_can)
    opening = LipOpening(generator, navigation, regional)
    figures: dict[str, float] = {}
    total = 1.0
    for number in range(ROUNDS + 1):
        lips = training_coefficients(navigation, frames)[1]
        seen = opening(lips[rows])
        amplitude = float(seen.std() / truth.std().clamp_min(1e-9))
        correlation = float(torch.corrcoef(torch.stack([truth, seen]))[0, 1])
        if number == 0:
            figures = {"amplitude_before": amplitude, "correlation": correlation}
        if number == ROUNDS or correlation < MIN_CORRELATION or amplitude < MIN_AMPLITUDE:
            break
        gain = min(config.amplitude / amplitude, config.largest / total)
        total *= gain
        navigation.transform_lips(_gain_along_opening(lips[rows], seen, gain))
        set_training_units(navigation, torch.cat(training_coefficients(navigation, frames), dim=-1))
    rest = close_lips_at_rest(navigation, opening, lips[rows], config.rest_share)
    if rest[1] < rest[0]:
        set_training_units(navigation, torch.cat(training_coefficients(navigation, frames), dim=-1))
    return {**figures, "amplitude": amplitude, "gain": total, "rest_before": rest[0], "rest": rest[1]}


def close_lips_at_rest(navigation: Navigation, opening: LipOpening, lips: Tensor, share: float) -> tuple[float, float]:
    """Move the zero of the lips along the opening, so that a `share` of speech is shut further; opening before, after.

    lips [T, n_lip] of moments in speech. Nothing is done where zero is shut further.
    """
    spoken = opening(lips)
    wanted, zero = float(spoken.quantile(share)), torch.zeros_like(lips[0])
    before = after = float(opening(zero[None]))
    for _ in range(ROUNDS):
        if after <= wanted:
            break
        u, d = _opening_direction(lips, spoken)
        zero = zero - d * (after - wanted) / (u @ d)
        after = float(opening(zero[None]))
    if zero.any():
        navigation.move_origin(torch.zeros(navigation.config.n_exp).to(zero), zero)
    return before, after


def _gain_along_opening(lips: Tensor, opening: Tensor, gain: float) -> Tensor:
    """Matrix [n_lip, n_lip] that enlarges what goes with the opening [T] in coefficients lips [T, n_lip].

    I + (gain - 1) d u^T / u^T d, with u and d of _opening_direction.
    """
    u, d = _opening_direction(lips, opening)
    return torch.eye(len(u)).to(u) + (gain - 1) * torch.outer(d, u) / (u @ d)


def _opening_direction(lips: Tensor, opening: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors u, d [n_lip]: u^T a is the opening by least squares, d what coefficients do on average when it grows."""
    centred, target = lips - lips.mean(dim=0), opening - opening.mean()
    covariance = centred.T @ centred / len(lips)
    ridge = 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
    u = torch.linalg.solve(covariance + ridge, centred.T @ target / len(lips))
    return u, covariance @ u


class LipOpening:
    """Distance of the inner lips [T] of lip coefficients [T, n_lip] with the upper face at rest, in face heights."""

    def __init__(self, generator: Generator | WPlusGenerator, navigation: Navigation, regional: bool):
        self.head, self.n_exp = RegionalHead(generator, navigation, regional), navigation.config.n_exp
        template, w_can = generator.template, navigation.w_can
        jaw = torch.zeros(len(template.expression_names))
        jaw[list(template.expression_names).index("jawOpen")] = 1.0
        opened = template.geometry(expression=jaw).to(w_can)  # the mean head with its lips apart
        texels, landmarks = generator.surface.positions(opened[None])[0], template.landmarks(opened)
        skin = (generator.texel_part == list(template.part_names).index("skin")).nonzero()[:, 0]
        distance = torch.cdist(landmarks[[*INNER_LIPS, *FACE_ENDS]], texels[skin])
        self.carriers = skin[distance.topk(SPLATS, largest=False).indices]  # [4, SPLATS]

    @torch.no_grad()
    def __call__(self, lips: Tensor) -> Tensor:
        """Opening [T] of lip coefficients [T, n_lip]."""
        parts = []
        for rows in lips.split(BATCH):
            means = self.head(rows.new_zeros(len(rows), self.n_exp), rows).means
            upper, lower, top, chin = means[:, self.carriers].mean(dim=2).unbind(1)
            parts.append((upper - lower).norm(dim=-1) / (top - chin).norm(dim=-1))
        return torch.cat(parts)
