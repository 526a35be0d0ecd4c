"""Ground truth of a held-out clip: landmarks of its real frames, and its phones where they are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.audio.phone_alignment import Phone, grid_transcript, phones_or_reason
from dgtalker.errors import UserError
from dgtalker.media.clock import FPS

if TYPE_CHECKING:
    from dgtalker.evaluation.context import ReadLandmarks
    from dgtalker.video.dataset import Clip


@dataclass(frozen=True)
class GroundTruth:
    """Of one clip with T frames."""

    landmarks: np.ndarray  # [T, 478, 2] pixels, NaN where no face was found
    phones: list[Phone] = field(default_factory=list)
    note: str | None = None  # why there are no phones

    @staticmethod
    def from_clip(clip: Clip, read_landmarks: ReadLandmarks) -> GroundTruth:
        """Detect landmarks in the clip's frames; align its phones if its name is a GRID transcript."""
        landmarks = read_landmarks(list(clip.images.numpy()))
        try:
            phones, note = phones_or_reason(clip.audio_path, grid_transcript(clip.name), len(clip) / FPS)
        except UserError as error:  # without pocketsphinx the other metrics can still be computed
            phones, note = [], str(error)
        return GroundTruth(landmarks, phones, note)
