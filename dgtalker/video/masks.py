"""Image-space masks from the tracked head: the head without neck and shoulders, the upper face, the lower face.

The two halves of the face are projected from the neutral head by the tracked camera, so they move with the head and
not with the mouth.
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
JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
LOWER_LIDS = (145, 374)
NOSE_BASE = 2

# How far outside the template each place may still be head, dm (ears and hair above, little at the neck).
_JAW_ANGLE_MARGIN, _JAW_MARGIN, _NECK_MARGIN = 0.22, 0.12, 0.04
_HEM_FADE = 0.18  # dm above the cut of the neck over which every head fades out


@dataclass(frozen=True)
class HeadGeometry:
    """Parts of one person's neutral head that the masks need."""

    landmarks: np.ndarray  # [478,3] dm
    ring: np.ndarray  # [R,3] dm, where the neck is cut
    neck: np.ndarray  # [2,3] dm, the subject's right and left side of the neck where it is narrowest

    @staticmethod
    def from_template(template, shape: Tensor) -> HeadGeometry:
        """Landmarks and neck ring of a HeadTemplate with an identity shape [Ks]."""
        vertices = template.geometry(shape)
        ring = vertices[neck_ring(template)].numpy()
        return HeadGeometry(template.landmarks(vertices).numpy(), ring, _narrowest_neck(template, vertices))


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


def _narrowest_neck(template, vertices: Tensor) -> np.ndarray:
    """Right and left side [2,3] of the skin's narrowest slice above the neck plane; below, it widens to shoulders."""
    skin = vertices[template.part == template.part_index("skin")]
    normal = torch.tensor(template.neck_plane[:3])
    distance = (skin @ normal + template.neck_plane[3]) / normal.norm()
    slices = [skin[(distance > low) & (distance < low + 0.15)] for low in np.arange(0.05, 0.9, 0.05)]
    sides = [torch.stack([s[s[:, 0].argmin()], s[s[:, 0].argmax()]]) for s in slices if len(s) > 12]
    return min(sides, key=lambda pair: float(pair[1, 0] - pair[0, 0])).numpy()


def project(points: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Points [N,3] dm to pixels and depth [N,3]."""
    camera = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    pixels = camera @ intrinsics.T
    return np.concatenate([pixels[:, :2] / pixels[:, 2:], camera[:, 2:]], 1)


def head_region(
    head: HeadGeometry, landmarks: np.ndarray, world_to_camera: np.ndarray, intrinsics: np.ndarray, size: int
) -> np.ndarray:
    """Soft mask float32 [size,size]: 1 where the head may be, 0 below the neck cut and over collar and shoulders.

    From the front arc of the neck ring the border runs up along neck and jaw to the ear lobes and there outwards:
    above, the width of the hair is not limited. landmarks [478,2]: as detected, pixels of the crop.
    """
    import cv2

    per_dm = intrinsics[1, 1] / world_to_camera[2, 3]
    narrow = project(head.neck, world_to_camera, intrinsics)[:, :2]
    arc = _front_arc(head, world_to_camera, intrinsics)

    def side(index: int) -> list[list[float]]:  # from the picture's border down to the neck
        sign = (-1, 1)[index]
        edge = -size if index == 0 else 2 * size
        lobe, angle, jaw = (landmarks[pair[index]] for pair in (LOBES, JAW_ANGLES, JAW_SIDES))
        angle_x = angle[0] + sign * _JAW_ANGLE_MARGIN * per_dm
        neck_x = narrow[index, 0] + sign * _NECK_MARGIN * per_dm
        jaw_x = sign * max(sign * (jaw[0] + sign * _JAW_MARGIN * per_dm), sign * neck_x)
        return [[edge, -size], [edge, lobe[1]], [angle_x, angle[1]], [jaw_x, jaw[1]], [neck_x, narrow[index, 1]]]

    outline = np.array([*side(0), *arc.tolist(), *side(1)[::-1]])
    mask = np.zeros((size, size), np.uint8)
    # OpenCV's integer coordinates are pixel centres; four fractional bits.
    cv2.fillPoly(mask, [np.round((outline - 0.5) * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(mask, (0, 0), 1.5 * size / 256).astype(np.float32) / 255
    return soft * neck_fade(head, world_to_camera, intrinsics, size)


def neck_fade(head: HeadGeometry, world_to_camera: np.ndarray, intrinsics: np.ndarray, size: int) -> np.ndarray:
    """Soft mask float32 [size,size]: 0 below the front arc of the neck ring, rising to 1 over _HEM_FADE above it.

    To the sides the arc goes on along the head's own horizontal, so that long hair ends as the neck does.
    """
    import cv2

    arc = _front_arc(head, world_to_camera, intrinsics)
    sideways = project(np.array([[-1.0, 0, 0], [1.0, 0, 0]]), world_to_camera, intrinsics)[:, :2]
    along = (sideways[1] - sideways[0]) / np.linalg.norm(sideways[1] - sideways[0])
    if along[0] < 0.2:  # a profile, or a head lying on its side: the picture's horizontal
        along = np.array([1.0, 0.0])
    far = 4 * size
    below = np.array([arc[0] - far * along, *arc, arc[-1] + far * along, [far, far], [-far, far]])
    mask = np.ones((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round((below - 0.5) * 16).astype(np.int32)], 0, shift=4)
    if mask.all():
        return np.ones((size, size), np.float32)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    per_dm = intrinsics[1, 1] / world_to_camera[2, 3]
    return _ramp(distance / (_HEM_FADE * per_dm)).astype(np.float32)


def _front_arc(head: HeadGeometry, world_to_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """The visible part of the neck ring [A,2], pixels from left to right.

    Only the front of the neck itself: to the sides the ring runs over shoulders and collar.
    """
    ring = project(head.ring, world_to_camera, intrinsics)
    inside = np.abs(head.ring[:, 0]) <= np.abs(head.neck[:, 0]).max() + _NECK_MARGIN
    front = ring[inside & (ring[:, 2] <= np.median(ring[:, 2]))]
    return front[np.argsort(front[:, 0]), :2]


def neck_skin_mask(picture: np.ndarray, region: np.ndarray, landmarks: np.ndarray, per_dm: float) -> np.ndarray:
    """Soft mask float32 [S,S]: 0 where something that is not skin, such as a collar, lies below the jaw, else 1.

    Skin is what resembles the middle of the neck: of similar chromaticity, whatever its shading, and not much darker.

    picture [S,S,3] in 0..1; region [S,S] from head_region; landmarks [478,2] pixels of the crop.
    """
    import cv2

    size = len(region)
    jaw = landmarks[list(JAW)]
    outline = np.array([[-size, jaw[0, 1]], *jaw, [2 * size, jaw[-1, 1]], [2 * size, 2 * size], [-size, 2 * size]])

    def below(offset: float) -> np.ndarray:
        mask = np.zeros((size, size), np.uint8)
        cv2.fillPoly(mask, [np.round((outline + [0, offset * per_dm]) * 16).astype(np.int32)], 1, shift=4)
        return mask > 0

    neck = below(0.03)
    # Only well inside the region, where nothing of the background shines through.
    certain = cv2.erode(region, np.ones((5, 5)), borderValue=1) > 0.95
    x = np.arange(size) + 0.5
    core = below(0.1) & certain & (np.abs(x - jaw[:, 0].mean()) < 0.22 * np.ptp(jaw[:, 0]))[None]
    if core.sum() < 40:
        return np.ones_like(region)
    light = picture.sum(-1) + 1e-3
    chroma = np.stack([picture[..., 0] - picture[..., 1], picture[..., 1] - picture[..., 2]], -1) / light[..., None]
    shade = np.log(light)
    middle, usual = np.median(chroma[core], axis=0), np.median(shade[core])
    spread = np.maximum(1.48 * np.median(np.abs(chroma[core] - middle), axis=0), 0.025)
    foreign = np.sqrt(np.square((chroma - middle) / spread).sum(-1)) / 4 + np.maximum(usual - shade - 0.7, 0) / 0.5
    foreign = cv2.medianBlur(np.clip(255 * (foreign - 0.75), 0, 255).astype(np.uint8), 5)
    keep = (1 - foreign.astype(np.float32) / 255) * neck + ~neck
    keep = cv2.morphologyEx(keep.astype(np.float32), cv2.MORPH_CLOSE, np.ones((9, 9)))  # shadow lines under the jaw
    # Whatever hangs beyond the collar goes too: keep what is connected with the head.
    solid = cv2.morphologyEx((keep > 0.5).astype(np.uint8) * (region > 0.05), cv2.MORPH_OPEN, np.ones((3, 3)))
    _, labels = cv2.connectedComponents(solid)
    inside = landmarks[JAW[7]] - [0, 0.2 * per_dm]
    label = labels[tuple(np.clip(inside[::-1].astype(int), 0, size - 1))]
    connected = cv2.dilate((labels == label).astype(np.uint8), np.ones((3, 3))) if label else neck
    keep = keep * np.where(neck, connected, 1)
    return cv2.GaussianBlur(keep.astype(np.float32), (0, 0), size / 256)


def hanging_hair_mask(
    picture: np.ndarray,
    alpha: np.ndarray,
    region: np.ndarray,
    fade: np.ndarray,
    landmarks: np.ndarray,
    per_dm: float,
) -> np.ndarray:
    """Soft mask float32 [S,S]: 1 where hair hangs beside neck and jaw, also outside the head's region.

    Hair is what looks more like the hair above the ears than like the clothes, and hangs down from it without a gap.

    picture [S,S,3] and alpha [S,S] of the person in 0..1; region [S,S] from head_region; fade [S,S] from neck_fade;
    landmarks [478,2] pixels of the crop.
    """
    import cv2

    size = len(region)
    rows = np.arange(size)[:, None] + 0.5
    solid = cv2.erode((alpha > 0.9).astype(np.uint8), np.ones((3, 3))) > 0
    hull = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.round(landmarks[:468]).astype(np.int32)), 1)
    face = cv2.dilate(hull, np.ones((2 * round(0.1 * per_dm) + 1,) * 2)) > 0
    lobes = landmarks[list(LOBES)]
    level, angles = lobes[:, 1].max(), landmarks[list(JAW_ANGLES), 1].max() + 0.05 * per_dm
    hair = solid & ~face & (rows < level - 0.2 * per_dm)
    beside = (region < 0.5) & (fade > 0) & (rows > lobes[:, 1].min() - 0.3 * per_dm)
    clothes = solid & (fade < 0.3)
    if hair.sum() < 60 or not beside.any():
        return np.zeros_like(region)
    usual = _color_histogram(picture, hair)
    usual = (usual / np.percentile(usual[hair], 25)).clip(0, 1)
    other = np.zeros_like(usual)
    clothes &= usual < 0.5  # hair that hangs over the clothes is none of them
    if clothes.sum() >= 60:
        other = _color_histogram(picture, clothes)
        other = (other / np.percentile(other[clothes], 10)).clip(0, 1)
    odds = cv2.GaussianBlur((usual - other).astype(np.float32), (0, 0), 2 * size / 256)
    candidate = ((odds > 0.15) & (alpha > 0.3) & (beside | (~face & (rows < angles)))).astype(np.uint8)
    candidate = cv2.morphologyEx(candidate, cv2.MORPH_CLOSE, np.ones((5, 5)))
    # What hangs down: connected with hair beside the ears, not through the neck.
    _, labels = cv2.connectedComponents(candidate)
    above = labels[hair & (candidate > 0) & (rows > lobes[:, 1].min() - 0.6 * per_dm)]
    hanging = np.isin(labels, np.unique(above)) & (candidate > 0) & (rows > lobes[:, 1].min() - 0.3 * per_dm)
    return cv2.GaussianBlur(hanging.astype(np.float32), (0, 0), 1.5 * size / 256) * fade


def _color_histogram(picture: np.ndarray, mask: np.ndarray, bins: int = 20) -> np.ndarray:
    """Share of the masked pixels that have about a pixel's colour, float32 [S,S]; picture [S,S,3] in 0..1."""
    from scipy.ndimage import gaussian_filter

    cells = (np.sqrt(picture.clip(0, 1)) * (bins - 1) + 0.5).astype(int)  # dark colours are told apart more finely
    counts = np.zeros((bins,) * 3, np.float32)
    np.add.at(counts, tuple(cells[mask].T), 1)
    counts = gaussian_filter(counts, 0.8) / max(float(counts.sum()), 1e-6)
    return counts[tuple(np.moveaxis(cells, -1, 0))]


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
