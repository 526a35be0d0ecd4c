"""The generator seen from W+ (Abdal et al. 2019): a style of its own for every size of the convolutions.

Its latents are the L styles one after the other; the linear path from w to shape, colour and hair takes the first, as
does the smallest convolution. Everything that only wants latents of some dimension, and splats, works on it unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator


class LayeredGenerator(nn.Module):
    """A Generator with latents [B, L * W]; attributes as of Generator, `slices` as indices into all styles."""

    w_std: Tensor  # [L * W]

    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator
        self.levels = len(generator.config.channels)
        self.w_dim = self.levels * generator.w_dim
        self.register_buffer("w_std", self.lift(generator.w_std), persistent=False)
        starts = generator.w_dim * torch.arange(self.levels)[:, None]
        self.slices = {
            name: (starts + torch.arange(part.start, part.stop)).flatten() for name, part in generator.slices.items()
        }
        self.template, self.surface = generator.template, generator.surface
        self.texel_part, self.hair_texels = generator.texel_part, generator.hair_texels

    def lift(self, w: Tensor) -> Tensor:
        """Latents or steps [..., W] of the generator as [..., L * W]: the same style for all sizes."""
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
