"""Initialisation of w from pictures: an encoder by ridge regression, learnt on the prior's own random heads.

Gradient descent from the mean head spends half its steps on skin, hair and light. The encoder sees only heads of the
prior itself, hence nothing about the people that are measured.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dgtalker import resumable
from dgtalker.camera import Camera
from dgtalker.evaluation.prior.held_out import cameras_of
from dgtalker.head.generator import Generator
from dgtalker.render import render

THUMBNAIL = 32  # side of the pictures that the encoder sees
RIDGE = 0.02  # relative to the mean square of the pictures' features
PASSES = 4  # the remaining error is regressed again, and the best pass is kept
GAIN = 0.7  # of the later passes: far from the mean the regression overshoots
MAX_LATENT = 5.0  # standard deviations from the mean


def thumbnail_features(pictures: Tensor) -> Tensor:  # [C,H,W,3] -> [C*T*T*3]
    """Thumbnails as one vector."""
    return F.adaptive_avg_pool2d(pictures.permute(0, 3, 1, 2), THUMBNAIL).flatten()


class RidgeEncoder:
    """Regresses w, in standard deviations from the mean, from pictures of a fixed set of cameras."""

    def __init__(self, pictures: Tensor, latents: Tensor):
        """Solve the regression of latents [M,W], in standard deviations, on pictures [M,D], `thumbnail_features`."""
        self.pictures, self.latents = pictures, latents
        self.mean_picture, self.mean_latent = pictures.mean(0), latents.mean(0)
        self.centred = pictures - self.mean_picture
        gram = self.centred @ self.centred.T
        ridge = (RIDGE * gram.diagonal().mean() + 1e-6) * torch.eye(len(gram))
        self.weights = torch.linalg.solve(gram + ridge, latents - self.mean_latent)  # [M,W]

    @staticmethod
    @torch.no_grad()
    def fit(
        generator: Generator, views: tuple, size: int, samples: int, seed: int,
        progress: resumable.Progress = resumable.no_progress, cancelled: resumable.Cancelled = resumable.always_false,
    ) -> RidgeEncoder:  # fmt: skip
        """Fit to `samples` random heads of the mapping network. Raises TrainingStopped."""
        draw = torch.Generator().manual_seed(seed)
        w = generator.mapping(torch.randn(samples, generator.config.z_dim, generator=draw))
        cameras, rows = cameras_of(views, size), []
        for number, latent in enumerate(w):
            if cancelled():
                raise resumable.TrainingStopped("Stopped.")
            rows.append(thumbnail_features(render(generator(latent[None])[0], cameras)[0]))
            progress(number + 1, samples, "random heads")
        return RidgeEncoder(torch.stack(rows), (w - generator.w_mean) / generator.w_std)

    @torch.no_grad()
    def __call__(self, generator: Generator, pictures: Tensor, cameras: Camera) -> Tensor:
        """The best of the mean head and of PASSES guesses, each from the last one's error: [W] in standard deviations.

        pictures: [C,H,W,3] in 0..1 through the cameras of `fit`.
        """
        wanted = thumbnail_features(pictures)
        best, least = torch.zeros_like(generator.w_mean), torch.inf
        guess = best
        for number in range(PASSES + 1):
            image = render(generator((generator.w_mean + generator.w_std * guess)[None])[0], cameras)[0]
            error = float((image - pictures).square().mean())
            if error < least:
                best, least = guess, error
            if number == 0:
                guess = self.mean_latent + (self.centred @ (wanted - self.mean_picture)) @ self.weights
            else:
                guess = guess + GAIN * (self.centred @ (wanted - thumbnail_features(image))) @ self.weights
            guess = guess.clamp(-MAX_LATENT, MAX_LATENT)
        return best
