"""Who is seen: people are told apart by the shape of the face and the colours of skin and hair.

The distances between landmarks on bone, in three dimensions and relative to each other, hardly change when a person
speaks or turns. On GRID's talkers and three actors (154 pairs of the same person, 881 of two) the bound below takes
3 % of the first for two people, all with faces below 90 pixels, and 2 % of the second for one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Corners of the eyes, nose, forehead, chin, cheekbones and jaw of MediaPipe's landmarks; not the mouth, which speaks.
BONE_LANDMARKS = (
    33, 133, 362, 263, 168, 6, 4, 129, 358, 2, 10, 234, 454, 123, 352, 172, 397, 127, 356, 50, 280, 5, 195,
)  # fmt: skip
# Landmarks around bare skin: the cheeks, and the forehead between the brows and the hair.
SKIN_PATCHES = ((50, 101, 118, 117, 123), (280, 330, 347, 346, 352), (9, 108, 151, 337))
SAME_PERSON = 1.6  # largest distance of what counts as one person
_SHAPE_SCALE, _TINT_SCALE, _HAIR_SCALE = 0.03, 0.15, 0.5


def bone_distances(landmarks: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Logarithms of the distances between BONE_LANDMARKS, less their mean [253]: free of size, place and direction.

    landmarks [478, 2] and depth [478] in pixels.
    """
    points = np.concatenate([landmarks, depth[:, None]], 1)[list(BONE_LANDMARKS)]
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(len(points), 1)]
    logarithms = np.log(np.maximum(distances, 1e-3))
    return (logarithms - logarithms.mean()).astype(np.float32)


def skin_and_hair_colors(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Median colours [6] in 0..1 of the skin and of the hair above the forehead; NaN where the picture ends.

    frame uint8 [H, W, 3]; landmarks [478, 2] in its pixels.
    """
    import cv2

    height, width = frame.shape[:2]
    left, top = np.floor(landmarks.min(0)).astype(int).clip(0, [width - 1, height - 1])
    right, bottom = np.ceil(landmarks.max(0)).astype(int).clip(1, [width, height])
    face = frame[top:bottom, left:right]
    mask = np.zeros(face.shape[:2], np.uint8)
    for patch in SKIN_PATCHES if mask.size else ():
        cv2.fillConvexPoly(mask, (landmarks[list(patch)] - [left, top]).round().astype(np.int32), 1)
    skin = np.median(face[mask > 0], 0) / 255 if mask.any() else np.full(3, np.nan)
    x, y = (landmarks[10] + 0.45 * (landmarks[10] - landmarks[168])).round().astype(int)
    half = max(2, round(0.06 * float(np.ptp(landmarks[:, 1]))))
    above = frame[max(0, y - half) : max(0, y + half), max(0, x - 2 * half) : max(0, x + 2 * half)].reshape(-1, 3)
    hair = np.median(above, 0) / 255 if len(above) else np.full(3, np.nan)
    return np.concatenate([skin, hair]).astype(np.float32)


def person_distance(a: np.ndarray, b: np.ndarray) -> float:
    """How different two people are, from their bone distances and colours [253 + 6]; about .6 for one person."""
    shape = float(np.sqrt(np.square(a[:-6] - b[:-6]).mean())) / _SHAPE_SCALE
    ratio = np.log(a[-6:] + 0.03) - np.log(b[-6:] + 0.03)
    skin, hair = ratio[:3], ratio[3:]
    tint = float(np.abs(skin - skin.mean()).max()) / _TINT_SCALE  # the brightness is that of the light
    contrast = float(abs(hair.mean() - skin.mean())) / _HAIR_SCALE  # so is that of the hair, but not their ratio
    return shape + np.nan_to_num(tint) + np.nan_to_num(contrast)


def group_people(portraits: Sequence[np.ndarray], frames: Sequence[int]) -> list[int]:
    """Number of the person in each run, from their mean bone distances and colours [253 + 6] and lengths.

    The runs are joined, the most alike first, as long as the means of their groups are of SAME_PERSON.
    Person 0 is the one seen longest, person 1 the next.
    """
    groups = [([i], portrait, count) for i, (portrait, count) in enumerate(zip(portraits, frames, strict=True))]
    while len(groups) > 1:
        pairs = [(person_distance(a[1], b[1]), i, j) for i, a in enumerate(groups) for j, b in enumerate(groups[:i])]
        nearest, i, j = min(pairs)
        if nearest > SAME_PERSON:
            break
        (runs_a, mean_a, count_a), (runs_b, mean_b, count_b) = groups.pop(i), groups.pop(j)
        both = np.stack([mean_a, mean_b])
        weights = np.where(np.isnan(both), 0.0, [[count_a], [count_b]])
        with np.errstate(invalid="ignore"):
            mean = np.nansum(both * weights, 0) / weights.sum(0)
        groups.append((runs_a + runs_b, mean, count_a + count_b))
    groups.sort(key=lambda group: (-group[2], min(group[0])))
    person = {run: number for number, group in enumerate(groups) for run in group[0]}
    return [person[run] for run in range(len(portraits))]
