"""Lips for other voices: what the speech backbone hears stands beside what the lip encoder learned from this film.

A film shows how its mouth moves, but a short one says too little about which sound goes with it: trained on it alone,
the lips follow its speaker and miss other voices. The backbone heard many. Its lip curves are mapped to this head's
coefficients by least squares on what is seen, the curves measured in the film and the coefficients that explain its
pictures. Curves are compared in standard deviations, the film's and those of the backbone's films. The lip encoder then
gives the mean of both, weighted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgtalker.navigation.encoders import BackboneEncoder
from dgtalker.navigation.model import Navigation
from dgtalker.navigation.warm_start import Response, projection_matrices
from dgtalker.speech.lips import CHANNELS, lip_curves
from dgtalker.training.identity.frames import DatasetFrames

RIDGE = 0.02  # per frame, of whitened curves
SLOPE = 0.1  # of the encoder's leaky rectifier below zero


@dataclass(frozen=True)
class BorrowedLipsConfig:
    """How much of the lips is borrowed from the speech backbone."""

    share: float = 0.5  # 0: all is learned from the film, 1: nothing is


def can_borrow(navigation: Navigation) -> bool:
    """Whether there is a backbone whose curves are those that a film is measured by."""
    backbone = navigation.config.backbone
    return backbone is not None and backbone.channels == CHANNELS


@torch.no_grad()
def borrow_lips(
    navigation: Navigation, frames: DatasetFrames, deviations: Tensor, response: Response, config: BorrowedLipsConfig
) -> tuple[Navigation, float]:
    """A Navigation whose lip encoder borrows, and the share of the lips' variance that the curves explain.

    deviations [T, W] of all frames relative to the anchor, whitened; response: of the splats.
    """
    curves = torch.cat([lip_curves(clip.landmarks, clip.scores) for clip in frames.clips]).to(deviations)
    curves = (curves - curves.mean(dim=0)) / curves.std(dim=0).clamp_min(1e-6)
    n_exp = navigation.config.n_exp
    _, to_lip = projection_matrices(response, navigation.blendshapes.directions(), n_exp)
    steps = (navigation.blendshapes.scales / navigation.unit)[n_exp:]  # of what is emitted, along unit directions
    lips = deviations @ to_lip.T / steps
    mean = lips.mean(dim=0)
    penalty = RIDGE * len(curves) * torch.eye(curves.shape[1]).to(curves)
    linear = torch.linalg.solve(curves.T @ curves + penalty, curves.T @ (lips - mean))  # [C, n_lip]
    left = (lips - mean - curves @ linear).square().sum()
    explained = 1 - left / (lips - mean).square().sum().clamp_min(1e-12)
    return _with_readout(navigation, linear.T, mean, config.share), float(explained)


def _with_readout(navigation: Navigation, weight: Tensor, bias: Tensor, share: float) -> Navigation:
    """The lips become (1 - share) times what they are plus share (bias + weight curves), weight [n_lip, C].

    Each curve passes the mixing layer's rectifier in both signs, in channels of its own.
    """
    old = navigation.lip_encoder.audio
    assert isinstance(old, BackboneEncoder)
    own, count = old.mix.out_channels, weight.shape[1]
    config = replace(navigation.config, lip_hidden=own + 2 * count)
    state = navigation.state_dict()
    wider = Navigation(config).to(weight.device)
    mix, mix_bias = state["lip_encoder.audio.mix.weight"], state["lip_encoder.audio.mix.bias"]
    passing = mix.new_zeros(2 * count, *mix.shape[1:])
    middle, first = mix.shape[2] // 2, mix.shape[1] - count  # the curves come after the hidden channels
    for k in range(count):
        passing[k, first + k, middle], passing[count + k, first + k, middle] = 1.0, -1.0
    readout = share * weight / (1 + SLOPE)
    head = state["lip_encoder.audio.head.weight"][..., 0]
    state["lip_encoder.audio.mix.weight"] = torch.cat([mix, passing])
    state["lip_encoder.audio.mix.bias"] = torch.cat([mix_bias, mix_bias.new_zeros(2 * count)])
    state["lip_encoder.audio.head.weight"] = torch.cat([(1 - share) * head, readout, -readout], dim=1)[..., None]
    state["lip_encoder.audio.head.bias"] = (1 - share) * state["lip_encoder.audio.head.bias"] + share * bias
    wider.load_state_dict(state)
    return wider.train(navigation.training).requires_grad_(False)
