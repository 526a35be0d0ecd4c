"""One fixed camera, and how much the mouth moves in it during held-out speech.

This is the scale for what blinks, silence and variants of the upper face do to the lips.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dgtalker import metrics
from dgtalker.evaluation.context import EvaluationContext, render_coefficients, soft_mask

if TYPE_CHECKING:
    from dgtalker.camera import Camera

SPEECH_CLIPS = 4  # at most so many


@dataclass(frozen=True)
class FixedView:
    """A camera, its masks, and speech rendered through it."""

    camera: Camera
    upper: np.ndarray  # [H, W] in [0, 1]
    lower: np.ndarray  # [H, W] in [0, 1]
    speech: list[list[np.ndarray]]  # clips of uint8 frames
    mouth_change: float  # mean change of the mouth from rest, grey levels
    mouth_energy: float  # mean squared change of the mouth from frame to frame

    @staticmethod
    def from_clips(context: EvaluationContext) -> FixedView:
        """Take the camera in the middle of the first clip, and render the speech of the first clips."""
        view = context.clips[0]
        t = len(view) // 2
        camera, lower = view.camera(t), soft_mask(view.mask_lower, t)
        speech = [
            [
                render_coefficients(context.identity, e, a, camera)
                for e, a in zip(*context.coefficients[clip.name], strict=True)
            ]
            for clip in context.clips[:SPEECH_CLIPS]
        ]
        rest = render_coefficients(context.identity, *context.rest, camera)
        change = metrics.finite_mean(
            [metrics.region_change(frame, rest, lower) for frames in speech for frame in frames]
        )
        energy = metrics.finite_mean([metrics.motion_energy(frames, lower) for frames in speech])
        return FixedView(camera, soft_mask(view.mask_upper, t), lower, speech, change, energy)
