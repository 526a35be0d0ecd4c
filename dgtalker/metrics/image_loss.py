"""Loss of rendered images: L1, structural similarity and image gradients; and metrics of image tensors in 0..1."""

import torch
from torch import Tensor
from torch.nn import functional as F


def image_loss(image: Tensor, target: Tensor, ssim_weight: float = 0.2, gradient_weight: float = 0.5) -> Tensor:
    """Scalar loss of images [C,H,W,3] in 0..1."""
    loss = (image - target).abs().mean()
    if ssim_weight:
        loss = loss + ssim_weight * (1 - ssim_map(image, target).mean())
    if gradient_weight:
        for dim in (1, 2):
            loss = loss + gradient_weight * (image.diff(dim=dim) - target.diff(dim=dim)).abs().mean()
    return loss


def ssim_map(image: Tensor, target: Tensor, window: int = 7) -> Tensor:  # [C,H,W,3] x 2 -> [C,3,H',W']
    """Structural similarity (Wang et al. 2004) with a box window, several times cheaper than the Gaussian one."""
    x, y = image.permute(0, 3, 1, 2), target.permute(0, 3, 1, 2)
    stacked = torch.cat([x, y, x * x, y * y, x * y], 1)
    mean_x, mean_y, xx, yy, xy = F.avg_pool2d(stacked, window, stride=1).chunk(5, 1)
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))


def tensor_psnr(image: Tensor, target: Tensor) -> float:
    """PSNR in dB of float images in 0..1, at most 100; `image` is clamped first, nothing is rounded to 8 bits."""
    return float(-10 * torch.log10(((image.clamp(0, 1) - target) ** 2).mean().clamp_min(1e-10)))
