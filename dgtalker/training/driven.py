"""The head as its two streams drive it: what baking distils and what the anchor is settled for.

    splats = A(w_can) + (1 - lower) (A(w_can + B_exp a_exp) - A(w_can))
                      + (1 - upper) (A(w_can + B_lip a_lip) - A(w_can))

A is the generator up to the splats' raw attributes; upper and lower say how far a splat belongs to the upper and the
lower face. W cannot express some motions of the one region without a trace in the other, however the directions are
turned (docs/ablation.md); here the trace ends where the other region begins. Hair belongs to neither stream, nor does
the skin below it: what shows through a fringe differs between the days of a recording, and speech must not comb it.
Not regional, the head is the plain equation: A(w_can + B_exp a_exp + B_lip a_lip).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.navigation.model import Navigation
from dgtalker.training.splats import Renderer, region_weights, visibility
from dgtalker.training.stages import default_render

FRONT = (-30.0, 0.0, 30.0)  # degrees of yaw from which it is seen what hair covers
BLENDED = ("means", "log_scales", "axis_angles", "logit_opacities", "colors")


class DrivenHead:
    """Coefficients to splats through the generator."""

    def __init__(self, generator: Generator, navigation: Navigation, regional: bool, render: Renderer = default_render):
        self.generator, self.navigation, self.regional = generator, navigation, regional
        if regional:
            upper, lower = region_weights(generator)
            bare = 1 - hair_cover(generator, navigation.w_can, render)
            self.gains = (1 - lower) * bare, (1 - upper) * bare  # [N] of expression and lips

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
            by_exp, by_lip = (gain.view(-1, *[1] * (rest.ndim - 2)) for gain in self.gains)
            out[name] = rest + by_exp * (exp - rest) + by_lip * (lip - rest)
        return Generator.gaussians_from_attributes(out)


def hair_cover(generator: Generator, w: Tensor, render: Renderer) -> Tensor:
    """How much of each splat of the head w [W] hair hides from the front, [N] in [0, 1]; of hair itself: 1."""
    with torch.no_grad():
        splats = generator(w[None])[0]
    cameras = Camera.stack([orbit_camera(yaw=yaw) for yaw in FRONT]).to(w.device)
    shaved = replace(splats, opacities=splats.opacities.index_fill(0, generator.hair_texels, 0.0))
    seen, free = (visibility(head, cameras, render) for head in (splats, shaved))
    cover = torch.where(free > 1e-3, 1 - seen / free.clamp_min(1e-3), 0.0)
    return (2 * cover).clamp(0, 1).index_fill(0, generator.hair_texels, 1.0)  # hidden by half: as good as hidden
