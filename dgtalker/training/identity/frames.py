"""All frames of a data set, numbered through: small tensors in memory, images read on demand."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.video.dataset import Clip, Dataset

# MediaPipe's 478 landmarks: corners of the mouth, middles of the inner lips, corners of the eyes, forehead and chin.
MOUTH_CORNERS, INNER_LIPS = (61, 291), (13, 14)
EYES = ((33, 133), (362, 263))
FACE_ENDS = (10, 152)
EMPHASIS = 3.0  # extra weight at the centre of lips and eyes in whole-picture losses
REDUCED_SIZE = 256  # pixels that suffice for latents and motion
UNSURE_WEIGHT = 0.1  # of an error where the matte is a guess; not 0, so that nothing grows there unseen


@dataclass(frozen=True)
class TargetPictures:
    """Ground truth pictures of B frames."""

    image: Tensor  # [B, H, W, 3] head on white
    alpha: Tensor  # [B, H, W, 1]
    emphasis: Tensor  # [B, H, W, 1] >= 1, larger around lips and eyes
    sure: Tensor  # [B, H, W, 1] share of an error that counts: 1, less where the matte is unsure


class DatasetFrames:
    """Frames 0..T-1 of all clips, in order.

    Attributes:
        size: side of the pictures that are read, in pixels; `landmarks` and `intrinsics` are those of such pictures.
        reduction: pixels of the data set's pictures, along a side, that make one of these.
    """

    def __init__(self, dataset: Dataset, device: str | torch.device = "cpu"):
        self.dataset, self.device = dataset, torch.device(device)
        self.clips: list[Clip] = list(dataset)
        lengths = [len(clip) for clip in self.clips]
        self.starts = np.cumsum([0, *lengths])  # first frame of every clip, and T
        self.clip_of = np.repeat(np.arange(len(lengths)), lengths)  # [T]
        self.expression, self.scores, self.blink, self.landmarks, self.world_to_camera, self.intrinsics = (
            torch.cat([getattr(clip, key) for clip in self.clips]).float()
            for key in ("expression", "scores", "blink", "landmarks", "world_to_camera", "intrinsics")
        )
        self.features = [clip.features.float() for clip in self.clips]  # each [2F, D]
        self.size, self.reduction = dataset.size, 1

    def reduced(self, size: int = REDUCED_SIZE) -> DatasetFrames:
        """The same frames with pictures halved while they are at least twice `size`: cheaper, without fine texture."""
        smaller = copy.copy(self)
        while smaller.size >= 2 * size and smaller.size % 2 == 0:
            smaller.size, smaller.reduction = smaller.size // 2, 2 * smaller.reduction
        scale = torch.tensor([[smaller.size / self.size], [smaller.size / self.size], [1.0]])
        smaller.intrinsics, smaller.landmarks = self.intrinsics * scale, self.landmarks * scale[:2, 0]
        return smaller

    def __len__(self) -> int:
        return int(self.starts[-1])

    def locate(self, frame: int) -> tuple[Clip, int]:
        """The clip that a frame belongs to, and its number in that clip."""
        clip = int(self.clip_of[frame])
        return self.clips[clip], int(frame - self.starts[clip])

    def cameras(self, index: list[int] | Tensor) -> Camera:
        """Tracked cameras of frames, as a batch."""
        return Camera(self.world_to_camera[index], self.intrinsics[index], self.size, self.size).to(self.device)

    def read_images(self, key: str, index: list[int]) -> Tensor:
        """Images of frames, [B, H, W, C] in [0, 1]; key names a uint8 tensor of the clips."""
        rows = torch.stack([getattr(clip, key)[number] for clip, number in map(self.locate, index)])
        rows = rows.to(self.device).float() / 255
        rows = rows if rows.ndim == 4 else rows[..., None]
        if self.reduction > 1:
            rows = torch.nn.functional.avg_pool2d(rows.permute(0, 3, 1, 2), self.reduction).permute(0, 2, 3, 1)
        return rows

    def read_targets(self, index: list[int]) -> TargetPictures:
        """Ground truth for the whole-picture losses."""
        image, alpha = self.read_images("images", index), self.read_images("alpha", index)
        return TargetPictures(image, alpha, self.emphasis_weights(index), self.read_sure(index))

    def read_sure(self, index: list[int]) -> Tensor:
        """[B, H, W, 1] share of an error that counts: 1, and UNSURE_WEIGHT where the matte is a guess."""
        return 1 - (1 - UNSURE_WEIGHT) * self.read_images("unsure", index)

    def emphasis_weights(self, index: list[int]) -> Tensor:
        """[B, H, W, 1] weights: 1, and up to 1 + EMPHASIS around lips and eyes, where viewers look."""
        size = self.size
        grid = torch.arange(size) + 0.5
        landmarks = self.landmarks[index]  # [B, 478, 2]
        weight = torch.zeros(len(index), size, size)
        for left, right in (MOUTH_CORNERS, *EYES):
            a, b = landmarks[:, left], landmarks[:, right]
            reach = 0.45 * (a - b).norm(dim=-1)[:, None, None].clamp_min(2)
            centre = (a + b) / 2
            dx, dy = grid[None, None] - centre[:, 0, None, None], grid[None, :, None] - centre[:, 1, None, None]
            weight = torch.maximum(weight, (-(dx.square() + dy.square()) / (2 * reach.square())).exp())
        return (1 + EMPHASIS * weight)[..., None].to(self.device)

    def aperture(self) -> Tensor:
        """Opening of the mouth [T]: inner-lip distance in face heights."""
        opening = (self.landmarks[:, INNER_LIPS[0]] - self.landmarks[:, INNER_LIPS[1]]).norm(dim=-1)
        return opening / self._face_height()

    def lip_width(self) -> Tensor:
        """Distance of the mouth corners [T] in face heights."""
        return (self.landmarks[:, MOUTH_CORNERS[0]] - self.landmarks[:, MOUTH_CORNERS[1]]).norm(dim=-1) / (
            self._face_height()
        )

    def _face_height(self) -> Tensor:
        return (self.landmarks[:, FACE_ENDS[0]] - self.landmarks[:, FACE_ENDS[1]]).norm(dim=-1).clamp_min(1)

    def view_direction(self) -> Tensor:
        """Optical axis in the head's frame [T, 3]: the head pose."""
        return self.world_to_camera[:, 2, :3]


def find_rest_frames(frames: DatasetFrames, count: int = 24) -> Tensor:
    """Up to `count` frames with the mouth shut, eyes open and the face near its median: the canonical expression."""
    aperture, blink = frames.aperture(), frames.blink
    closed = (aperture <= aperture.quantile(0.25)) & (blink <= blink.quantile(0.6))
    candidates = closed.nonzero()[:, 0]
    expression = frames.expression[candidates]
    distance = (expression - expression.median(dim=0).values).norm(dim=-1)
    return candidates[distance.argsort()[:count]]


def choose_pivots(frames: DatasetFrames, count: int, seed: int = 0) -> list[int]:
    """Frames that cover mouth, expression, blink and pose: the extremes first, then k-means++ (D²) draws.

    Returns at most `count` sorted frame numbers, the rest frame among them.
    """
    columns = torch.cat(
        [
            _principal_components(frames.expression, 10),
            2 * _whiten(torch.stack([frames.aperture(), frames.lip_width(), frames.blink], dim=-1)),
            1.5 * _whiten(frames.view_direction()[:, :2]),
        ],
        dim=-1,
    )
    chosen = [int(find_rest_frames(frames, 1)[0])]
    for column in columns.T:
        chosen += [int(column.argmin()), int(column.argmax())]
    chosen = list(dict.fromkeys(chosen))[:count]
    draw = torch.Generator().manual_seed(seed)
    distance = torch.cdist(columns, columns[chosen]).amin(dim=1)
    while len(chosen) < min(count, len(frames)):
        weights = distance.clamp(max=float(distance.quantile(0.98))).square()  # tracking failures must not win
        if float(weights.sum()) == 0:
            break
        pick = int(torch.multinomial(weights, 1, generator=draw))
        chosen.append(pick)
        distance = torch.minimum(distance, (columns - columns[pick]).norm(dim=-1))
        distance[pick] = 0
    return sorted(set(chosen))


def _whiten(columns: Tensor) -> Tensor:
    return (columns - columns.mean(dim=0)) / columns.std(dim=0).clamp_min(1e-6)


def _principal_components(columns: Tensor, count: int) -> Tensor:
    """The first principal components, in units of the first one's standard deviation."""
    centred = columns - columns.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred[:: max(1, len(centred) // 4000)], full_matrices=False)
    scores = centred @ directions[:count].T
    return scores / scores[:, 0].std().clamp_min(1e-6)
