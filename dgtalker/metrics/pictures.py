"""Metrics of uint8 pictures [H,W,3], in numpy; image_loss.py has those of tensors that training needs."""

from __future__ import annotations

import numpy as np

PSNR_CEILING = 100.0  # dB of identical pictures, so that means stay finite


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
