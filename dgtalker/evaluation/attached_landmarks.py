"""Landmarks that ride on the head itself: found once by the face detector on the canonical head, then carried by the
splats they lie on. What they do afterwards is the head's geometry and nothing else: no detector smooths or guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dgtalker.camera import orbit_camera
from dgtalker.metrics import SIZE

if TYPE_CHECKING:
    from dgtalker.camera import Camera
    from dgtalker.evaluation.held_out import FaceReading
    from dgtalker.identity import Identity

PURE = 0.9  # a landmark belongs to a half of the face if the template's weight there is higher
REACH = 6.0  # pixels from a landmark to the splats it may lie on
DEPTH = 0.15  # decimetres behind the foremost of them that is still the same surface
SPLATS = 4  # that carry one landmark
SOLID = 0.2  # opacity of a splat that can carry one
ZOOM = 1.25  # of the view landmarks are found in: the face fills it


@dataclass(frozen=True)
class AttachedLandmarks:
    """Which splats carry which landmarks."""

    upper: np.ndarray  # [U, SPLATS] int64, into the head's splats
    lower: np.ndarray  # [L, SPLATS]

    def places(self, means: np.ndarray) -> np.ndarray:
        """Landmarks [U + L, 3] of splat centres [N, 3], upper face first."""
        return means[np.concatenate([self.upper, self.lower])].mean(axis=1)

    def halves(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the upper and of the lower face's landmarks out of values [U + L, ...]."""
        return values[: len(self.upper)], values[len(self.upper) :]


def landmark_halves() -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the MediaPipe landmarks of the upper and of the lower face, by the template's region weights; those
    of the nose and between the halves belong to neither."""
    from dgtalker.head.template import HeadTemplate

    template = HeadTemplate.load()
    corners = template.triangles[template.landmark_triangle.clamp_min(0)].long()
    on_template = (template.landmark_triangle >= 0).numpy()
    upper, lower = (
        np.flatnonzero(((weights[corners] * template.landmark_bary).sum(-1) > PURE).numpy() & on_template)
        for weights in (template.upper_weight, template.lower_weight)
    )
    return upper, lower


def attach_landmarks(identity: Identity, faces: FaceReading, size: int = 2 * SIZE) -> AttachedLandmarks | None:
    """Anchors on the canonical head seen from the front; None if no face is found there, or half of one."""
    from dgtalker.evaluation.held_out import draw

    rest = np.zeros(identity.n_exp, np.float32), np.zeros(identity.n_lip, np.float32)
    camera = orbit_camera(size=size, zoom=ZOOM)
    points = faces([draw(identity, *rest, camera)])[0]
    if not np.isfinite(points).all():
        return None
    splats = identity.frame(*rest)
    pixels, depth = project(splats.means.numpy(), camera)
    solid = splats.opacities.numpy() > SOLID
    halves = []
    weights = identity.head.upper_weight, identity.head.lower_weight
    for numbers, weight in zip(landmark_halves(), weights, strict=True):
        able = np.flatnonzero(solid & (weight.cpu().float().numpy() > 0.5))
        carried = []
        for point in points[numbers]:
            distance = np.linalg.norm(pixels[able] - point, axis=1) * SIZE / size
            near = able[distance < REACH]
            near = near[depth[near] < depth[near].min(initial=np.inf) + DEPTH]
            if len(near) >= SPLATS:
                order = np.argsort(np.linalg.norm(pixels[near] - point, axis=1), kind="stable")
                carried.append(near[order[:SPLATS]])
        if not carried:
            return None
        halves.append(np.stack(carried))
    return AttachedLandmarks(*halves)


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """World points [..., 3] -> pixels [..., 2] and depths [...] in decimetres."""
    view, intrinsics = camera.world_to_camera.double().numpy(), camera.intrinsics.double().numpy()
    seen = points @ view[:3, :3].T + view[:3, 3]
    pixels = seen @ intrinsics.T
    return pixels[..., :2] / pixels[..., 2:], seen[..., 2]
