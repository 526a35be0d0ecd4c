"""StyleGAN2's modulated convolutions (Karras et al. 2020), which make the UV map of residual attributes.

Modulation scales the input channels and demodulation the output channels, which equals StyleGAN2's modulated
weights for a batch but keeps one shared weight, so that no grouped convolution is needed.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ModulatedConv(nn.Module):
    """kernel x kernel convolution whose weights are modulated by w, with equalised learning rate."""

    def __init__(self, w_dim: int, channels_in: int, channels_out: int, kernel: int = 3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.style = nn.Linear(w_dim, channels_in)
        nn.init.normal_(self.style.weight, std=0.3 / math.sqrt(w_dim))
        nn.init.ones_(self.style.bias)
        self.gain = 1.0 / math.sqrt(channels_in * kernel * kernel)
        self.padding = kernel // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # [B,Ci,H,H], [B,W] -> [B,Co,H,H]
        """Modulate, convolve, demodulate, add the bias and apply leaky ReLU."""
        """Modulate, convolve, demodulate, add the bias and apply leaky ReLU."""
        style = self.style(w)  # [B,Ci]
        energy = self.weight.square().sum((2, 3))  # [Co,Ci]
        demodulate = torch.rsqrt(style.square() @ energy.T * self.gain**2 + 1e-8) * self.gain  # [B,Co]
        x = F.conv2d(x * style[:, :, None, None], self.weight, padding=self.padding)
        return F.leaky_relu(x * demodulate[:, :, None, None] + self.bias[:, None, None], 0.2) * math.sqrt(2.0)


class SynthesisNetwork(nn.Module):
    """From a learned 8x8 constant, doubled once per further entry of `channels`, to maps that are zero at first."""

    def __init__(self, w_dim: int, channels: tuple[int, ...], out_channels: int, base_size: int = 8):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, channels[0], base_size, base_size))
        self.first = ModulatedConv(w_dim, channels[0], channels[0])
        self.up = nn.ModuleList(ModulatedConv(w_dim, a, b) for a, b in pairwise(channels))
        self.refine = nn.ModuleList(ModulatedConv(w_dim, c, c) for c in channels[1:-1])
        self.to_maps = nn.Conv2d(channels[-1], out_channels, 1)
        for parameter in self.to_maps.parameters():
            nn.init.zeros_(parameter)
        self.size = base_size * 2 ** (len(channels) - 1)

    def forward(self, w: Tensor) -> Tensor:  # [B,W] or [B,L,W] -> [B,out_channels,size,size]
        """Maps of latents w, or of L styles, one per resolution."""
        first, *styles = w.unbind(1) if w.ndim == 3 else [w] * (len(self.up) + 1)
        x = self.first(self.constant.expand(len(w), -1, -1, -1), first)
        for level, (up, style) in enumerate(zip(self.up, styles, strict=True)):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(x, style)
            # The last level has a single convolution: it costs as much as all the others together.
            if level < len(self.refine):
                x = self.refine[level](x, style)
        return self.to_maps(x)
