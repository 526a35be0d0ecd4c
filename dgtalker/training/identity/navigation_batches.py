"""Training batches of navigation: runs of frames for the linear objective, pairs of pictures for the image losses."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dgtalker.navigation.losses import View
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig
from dgtalker.training.stage import ShuffledIndices

SILENCE_SECONDS = 8.0


def silent_features(kind: str, rate: int = 16000) -> Tensor:
    """Features [2F, D] without speech: digital silence, then faint noise as in a quiet room."""
    from dgtalker.audio.features import extract_features

    random = np.random.default_rng(0)
    half = int(SILENCE_SECONDS / 2 * rate)
    hiss = random.normal(0, 1e-4, half)
    parts = [np.zeros(half), hiss]
    return torch.cat([torch.from_numpy(extract_features(part.astype(np.float32), kind)).float() for part in parts])


class ClipRunSampler:
    """Batches of runs of frames: augmented features, blink, fitted deviations, and which rows swap lips."""

    def __init__(
        self, frames: DatasetFrames, deviations: Tensor, silence: Tensor, config: NavigationTrainingConfig, seed: int
    ):
        self.frames, self.deviations, self.silence, self.config = frames, deviations, silence, config
        self.device = deviations.device
        self.order = ShuffledIndices(len(frames.clips), seed + 4)
        self.std = torch.cat(frames.features).std(dim=0).to(self.device)
        self.length = min(config.run, min(len(clip) for clip in frames.clips))
        self.random = np.random.default_rng(seed)

    def draw(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features [B, 2F, D], blink [B, F], deviations [B, F, W], and swap [B]: whose lips each row takes."""
        features, blink, target = [], [], []
        for clip in self.order.next_indices(self.config.clips):
            start, length = int(self.frames.starts[clip]), len(self.frames.clips[clip])
            first = int(self.random.integers(0, length - self.length + 1))
            rows = slice(start + first, start + first + self.length)
            features.append(self.frames.features[clip][2 * first : 2 * (first + self.length)])
            blink.append(self.frames.blink[rows])
            target.append(self.deviations[rows])
        features, blink = torch.stack(features).to(self.device), torch.stack(blink).to(self.device)
        swap = np.arange(len(features))
        partners = np.roll(swap, 1)  # the next row: the batch itself is in random order
        swap = np.where(self.random.random(len(swap)) < self.config.cross_view.p_swap, partners, swap)
        return self.augment(features), blink, torch.stack(target), torch.from_numpy(swap).to(self.device)

    def draw_silence(self) -> Tensor:
        """Two runs of silence, [2, 2F, D]."""
        length = min(2 * self.length, len(self.silence) // 2 * 2)
        firsts = 2 * self.random.integers(0, (len(self.silence) - length) // 2 + 1, 2)
        return self.augment(torch.stack([self.silence[first : first + length] for first in firsts]))

    def augment(self, features: Tensor) -> Tensor:
        """Imitate other voices and rooms in features: gain and offset per channel and run, noise, a masked span."""
        batch, steps, channels = features.shape
        noise = self.config.noise
        gain = 1 + 0.5 * noise * torch.randn(batch, 1, channels, device=self.device)
        offset = noise * torch.randn(batch, 1, channels, device=self.device)
        white = noise * torch.randn(batch, steps, channels, device=self.device)
        features = features * gain + self.std * (offset + white)
        for row in range(batch):
            if self.random.random() < 0.3:
                span = int(self.random.integers(1, 6))
                first = int(self.random.integers(0, max(1, steps - span)))
                features[row, first : first + span] = features[row].mean(dim=0)
        return features


class FramePairSampler:
    """Pairs of training frames (i, j) with their picture, camera, masks and the sound around them."""

    def __init__(self, frames: DatasetFrames, config: NavigationTrainingConfig, seed: int):
        self.frames, self.config = frames, config
        self.order = ShuffledIndices(len(frames), seed + 5)
        self.random = np.random.default_rng(seed + 6)

    def draw(self) -> tuple[View, View]:
        """A frame i and, with probability p_swap, a random frame j; else i twice."""
        i = self.read_view(self.order.next_indices(1)[0])
        if self.random.random() >= self.config.cross_view.p_swap:
            return i, i
        return i, self.read_view(int(self.random.integers(len(self.frames))))

    def read_view(self, frame: int) -> View:
        """One frame with up to `context` frames of sound on each side, as far as its clip goes."""
        frames, device = self.frames, self.frames.device
        clip, number = int(frames.clip_of[frame]), int(frame - frames.starts[frames.clip_of[frame]])
        start = max(0, number - self.config.context)
        end = min(len(frames.clips[clip]), number + self.config.context + 1)
        first, sure = int(frames.starts[clip]), frames.read_sure([frame])[0]
        return View(
            features=frames.features[clip][2 * start : 2 * end].to(device),
            blink=frames.blink[first + start : first + end].to(device),
            centre=number - start,
            camera=frames.cameras([frame]),
            image=frames.read_images("images", [frame])[0],
            mask_upper=frames.read_images("mask_upper", [frame])[0] * sure,
            mask_lower=frames.read_images("mask_lower", [frame])[0] * sure,
        )
