"""Perceptual distance of pictures: shift-tolerant LPIPS, its AlexNet variant (Ghildyal and Liu, ECCV 2022).

    distance = sum over 5 layers of mean over pixels of weights . (features(a) - features(b))^2

LPIPS (Zhang et al., CVPR 2018) on a network whose strides are blurred (Zhang, ICML 2019), so that a picture moved by a
pixel stays close. Its values are its own: they are not those of LPIPS and compare only with each other, at one picture
size. 0 is the same picture.

The trained weights are in the package stlpips_pytorch (BSD-2). None of its code is imported: its network needs packages
that it does not declare, and parts of it have another licence. Nothing is unpickled either: the file is checked by its
hash, and the numbers are read from where they lie in that very file.

One pair of 256² pictures costs about half a second of CPU time, with the gradient of one of them 1.3 s.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgtalker.errors import UserError

PACKAGE, VERSION = "stlpips_pytorch", "0.0.2"
WEIGHTS = Path("weights", "vST0.0", "alex_shift_tolerant.pth")
SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
# float32 arrays of that file: shape of a kernel, and the bytes where the kernel and its biases begin
_CONVOLUTIONS = (
    ((64, 3, 11, 11), 9801456, 9894392),
    ((192, 64, 5, 5), 2666400, 2665624),
    ((384, 192, 3, 3), 5752, 4208),
    ((256, 384, 3, 3), 6255544, 3895208),
    ((256, 256, 3, 3), 3896240, 2662280),
)
_PADDING = (2, 2, 1, 1, 1)
_CHANNEL_WEIGHTS = (9898008, 9896200, 9894656, 9896976, 9898272)  # of the features of the five layers
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of colours in -1..1, as LPIPS has them
_EPSILON = 1e-10


class PerceptualDistance(nn.Module):
    """Distance of pictures, differentiable in both; the network itself is fixed."""

    def __init__(self, kernels: list[Tensor], biases: list[Tensor], channel_weights: list[Tensor]):
        super().__init__()
        self.convolutions = nn.ModuleList()
        for kernel, bias, padding in zip(kernels, biases, _PADDING, strict=True):
            convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding=padding)
            convolution.load_state_dict({"weight": kernel, "bias": bias})
            self.convolutions.append(convolution)
        for i, weights in enumerate(channel_weights):
            self.register_buffer(f"channels{i}", weights[None, :, None, None])
        self.register_buffer("shift", torch.tensor(_SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[None, :, None, None])
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]

    def forward(self, image: Tensor, target: Tensor) -> Tensor:  # [N,H,W,3] x 2 -> [N]
        """Distances of pictures [N,H,W,3] in 0..1, at least 22 pixels wide and high: [N]."""
        total = image.new_zeros(len(image))
        for i, (a, b) in enumerate(zip(self._features(image), self._features(target), strict=True)):
            total = total + F.conv2d((a - b).square(), self.get_buffer(f"channels{i}")).mean(dim=(1, 2, 3))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        """Features of five layers, every pixel's of length 1."""
        x = (2 * images.permute(0, 3, 1, 2) - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        first, second, third, fourth, fifth = self.convolutions
        found = [F.relu(_halve(first(x)))]
        found.append(F.relu(second(_halve(F.max_pool2d(found[-1], 3, stride=1)))))
        found.append(F.relu(third(_halve(F.max_pool2d(found[-1], 3, stride=1)))))
        found.append(F.relu(fourth(found[-1])))
        found.append(F.relu(fifth(found[-1])))
        return [features / (features.square().sum(1, keepdim=True).sqrt() + _EPSILON) for features in found]


def _halve(x: Tensor) -> Tensor:
    """Every second pixel of x [N,C,H,W], blurred by the kernel (1, 2, 1) / 4 across and down."""
    line = x.new_tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


@lru_cache(maxsize=1)
def load_perceptual_distance() -> PerceptualDistance:
    """The network with its trained weights, on the CPU.

    Raises UserError if the package is not installed or its weights are not those that are known.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UserError(f"ST-LPIPS needs the package {PACKAGE}: pip install {PACKAGE}=={VERSION}")
    path = Path(folders[0]) / WEIGHTS
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"ST-LPIPS needs the weights of {PACKAGE} {VERSION}: pip install {PACKAGE}=={VERSION}")

    def read_array(start: int, shape: tuple[int, ...]) -> Tensor:
        values = np.frombuffer(content, "<f4", int(np.prod(shape)), start)
        return torch.from_numpy(values.astype(np.float32).reshape(shape))

    kernels = [read_array(start, shape) for shape, start, _ in _CONVOLUTIONS]
    biases = [read_array(start, shape[:1]) for shape, _, start in _CONVOLUTIONS]
    weights = [read_array(at, shape[:1]) for at, (shape, *_) in zip(_CHANNEL_WEIGHTS, _CONVOLUTIONS, strict=True)]
    return PerceptualDistance(kernels, biases, weights)
