"""What every measurement shares: clips, their coefficients from sound and blinks, and pictures of coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.evaluation.camera_alignment import refine_camera
from dgtalker.report.figures import ReportFigures

if TYPE_CHECKING:
    from torch import Tensor

    from dgtalker.camera import Camera
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Clip, Dataset

ReadLandmarks = Callable[[Sequence[np.ndarray]], np.ndarray]  # uint8 pictures [T] -> landmarks [T,478,2], NaN: no face
Coefficients = tuple[np.ndarray, np.ndarray]  # a_exp [T, ke], a_lip [T, kl]


@dataclass(frozen=True)
class EvaluationContext:
    """An identity, held-out clips, and the coefficients that it makes of their sound."""

    identity: Identity
    clips: list[Clip]
    coefficients: dict[str, Coefficients]  # by clip name, from its own sound and blinks
    read_landmarks: ReadLandmarks
    report_figures: ReportFigures = field(default_factory=ReportFigures)

    @staticmethod
    def from_clips(
        identity: Identity,
        dataset: Dataset,
        clips: list[Clip],
        read_landmarks: ReadLandmarks,
        report_figures: ReportFigures,
    ) -> EvaluationContext:
        """Encode the sound and blinks of all `clips`."""
        coefficients = {clip.name: encode_clip(identity, dataset, clip) for clip in clips}
        return EvaluationContext(identity, clips, coefficients, read_landmarks, report_figures)

    @property
    def rest(self) -> Coefficients:
        """Coefficients [ke], [kl] of the canonical head."""
        return np.zeros(self.identity.n_exp, np.float32), np.zeros(self.identity.n_lip, np.float32)


def encode_clip(identity: Identity, dataset: Dataset, clip: Clip) -> Coefficients:
    """Coefficients of a clip from its own sound and blinks.

    Features are extracted anew if the data set's are of another kind than the identity's.
    """
    if dataset.feature_kind == identity.feature_kind:
        features = clip.features.float().numpy()
    else:
        from dgtalker.audio.features import extract_features
        from dgtalker.media.audio import load_audio

        features = extract_features(load_audio(clip.audio_path), identity.feature_kind)
        missing = 2 * len(clip) - len(features)
        features = np.pad(features, ((0, max(missing, 0)), (0, 0)), mode="edge")[: 2 * len(clip)]
    return identity.encode(features, clip.blink.numpy())


def render_coefficients(
    identity: Identity, a_exp: np.ndarray, a_lip: np.ndarray, camera: Camera, controls: np.ndarray | None = None
) -> np.ndarray:
    """Render a uint8 picture [H,W,3] on white of a_exp [ke], a_lip [kl] and face controls [K] through one camera."""
    from dgtalker.render import render_frame

    return render_frame(identity.frame(a_exp, a_lip, controls), camera)


def render_clip(
    identity: Identity, clip: Clip, a_exp: np.ndarray, a_lip: np.ndarray, refine: bool = False
) -> list[np.ndarray]:
    """Render frames [T] of a_exp [T,ke], a_lip [T,kl] through the clip's cameras, `refine`d on the upper face."""
    from dgtalker.render import render_frame

    frames = []
    for t in range(len(clip)):
        gaussians, camera = identity.frame(a_exp[t], a_lip[t]), clip.camera(t)
        if refine:
            mask = soft_mask(clip.mask_upper, t)
            camera = refine_camera(lambda c, g=gaussians: render_frame(g, c), camera, clip.images[t].numpy(), mask)
        frames.append(render_frame(gaussians, camera))
    return frames


def soft_mask(masks: Tensor, t: int) -> np.ndarray:
    """Frame t of uint8 masks [T,H,W] as float32 [H,W] in [0,1]."""
    return masks[t].numpy().astype(np.float32) / 255
