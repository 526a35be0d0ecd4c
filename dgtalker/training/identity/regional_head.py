"""The head driven by region: each stream moves its own region only. This is the head that is baked.

    splats = A(w_can) + upper (A(w_can + B_exp a_exp) - A(w_can)) + (1 - upper) (A(w_can + B_lip a_lip) - A(w_can))

A maps a latent to raw splat attributes; upper [N] in 0..1 says how far a splat belongs to the upper face. W cannot
express some motions of one region without a trace in the other, and leakage removal leaves some of it (`method` in
docs/ablation.md); here the trace ends where the other region begins. Hair is moved by neither stream. The forehead
moves but keeps colour and opacity: hair over it differs between recording days and must not follow the brows.
With regional=False the head is the plain equation: A(w_can + B_exp a_exp + B_lip a_lip).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.model import Navigation

APPEARANCE = ("logit_opacities", "colors")
BROW_TOPS = (105, 334)  # MediaPipe landmarks, upper edge of either brow
FADE = 0.12  # decimetres above the brows over which appearance_gain falls to 0
BLENDED_ATTRIBUTES = ("means", "log_scales", "axis_angles", "logit_opacities", "colors")


class RegionalHead:
    """Coefficients -> splats, through the generator."""

    def __init__(self, generator: Generator | WPlusGenerator, navigation: Navigation, regional: bool):
        self.generator, self.navigation, self.regional = generator, navigation, regional
        if regional:
            upper, _ = region_weights(generator)
            not_hair = torch.ones_like(upper).index_fill(0, generator.hair_texels, 0.0)
            self.gains = upper * not_hair, (1 - upper) * not_hair  # [N] of expression and lips
            self.appearance_gain = 1 - forehead_weights(
                generator, navigation.w_can
            )  # [N], on colour and opacity changes by the expression

    @property
    def stream_masks(self) -> Tensor:
        """Bool masks [M, K] of coefficients whose effects add up: expression and lips if regional, else all."""
        sizes = self.navigation.config
        exp = torch.arange(sizes.n_exp + sizes.n_lip) < sizes.n_exp
        return torch.stack([exp, ~exp]) if self.regional else torch.ones_like(exp)[None]

    def __call__(self, a_exp: Tensor, a_lip: Tensor, step: Tensor | float = 0.0) -> Gaussians:
        """Splats [B, N] of a_exp [B, ke], a_lip [B, kl]; step [W] is added to the anchor. Differentiable."""
        latent = self.navigation.latent
        if not self.regional:
            return self.generator(latent(a_exp, a_lip) + step)
        none_exp, none_lip = torch.zeros_like(a_exp), torch.zeros_like(a_lip)
        w = torch.cat([latent(a_exp, none_lip), latent(none_exp, a_lip), latent(none_exp[:1], none_lip[:1])]) + step
        attributes = self.generator.attributes(w)
        out = {"rest_quats": attributes["rest_quats"]}
        for name in BLENDED_ATTRIBUTES:
            exp, lip, rest = attributes[name].split([len(a_exp), len(a_exp), 1])
            gains = self.gains[0] * self.appearance_gain if name in APPEARANCE else self.gains[0], self.gains[1]
            by_exp, by_lip = (gain.view(-1, *[1] * (rest.ndim - 2)) for gain in gains)
            out[name] = rest + by_exp * (exp - rest) + by_lip * (lip - rest)
        return Generator.gaussians_from_attributes(out)


def forehead_weights(generator: Generator | WPlusGenerator, w: Tensor) -> Tensor:
    """Weights [N] of the forehead of the head w [W]: 0 up to the brows, 1 from FADE above them."""
    with torch.no_grad():
        vertices = generator.vertices(w[None])
        top = generator.template.landmarks(vertices[0])[list(BROW_TOPS), 1].mean()
        height = generator.surface.positions(vertices)[0, :, 1]
    return ((height - top) / FADE).clamp(0, 1)
