"""Landmarks attached to the head's splats.

The face detector finds them once, on the canonical head; then the splats they lie on carry them. Their motion is the
head's geometry alone: no detector smooths or guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.camera import orbit_camera
from dgtalker.metrics import SIZE

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.evaluation.context import ReadLandmarks
    from dgtalker.identity import Identity

MIN_REGION_WEIGHT = 0.9  # of the template, above which a landmark belongs to a half of the face
MAX_PIXELS = 6.0  # from a landmark to the splats it may lie on, at 256
SURFACE_DEPTH = 0.15  # decimetres behind the foremost of them that count as the same surface
SPLATS_PER_LANDMARK = 4
MIN_OPACITY = 0.2  # of a splat that can carry a landmark
ZOOM = 1.25  # of the view that landmarks are found in: the face fills it


@dataclass(frozen=True)
class AttachedLandmarks:
    """Which splats carry which landmarks."""

    upper: np.ndarray  # [U, SPLATS] int64, into the head's splats
    lower: np.ndarray  # [L, SPLATS]

    def positions(self, means: np.ndarray) -> np.ndarray:
        """Positions [U + L, 3] of the landmarks from splat centres [N, 3], upper face first."""
        return means[np.concatenate([self.upper, self.lower])].mean(axis=1)

    def split_halves(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values [U + L, ...] of landmarks, split into those of the upper and of the lower face."""
        return values[: len(self.upper)], values[len(self.upper) :]


def landmark_halves() -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the MediaPipe landmarks of the upper and of the lower face, by the template's region weights.

    Those of the nose and between the halves belong to neither.
    """
    from dgtalker.head.template import HeadTemplate

    template = HeadTemplate.load()
    corners = template.triangles[template.landmark_triangle.clamp_min(0)].long()
    on_template = (template.landmark_triangle >= 0).numpy()
    upper, lower = (
        np.flatnonzero(((weights[corners] * template.landmark_bary).sum(-1) > MIN_REGION_WEIGHT).numpy() & on_template)
        for weights in (template.upper_weight, template.lower_weight)
    )
    return upper, lower


def attach_landmarks(
    identity: Identity, read_landmarks: ReadLandmarks, size: int = 2 * SIZE
) -> AttachedLandmarks | None:
    """Attach landmarks to the canonical head seen from the front; None if no face is found there, or half of one."""
    from dgtalker.evaluation.context import render_coefficients

    rest = np.zeros(identity.n_exp, np.float32), np.zeros(identity.n_lip, np.float32)
    camera = orbit_camera(size=size, zoom=ZOOM)
    points = read_landmarks([render_coefficients(identity, *rest, camera)])[0]
    if not np.isfinite(points).all():
        return None
    splats = identity.frame(*rest)
    pixels, depth = project(splats.means.numpy(), camera)
    solid = splats.opacities.numpy() > MIN_OPACITY
    split_halves = []
    weights = identity.head.upper_weight, identity.head.lower_weight
    for numbers, weight in zip(landmark_halves(), weights, strict=True):
        able = np.flatnonzero(solid & (weight.cpu().float().numpy() > 0.5))
        carried = []
        for point in points[numbers]:
            distance = np.linalg.norm(pixels[able] - point, axis=1) * SIZE / size
            near = able[distance < MAX_PIXELS]
            near = near[depth[near] < depth[near].min(initial=np.inf) + SURFACE_DEPTH]
            if len(near) >= SPLATS_PER_LANDMARK:
                order = np.argsort(np.linalg.norm(pixels[near] - point, axis=1), kind="stable")
                carried.append(near[order[:SPLATS_PER_LANDMARK]])
        if not carried:
            return None
        split_halves.append(np.stack(carried))
    return AttachedLandmarks(*split_halves)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Project world points [..., 3] to pixels [..., 2] and depths [...] in decimetres."""
    view, intrinsics = camera.world_to_camera.double().numpy(), camera.intrinsics.double().numpy()
    seen = points @ view[:3, :3].T + view[:3, 3]
    pixels = seen @ intrinsics.T
    return pixels[..., :2] / pixels[..., 2:], seen[..., 2]
