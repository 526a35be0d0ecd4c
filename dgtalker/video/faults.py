"""Frames that teach a head nothing or the wrong thing: what is wrong with each, from small pictures and landmarks.

A face patch is the face alone, small and always in the same place, so that the motion of the head does not count.
"""

from __future__ import annotations

import numpy as np

from dgtalker.media.clock import FPS

PATCH_WIDTH, PATCH_HEIGHT = 24, 30
_PATCH_EYES, _PATCH_NOSE = ((6.0, 9.0), (18.0, 9.0)), (12.0, 16.5)  # where eye corners and the base of the nose lie
# The outline of MediaPipe's face.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
_SHORTEST_FREEZE = FPS // 2  # frames
SILENT = 1e-3  # RMS of a frame's sound, -60 dBFS
_DARK = 0.09  # level of the skin, of 1
_BLACK = 0.04  # level of the picture


def face_patch(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The face in a frame uint8 [H, W, 3] with landmarks [478, 2], uint8 [PATCH_HEIGHT, PATCH_WIDTH, 3]."""
    import cv2

    side = max(np.ptp(landmarks[:, 0]) / PATCH_WIDTH, 1.0)
    target = np.array([*_PATCH_EYES, _PATCH_NOSE], np.float32)
    warp = cv2.getAffineTransform(landmarks[[33, 263, 2]].astype(np.float32), target * 2)
    large = cv2.warpAffine(
        cv2.blur(frame, (blur := max(1, round(side / 2)), blur)) if side > 3 else frame,
        warp, (2 * PATCH_WIDTH, 2 * PATCH_HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    return cv2.resize(large, (PATCH_WIDTH, PATCH_HEIGHT), interpolation=cv2.INTER_AREA)


def find_cut_faces(landmarks: np.ndarray, width: int, height: int) -> np.ndarray:
    """Which faces [T] the edge of the picture cuts; landmarks [T, 478, 2] in pixels, NaN without a face."""
    outline = landmarks[:, list(FACE_OVAL)]
    low, high = outline.min(1), outline.max(1)
    slack = 0.01 * (high - low).max(1)
    return (low < -slack[:, None]).any(1) | (high > [width, height] + slack[:, None]).any(1)


def contrast(pictures: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """How much of the picture `usual` [H, W, 3] is left in each of `pictures` [T, H, W, 3]: slope of a linear fit."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    deviation = usual.reshape(-1) - usual.mean()
    return (flat - flat.mean(1, keepdims=True)) @ deviation / max(float(deviation @ deviation), 1e-9)


def find_fades(thumbnails: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Frames [T] of one shot in which picture and face fade from or to an even colour, or are gone.

    thumbnails uint8 [T, 18, 32, 3]; patches uint8 [T, PATCH_HEIGHT, PATCH_WIDTH, 3], zero without a face.
    A run of weak frames counts if it gets below half of the usual contrast: light that changes is no fade.
    """
    seen = patches.reshape(len(patches), -1).max(1) > 0
    whole = _contrast_to_median(thumbnails, np.ones(len(thumbnails), bool))
    face = _contrast_to_median(patches, seen) if seen.any() else whole
    left = np.where(seen, np.maximum(whole, face), whole)
    faded = np.zeros(len(left), bool)
    for start, stop in _true_ranges(left < 0.96):
        if left[start:stop].min() < 0.5:
            faded[start:stop] = True
    return faded


def _contrast_to_median(pictures: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Contrast [T] relative to the shot's usual picture: the median of its stronger half."""
    strength = pictures.reshape(len(pictures), -1).astype(np.float32).std(1)
    strong = chosen & (strength >= np.median(strength[chosen]))
    return contrast(pictures, np.median(pictures[strong].astype(np.float32), axis=0))


def find_dissolves(thumbnails: np.ndarray, longest: int = 2 * FPS) -> list[tuple[int, int]]:
    """Ranges (start, stop) in which one picture melts into another; thumbnails uint8 [T, 18, 32, 3].

    Between two pictures that differ, those between lie on the line that joins them, one after the other.
    """
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32) / 255
    melting = np.zeros(len(flat), bool)
    for half in (4, 8, 14, longest // 2):
        for middle in range(half, len(flat) - half, 2):
            first, last = flat[middle - half], flat[middle + half]
            difference = last - first
            span = float(difference @ difference)
            if np.abs(difference).mean() < 0.06 or span < 1e-6:
                continue
            between = flat[middle - half : middle + half + 1] - first
            progress = between @ difference / span
            off_line = np.linalg.norm(between - progress[:, None] * difference, axis=1) / np.sqrt(span)
            steps = np.diff(progress)
            inside = (progress > 0.05) & (progress < 0.95)
            gain = float(first @ last / max(first @ first, 1e-9))
            only_light = np.linalg.norm(last - gain * first) < 0.5 * np.sqrt(span)
            if inside.sum() >= 4 and steps.min() > -0.04 and steps.max() < 0.35 and off_line.max() < 0.2:
                if not only_light:
                    melting[middle - half : middle + half + 1] |= inside
    return _true_ranges(melting)


def find_frozen(thumbnails: np.ndarray, landmarks: np.ndarray, loudness: np.ndarray) -> np.ndarray:
    """Frames [T] of a picture that stands still for half a second or more while somebody speaks.

    thumbnails uint8 [T, 18, 32, 3]; landmarks [T, 478, 2]; loudness [T] RMS of each frame's sound.
    """
    frozen = np.zeros(len(thumbnails), bool)
    if len(thumbnails) < 2:
        return frozen
    still = np.abs(np.diff(thumbnails.astype(np.int16), axis=0)).max((1, 2, 3)) <= 1
    moved = np.abs(np.diff(landmarks, axis=0)).max((1, 2)) / np.maximum(np.ptp(landmarks, axis=1).max(-1)[1:], 1)
    still &= ~(moved > 0.003)  # also where there is no face
    speech = loudness > max(SILENT, 0.1 * float(np.percentile(loudness, 95)))
    for start, stop in _true_ranges(still):
        if stop - start >= _SHORTEST_FREEZE and speech[start : stop + 1].mean() > 0.3:
            frozen[start : stop + 1] = True
    return frozen


def find_black(thumbnails: np.ndarray) -> np.ndarray:
    """Frames [T] without a picture; thumbnails uint8 [T, 18, 32, 3]."""
    return np.percentile(thumbnails.reshape(len(thumbnails), -1), 95, axis=1) < 255 * _BLACK


def find_covered_mouths(patches: np.ndarray) -> np.ndarray:
    """Faces [T] of one shot whose mouth is behind a mask, a hand, a microphone; patches as face_patch gives them.

    Lips are redder than what surrounds them: a mouth without any such difference, or with little of the shot's usual
    one, is covered, as is a lower face that is much darker or brighter than usual.
    """
    covered = np.zeros(len(patches), bool)
    seen = patches.reshape(len(patches), -1).max(1) > 0
    if not seen.any():
        return covered
    values = patches[seen].astype(np.float32)
    level = values.sum(-1)
    skin = np.median(level[:, 10:16, 8:16].reshape(len(values), -1), 1) + 1
    redness = ((values[..., 0] - values[..., 1]) / (level + 12))[:, 18:25, 8:16].reshape(len(values), -1)
    lips = np.percentile(redness, 90, axis=1) - np.percentile(redness, 20, axis=1)
    lower = np.median(level[:, 18:28, 7:17].reshape(len(values), -1), 1) / skin
    usual = np.median(values / skin[:, None, None, None], axis=0)
    other = np.abs(values / skin[:, None, None, None] - usual)[:, 18:28, 6:18].mean((1, 2, 3)) * 3
    texture = (level[:, 18:25, 8:16].reshape(len(values), -1) / skin[:, None]).std(1)
    featureless = (lips < 0.01) & (texture < 0.09)
    unlike = (lips < min(0.03, 0.4 * float(np.median(lips)))) & (other > 0.07)
    shaded = (lower < 0.65 * np.median(lower)) | (lower < 0.3) | ((lower > 1.5 * np.median(lower)) & (other > 0.25))
    covered[seen] = (skin > 60) & (featureless | unlike | shaded)
    for start, stop in _true_ranges(covered):
        covered[start:stop] = stop - start >= 3
    return covered


def find_dark(patches: np.ndarray) -> np.ndarray:
    """Faces [T] that are too dark to learn from; patches as face_patch gives them, zero without a face."""
    level = np.median(patches[:, 6:24, 5:19].reshape(len(patches), -1), axis=1) / 255
    return (level < _DARK) & patches.any((1, 2, 3))


def find_sunglasses(patches: np.ndarray) -> np.ndarray:
    """Faces [T] whose eyes are behind dark glasses: from the brows to the cheeks all is darker than skin."""
    bright = patches.astype(np.float32).max(-1)
    left, right = bright[:, 7:12, 5:10], bright[:, 7:12, 14:19]
    eyes = np.maximum(np.percentile(left, 80, axis=(1, 2)), np.percentile(right, 80, axis=(1, 2)))
    skin = np.median(np.concatenate([bright[:, 14:19, 5:9], bright[:, 14:19, 15:19]], 2), axis=(1, 2))
    return (eyes < 0.5 * skin) & patches.any((1, 2, 3))


def _true_ranges(flags: np.ndarray) -> list[tuple[int, int]]:
    """Ranges (start, stop) in which flags [T] is true."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
