"""Masks in the picture that follow from the tracked head: where the head ends, upper face, lower face.

All of them are drawn from the neutral head under the tracked camera, so they move with the head and not with the
mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# MediaPipe landmarks, subject's right side (left in the picture) and left side.
LOBES = (132, 361)
JAW_ANGLES = (58, 288)
JAW_SIDES = (136, 365)
LOWER_LIDS = (145, 374)
NOSE_BASE = 2

# How far outside the template each place may still be head, dm (ears and hair above, little at the neck).
_JAW_ANGLE_MARGIN, _JAW_MARGIN, _NECK_MARGIN = 0.22, 0.12, 0.04


@dataclass(frozen=True)
class HeadGeometry:
    """The neutral head of one person, as far as the masks need it."""

    landmarks: np.ndarray  # [478,3] dm
    ring: np.ndarray  # [R,3] dm, where the neck is cut

    @staticmethod
    def from_template(template, shape: Tensor) -> HeadGeometry:
        """Landmarks and neck ring of a HeadTemplate with an identity shape [Ks]."""
        vertices = template.geometry(shape)
        ring = vertices[neck_ring(template)]
        return HeadGeometry(template.landmarks(vertices).numpy(), ring.numpy())


def neck_ring(template) -> Tensor:
    """Indices of the skin's open edge at the neck."""
    triangles = template.triangles.long()
    skin = (template.part[triangles] == template.part_index("skin")).all(1)
    edges = torch.cat([triangles[skin][:, pair] for pair in ([0, 1], [1, 2], [2, 0])]).sort(1).values
    unique, count = edges.unique(dim=0, return_counts=True)
    rim = unique[count == 1].unique()
    normal = torch.tensor(template.neck_plane[:3])
    distance = (template.vertices[rim] @ normal + template.neck_plane[3]) / normal.norm()
    return rim[distance.abs() < 0.25]


def project(points: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Points [N,3] dm to pixels and depth [N,3]."""
    camera = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    pixels = camera @ intrinsics.T
    return np.concatenate([pixels[:, :2] / pixels[:, 2:], camera[:, 2:]], 1)


def head_region(head: HeadGeometry, world_to_camera: np.ndarray, intrinsics: np.ndarray, size: int) -> np.ndarray:
    """Soft mask float32 [size,size]: 1 where the head may be, 0 below the neck cut and over collar and shoulders.

    From the front arc of the neck ring the border runs up along neck and jaw to the ear lobes and there outwards:
    above, hair may be as wide as it likes.
    """
    import cv2

    ring = project(head.ring, world_to_camera, intrinsics)
    marks = project(head.landmarks, world_to_camera, intrinsics)
    per_dm = intrinsics[1, 1] / world_to_camera[2, 3]
    front = ring[ring[:, 2] <= np.median(ring[:, 2])]
    arc = front[np.argsort(front[:, 0]), :2]

    def side(index: int) -> list[list[float]]:  # from the picture's border down to the neck
        sign = (-1, 1)[index]
        edge = -size if index == 0 else 2 * size
        neck = arc[0] if index == 0 else arc[-1]
        lobe, angle, jaw = (marks[pair[index], :2] for pair in (LOBES, JAW_ANGLES, JAW_SIDES))
        angle_x = angle[0] + sign * _JAW_ANGLE_MARGIN * per_dm
        neck_x = neck[0] + sign * _NECK_MARGIN * per_dm
        jaw_x = sign * max(sign * (jaw[0] + sign * _JAW_MARGIN * per_dm), sign * neck_x)
        return [[edge, -size], [edge, lobe[1]], [angle_x, angle[1]], [jaw_x, jaw[1]], [neck_x, neck[1]]]

    outline = np.array([*side(0), *arc.tolist(), *side(1)[::-1]])
    mask = np.zeros((size, size), np.uint8)
    # OpenCV's integer coordinates are pixel centres; four fractional bits.
    cv2.fillPoly(mask, [np.round((outline - 0.5) * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(mask, (0, 0), 1.5 * size / 256).astype(np.float32) / 255


def face_masks(
    head: HeadGeometry, world_to_camera: np.ndarray, intrinsics: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Soft masks float32 [size,size] of the upper and lower half, with a dead zone over the nose between them.

    Both run to the picture's border. The upper half ends below the lower lids, the lower half starts above the nose's
    base and reaches higher over the cheeks, which move with the lips.
    """
    marks = project(head.landmarks, world_to_camera, intrinsics)[:, :2]
    inner = np.arange(468)
    # Affine map from the picture to the head's own x and y (dm); ridge, because a profile squeezes x to nothing.
    pixels = np.concatenate([marks[inner] / size, np.ones((len(inner), 1))], 1)
    ridge = 1e-4 * len(inner) * np.diag([1, 1, 0])
    affine = np.linalg.solve(pixels.T @ pixels + ridge, pixels.T @ head.landmarks[inner, :2])  # [3,2]
    centres = (np.arange(size) + 0.5) / size
    x, y = (centres[None] * affine[0, i] + centres[:, None] * affine[1, i] + affine[2, i] for i in (0, 1))

    lids = head.landmarks[list(LOWER_LIDS), 1].mean()
    nose = head.landmarks[NOSE_BASE, 1]
    height = lids - nose
    level = (y - nose) / height  # 0 at the nose's base, 1 at the lower lids
    cheek = _ramp((np.abs(x - head.landmarks[NOSE_BASE, 0]) - 0.18) / 0.25)
    upper = _ramp((level - 0.62) / 0.25)
    lower = _ramp((0.15 + 0.35 * cheek - level) / 0.25)
    return upper.astype(np.float32), lower.astype(np.float32)


def _ramp(x: np.ndarray) -> np.ndarray:
    """Smooth step from 0 at x = 0 to 1 at x = 1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
