"""One camera that stands still, and how much the mouth moves before it in held-out speech: the measure of what blinks,
silence and variants of the upper face do to the lips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.held_out import HeldOut, draw, soft_mask

SPEECH_CLIPS = 4  # whose mouth motion the others are compared with


@dataclass(frozen=True)
class FixedView:
    """A view, its masks, and speech seen in it."""

    camera: object  # Camera
    upper: np.ndarray  # [H, W] in [0, 1]
    lower: np.ndarray  # [H, W] in [0, 1]
    speech: list[list[np.ndarray]]  # clips of uint8 frames
    mouth_change: float  # mean change of the mouth from rest, grey levels
    mouth_energy: float  # mean squared change of the mouth from frame to frame

    @staticmethod
    def of(held: HeldOut) -> FixedView:
        """The middle of the first clip, and the first clips' speech."""
        view = held.clips[0]
        t = len(view) // 2
        camera, lower = view.camera(t), soft_mask(view.mask_lower, t)
        speech = [
            [draw(held.identity, e, a, camera) for e, a in zip(*held.codes[clip.name], strict=True)]
            for clip in held.clips[:SPEECH_CLIPS]
        ]
        rest = draw(held.identity, *held.rest, camera)
        spread = metrics.mean([metrics.region_change(frame, rest, lower) for frames in speech for frame in frames])
        energy = metrics.mean([metrics.motion_energy(frames, lower) for frames in speech])
        return FixedView(camera, soft_mask(view.mask_upper, t), lower, speech, spread, energy)
