"""Metrics of uint8 pictures [H,W,3], in numpy; image_loss.py has those of tensors that training needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgtalker.metrics.landmarks import SIZE

PSNR_CEILING = 100.0  # dB of identical pictures, so that means stay finite
RIM = 4.0  # pixels to either side of a head's outline, in a picture of SIZE


@dataclass(frozen=True)
class Outline:
    """Where the outline of a head is, in T frames."""

    rim: np.ndarray  # bool [T,H,W]: near the outline
    inside: np.ndarray  # bool [T,H,W]: of the head, and not near the outline


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 pictures of one shape, at most 100."""
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return float(min(PSNR_CEILING, 10 * np.log10(255.0**2 / max(error, 1e-12))))


def masked_psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """PSNR in dB under a soft mask [H,W] in [0,1]; NaN if the mask is empty."""
    weight = float(mask.sum())
    if weight < 1e-6:
        return float("nan")
    error = (((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(-1) * mask).sum() / weight
    return float(min(PSNR_CEILING, 10 * np.log10(255.0**2 / max(float(error), 1e-12))))


def find_outline(alpha: np.ndarray) -> Outline:
    """The outline of a head with opacity `alpha`, uint8 [T,H,W]: where it crosses one half.

    The rim are the pixels whose centres lie within RIM of it. A frame that is all head or all background has none.
    """
    from scipy.ndimage import distance_transform_edt

    reach = RIM * alpha.shape[-1] / SIZE + 0.5  # the outline is half a pixel before the first pixel beyond it
    head = alpha >= 128
    rim = np.zeros(alpha.shape, bool)
    for t, solid in enumerate(head):
        if solid.any() and not solid.all():
            rim[t] = (distance_transform_edt(solid) + distance_transform_edt(~solid)) <= reach  # one of them is 0
    return Outline(rim, head & ~rim)


def error_share(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Share of the squared error of pictures [T,H,W,3] that lies in a mask, bool [T,H,W]; NaN if they are the same."""
    inside = total = 0.0
    for x, y, where in zip(a, b, mask, strict=True):
        error = ((x.astype(np.float32) - y.astype(np.float32)) ** 2).sum(-1)
        inside, total = inside + float(error[where].sum()), total + float(error.sum())
    return inside / total if total else float("nan")


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of the luminances of two pictures (Wang et al. 2004: 11x11 Gaussian window, sigma 1.5)."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            luminance(a), luminance(b), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def luminance(image: np.ndarray) -> np.ndarray:
    """Rec. 601 luma [H,W] in [0,1] of a uint8 picture."""
    return (image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)) / 255.0


def region_change(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference, grey levels 0..255, of two pictures under a soft mask [H,W] in [0,1]."""
    difference = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(-1)
    return float((difference * mask).sum() / max(float(mask.sum()), 1e-6))


def motion_energy(frames: list[np.ndarray], mask: np.ndarray) -> float:
    """Mean squared change from frame to frame, grey levels squared, under a soft mask [H,W] in [0,1]."""
    weight = max(float(mask.sum()), 1e-6)
    energies = [
        (((b.astype(np.float32) - a.astype(np.float32)) ** 2).mean(-1) * mask).sum() / weight
        for a, b in zip(frames[:-1], frames[1:], strict=True)
    ]
    return float(np.mean(energies)) if energies else 0.0
