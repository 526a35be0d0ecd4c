"""Metrics of pictures, landmarks, curves and articulation. Nothing here draws or reads a data set."""

from dgtalker.metrics.curves import MAX_LAG, best_lag, finite_mean, pearson, ratio, spearman
from dgtalker.metrics.landmarks import (
    EYE_OUTER_CORNERS,
    EYES,
    INNER_LIPS,
    INNER_PAIRS,
    LIPS,
    OUTER_LIPS,
    SIZE,
    aperture,
    eye_closure,
    eye_distance,
    has_face,
    lip_distance,
    mouth_box,
)
from dgtalker.metrics.pictures import PSNR_CEILING, luminance, masked_psnr, motion_energy, psnr, region_change, ssim

__all__ = [
    "EYE_OUTER_CORNERS",
    "EYES",
    "INNER_LIPS",
    "INNER_PAIRS",
    "LIPS",
    "MAX_LAG",
    "OUTER_LIPS",
    "PSNR_CEILING",
    "SIZE",
    "aperture",
    "best_lag",
    "eye_closure",
    "eye_distance",
    "finite_mean",
    "has_face",
    "lip_distance",
    "luminance",
    "masked_psnr",
    "motion_energy",
    "mouth_box",
    "pearson",
    "psnr",
    "ratio",
    "region_change",
    "spearman",
    "ssim",
]
