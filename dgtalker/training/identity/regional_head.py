"""The head as its two streams drive it: what baking distils and what the anchor is settled for.

    splats = A(w_can) + upper (A(w_can + B_exp a_exp) - A(w_can)) + (1 - upper) (A(w_can + B_lip a_lip) - A(w_can))

A is the generator up to the splats' raw attributes; upper says how far a splat belongs to the upper face. Some motions
of the one region W cannot express without a trace in the other, and purified directions keep some of it (`method` in
docs/ablation.md); here the trace ends where the other region begins. Hair belongs to neither stream, and the forehead
moves but is not painted: what falls over it differs between the days of a recording, and brows do not comb.
Not regional, the head is the plain equation: A(w_can + B_exp a_exp + B_lip a_lip).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.splats import region_weights
from dgtalker.navigation.model import Navigation

PAINT = ("logit_opacities", "colors")
BROW_TOPS = (105, 334)  # MediaPipe landmarks, upper edge of either brow
FADE = 0.12  # dm
BLENDED = ("means", "log_scales", "axis_angles", "logit_opacities", "colors")


class RegionalHead:
    """Coefficients to splats through the generator."""

    def __init__(self, generator: Generator, navigation: Navigation, regional: bool):
        self.generator, self.navigation, self.regional = generator, navigation, regional
        if regional:
            upper, _ = region_weights(generator)
            bald = torch.ones_like(upper).index_fill(0, generator.hair_texels, 0.0)
            self.gains = upper * bald, (1 - upper) * bald  # [N] of expression and lips
            self.painting = 1 - forehead(generator, navigation.w_can)  # [N] further of the expression's paint

    @property
    def streams(self) -> Tensor:
        """Masks of coefficients [M, K] whose effects add up: expression and lips if regional, else all together."""
        sizes = self.navigation.config
        exp = torch.arange(sizes.n_exp + sizes.n_lip) < sizes.n_exp
        return torch.stack([exp, ~exp]) if self.regional else torch.ones_like(exp)[None]

    def __call__(self, a_exp: Tensor, a_lip: Tensor, step: Tensor | float = 0.0) -> Gaussians:
        """Splats [B, N] of a_exp [B, ke], a_lip [B, kl]; step [W] moves the anchor. Differentiable."""
        latent = self.navigation.latent
        if not self.regional:
            return self.generator(latent(a_exp, a_lip) + step)
        none_exp, none_lip = torch.zeros_like(a_exp), torch.zeros_like(a_lip)
        w = torch.cat([latent(a_exp, none_lip), latent(none_exp, a_lip), latent(none_exp[:1], none_lip[:1])]) + step
        attributes = self.generator.attributes(w)
        out = {"rest_quats": attributes["rest_quats"]}
        for name in BLENDED:
            exp, lip, rest = attributes[name].split([len(a_exp), len(a_exp), 1])
            gains = self.gains[0] * self.painting if name in PAINT else self.gains[0], self.gains[1]
            by_exp, by_lip = (gain.view(-1, *[1] * (rest.ndim - 2)) for gain in gains)
            out[name] = rest + by_exp * (exp - rest) + by_lip * (lip - rest)
        return Generator.gaussians_from_attributes(out)


def forehead(generator: Generator, w: Tensor) -> Tensor:
    """How far splats of the head w [W] lie above the brows, [N]: 0 up to there, 1 from FADE on."""
    with torch.no_grad():
        vertices = generator.vertices(w[None])
        top = generator.template.landmarks(vertices[0])[list(BROW_TOPS), 1].mean()
        height = generator.surface.positions(vertices)[0, :, 1]
    return ((height - top) / FADE).clamp(0, 1)
