"""The generator in W+ (Image2StyleGAN, Abdal et al. 2019): a separate style for every resolution of the convolutions.

A latent is the concatenation of L styles; the linear path from w to shape, colour and hair takes the first, as does the
smallest convolution. Code that only needs latents of some dimension, and splats, works with it unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator


class WPlusGenerator(nn.Module):
    """A Generator with latents [B, L * W]; attributes as of Generator, `slices` as indices into all styles."""

    w_std: Tensor  # [L * W]

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator
        self.levels = len(generator.config.channels)
        self.w_dim = self.levels * generator.w_dim
        self.register_buffer("w_std", self.to_w_plus(generator.w_std), persistent=False)
        starts = generator.w_dim * torch.arange(self.levels)[:, None]
        self.slices = {
            name: (starts + torch.arange(part.start, part.stop)).flatten() for name, part in generator.slices.items()
        }
        self.template, self.surface = generator.template, generator.surface
        self.texel_part, self.hair_texels = generator.texel_part, generator.hair_texels

    def to_w_plus(self, w: Tensor) -> Tensor:
        """Latents or steps [..., W] of the generator as [..., L * W]: the same style at every resolution."""
        return w.repeat(*[1] * (w.ndim - 1), self.levels)

    def vertices(self, w: Tensor) -> Tensor:
        """Generator.vertices of w [B, L * W]."""
        return self.generator.vertices(w.unflatten(-1, (self.levels, -1))[:, 0])

    def attributes(self, w: Tensor) -> dict[str, Tensor]:
        """Generator.attributes of w [B, L * W]."""
        styles = w.unflatten(-1, (self.levels, -1))
        return self.generator.attributes(styles[:, 0], styles=styles)

    def forward(self, w: Tensor) -> Gaussians:  # [B, L * W] -> batch of B sets of N Gaussians
        """Gaussians of each latent."""
        return Generator.gaussians_from_attributes(self.attributes(w))
