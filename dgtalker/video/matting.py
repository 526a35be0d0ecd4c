"""Matting: alpha and the foreground's own colour of a head in front of whatever is behind it.

A person segmenter, the tracked face and a clean plate of the background decide what is certainly person and certainly
background. In the band between, alpha is closed-form (Levin et al., 2008), the colours of the foreground are
multi-level (Germer et al., 2020), both by PyMatting. Neighbouring frames agree: alpha is averaged along the optical
flow. Where they do not, or where alpha stays half-way over an area, the matte says that it is unsure.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dgtalker.errors import UserError
from dgtalker.video.segmentation import CropWindow, Segmenter, coarse_matte

# Distances below are in pixels of a 256 crop, colours in 0..1.
_PERSON, _PERSON_MARGIN = 0.9, 6  # segmenter's probability, and how far inside its outline a person is certain
_BACKGROUND, _BACKGROUND_MARGIN = 0.1, 9  # the same for the background
_FACE_MARGIN = 3  # inside the hull of the landmarks
_PLATE_DIFFERENCE = 0.035  # what differs less from the clean plate is background
_PLATE_FRAMES = 40  # frames that the clean plate is made from
_PLATE_SEEN = 4  # frames in which the background must have been seen
_PLATE_SPREAD = 0.05  # median deviation above which the background moves and has no clean plate
_PLATE_CONTRAST = 0.15  # difference of person and plate at which the plate's word on alpha counts half
_PLATE_TRUST = 0.1  # weight of that beside the matting Laplacian
_SEGMENTER_TRUST = 0.01  # the same for the segmenter where it is certain
_SAME_COLOR = 0.05  # deviation of colour along the flow at which a neighbouring frame counts 0.6
_UNSURE_AREA = 3  # radius of an area that is half-way between person and background


@dataclass(frozen=True)
class Matte:
    """One frame cut out."""

    alpha: np.ndarray  # [S,S] float32 in 0..1
    color: np.ndarray  # [S,S,3] float32 in 0..1, without the background that shines through
    unsure: np.ndarray  # [S,S] float32 in 0..1, 1 where alpha is a guess


def matte_frames(
    segmenter: Segmenter, pictures: Iterable[np.ndarray], window: CropWindow, faces: np.ndarray | None = None
) -> Iterator[Matte]:
    """Cut the person out of consecutive source pictures uint8 [H,W,3]; the window's crops are kept in memory.

    faces [T,L,2]: landmarks of each frame, pixels of the crop; the face is person whatever the segmenter says.
    """
    crops, rough = [], []
    for picture in pictures:
        crops.append((window.crop(picture).clip(0, 1) * 255 + 0.5).astype(np.uint8))
        rough.append((coarse_matte(segmenter, picture, window) * 255 + 0.5).astype(np.uint8))
    chosen = np.unique(np.linspace(0, len(crops) - 1, min(_PLATE_FRAMES, len(crops))).astype(int)).tolist()
    plate = clean_plate([crops[t] for t in chosen], [rough[t] for t in chosen])

    def refined() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for t, (crop, coarse) in enumerate(zip(crops, rough, strict=True)):
            face = None if faces is None else faces[t]
            picture = crop.astype(np.float32) / 255
            yield picture, refine_alpha(picture, coarse.astype(np.float32) / 255, face, plate)

    for picture, alpha, unsure in _average_along_flow(refined()):
        yield Matte(alpha, foreground_color(picture, alpha), unsure)


def clean_plate(crops: Sequence[np.ndarray], rough: Sequence[np.ndarray]) -> np.ndarray:
    """Colour of the background [S,S,3] in 0..1 where it was seen and stands still, NaN elsewhere.

    crops uint8 [S,S,3] and their rough mattes uint8 [S,S]. One colour a pixel: the median over the frames in which the
    pixel is far from the person.
    """
    import cv2

    if not len(crops):
        raise UserError("The film has no picture to cut out; give another one.")
    radius = max(3, round(8 * len(crops[0]) / 256)) | 1
    seen = []
    for crop, coarse in zip(crops, rough, strict=True):
        empty = cv2.erode((coarse < 0.05 * 255).astype(np.uint8), np.ones((radius, radius))) > 0
        seen.append(np.where(empty[..., None], crop.astype(np.float32) / 255, np.float32(np.nan)))
    stack = np.stack(seen)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # pixels that were never seen
        plate = np.nanmedian(stack, 0)
        spread = np.nanmedian(np.abs(stack - plate).max(-1), 0)
    plate[(np.isfinite(stack[..., 0]).sum(0) < _PLATE_SEEN) | ~(spread <= _PLATE_SPREAD)] = np.nan
    return plate


def build_trimap(
    picture: np.ndarray, rough: np.ndarray, face: np.ndarray | None = None, plate: np.ndarray | None = None
) -> np.ndarray:
    """Trimap float64 [S,S]: 1 person, 0 background, 0.5 unknown.

    picture [S,S,3] and its rough matte [S,S] in 0..1; face [L,2]: landmarks, pixels; plate [S,S,3]: see clean_plate.
    """
    import cv2

    size = len(rough)
    person = cv2.erode((rough > _PERSON).astype(np.uint8), _disc(_PERSON_MARGIN, size))
    background = cv2.erode((rough < _BACKGROUND).astype(np.uint8), _disc(_BACKGROUND_MARGIN, size))
    if face is not None:
        person = np.maximum(person, cv2.erode(_face_hull(face, size), _disc(_FACE_MARGIN, size)))
    if plate is not None:
        known = np.isfinite(plate[..., 0])
        sigma = 0.8 * size / 256
        filled = cv2.GaussianBlur(np.where(known[..., None], plate, picture).astype(np.float32), (0, 0), sigma)
        difference = np.abs(cv2.GaussianBlur(picture, (0, 0), sigma) - filled).max(-1)
        same = known & (difference < _PLATE_DIFFERENCE) & (rough < _PERSON)
        background = np.maximum(background, cv2.morphologyEx(same.astype(np.uint8), cv2.MORPH_OPEN, _disc(1.5, size)))
    trimap = np.full((size, size), 0.5)
    trimap[background > 0] = 0
    trimap[person > 0] = 1
    return trimap


def refine_alpha(
    picture: np.ndarray, rough: np.ndarray, face: np.ndarray | None = None, plate: np.ndarray | None = None
) -> np.ndarray:
    """Alpha float32 [S,S] of one crop, without what is not connected with the head; arguments as for build_trimap."""
    import cv2

    size = len(rough)
    guide = cv2.bilateralFilter(picture.astype(np.float32), 5, 0.06, 1.5 * size / 256).clip(0, 1)  # grain, blocks
    trimap = build_trimap(guide, rough, face, plate)
    if not (trimap == 1).any() or not (trimap == 0).any():
        return rough.astype(np.float32)
    # Where the picture's own colours leave it open, the plate and then the segmenter decide.
    guess, trust = _guess_from_plate(guide, trimap, plate)
    belief = _SEGMENTER_TRUST * np.abs(2 * rough - 1)
    total = trust + belief + 1e-9
    alpha = _closed_form_alpha(guide, trimap, (trust * guess + belief * rough) / total, total)
    alpha = alpha * cv2.dilate(_head_component(alpha > 0.3, face), _disc(2, size))
    return ((alpha - 0.04) / 0.92).clip(0, 1).astype(np.float32)


def _closed_form_alpha(picture: np.ndarray, trimap: np.ndarray, guess: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Alpha [S,S] that follows the picture's lines of colour from the known pixels (Levin et al., 2008).

    guess, trust [S,S]: other evidence on alpha in the unknown pixels, and its weight beside the matting Laplacian.
    """
    from pymatting import cf_laplacian, cg, ichol
    from scipy.sparse import diags

    known = (trimap != 0.5).ravel()
    laplacian = cf_laplacian(picture.astype(np.float64), epsilon=1e-5, radius=1, is_known=known)
    rows = laplacian[~known]
    weight = trust.ravel()[~known].astype(np.float64)
    system = (rows[:, ~known] + diags(weight)).tocsc()
    right = weight * guess.ravel()[~known] - rows[:, known] @ trimap.ravel()[known]
    alpha = trimap.ravel().copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the preconditioner, about its own second try
        alpha[~known] = cg(system, right, M=ichol(system))
    return alpha.reshape(trimap.shape).clip(0, 1)


def _guess_from_plate(
    picture: np.ndarray, trimap: np.ndarray, plate: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha [S,S] by the compositing equation where the background's colour is known, and the weight of that guess.

    The person's colour is that of the certain pixels nearby; where it is like the background's, nothing is guessed.
    """
    import cv2

    if plate is None or not np.isfinite(plate).any():
        return np.zeros_like(trimap), np.zeros_like(trimap)
    known = np.isfinite(plate[..., 0])
    back = np.where(known[..., None], plate, picture).astype(np.float32)
    front = foreground_color(picture, (trimap == 1).astype(np.float32))
    axis = front - back
    contrast = np.square(axis).sum(-1)
    guess = (((picture - back) * axis).sum(-1) / (contrast + 1e-6)).clip(0, 1)
    known = cv2.erode(known.astype(np.uint8), np.ones((3, 3))) > 0
    return guess, _PLATE_TRUST * known * contrast / (contrast + _PLATE_CONTRAST**2)


def foreground_color(picture: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The person's own colour float32 [S,S,3] in 0..1, where the background shines through `picture` [S,S,3] too."""
    from pymatting import estimate_foreground_ml

    color = estimate_foreground_ml(picture.astype(np.float64), alpha.astype(np.float64))
    return np.asarray(color).clip(0, 1).astype(np.float32)


def _average_along_flow(
    frames: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Picture, alpha and unsure of each frame; alpha is the mean over the frame before, this and the next.

    The neighbours are warped onto the frame by optical flow and count where the warped picture looks the same.
    """
    before, now = None, next(frames, None)
    while now is not None:
        after = next(frames, None)
        picture, alpha = now
        total, squares, weight = alpha.copy(), alpha**2, np.ones_like(alpha)
        for other in (before, after):
            if other is not None:
                warped, warped_alpha = _warp_onto(picture, *other)
                same = np.exp(-0.5 * np.square(picture - warped).sum(-1) / _SAME_COLOR**2)
                total, squares, weight = total + same * warped_alpha, squares + same * warped_alpha**2, weight + same
        mean = total / weight
        deviation = np.sqrt(np.maximum(squares / weight - mean**2, 0))
        yield picture, mean, _unsure(mean, deviation)
        before, now = now, after


def _warp_onto(target: np.ndarray, picture: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture [S,S,3] and alpha [S,S] of another frame where they are in `target` [S,S,3] (dense inverse search)."""
    import cv2

    def grey(x: np.ndarray) -> np.ndarray:
        return (x.mean(-1) * 255).astype(np.uint8)

    still = np.zeros((*alpha.shape, 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey(target), grey(picture), still)
    rows, columns = np.mgrid[: len(alpha), : len(alpha)].astype(np.float32)
    layers = np.dstack([picture, alpha])
    warped = cv2.remap(
        layers, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return warped[..., :3], warped[..., 3]


def _unsure(alpha: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Where alpha [S,S] is a guess: it differs between frames, or is half-way over an area larger than strands."""
    import cv2

    size = len(alpha)
    half = ((alpha > 0.1) & (alpha < 0.9)).astype(np.uint8)
    area = cv2.dilate(cv2.morphologyEx(half, cv2.MORPH_OPEN, _disc(_UNSURE_AREA, size)), _disc(1, size))
    differs = cv2.dilate((deviation > 0.15).astype(np.float32), _disc(1, size))
    return cv2.GaussianBlur(np.maximum(area, differs).astype(np.float32), (0, 0), size / 256)


def _head_component(solid: np.ndarray, face: np.ndarray | None) -> np.ndarray:
    """Connected part uint8 [S,S] of `solid` [S,S] that holds the face, without one the largest part."""
    import cv2

    count, labels = cv2.connectedComponents(solid.astype(np.uint8))
    where = np.ones_like(solid) if face is None else _face_hull(face, len(solid)) > 0
    sizes = np.bincount(labels[where], minlength=count)
    sizes[0] = 0
    return (labels == sizes.argmax()).astype(np.uint8)


def _face_hull(face: np.ndarray, size: int) -> np.ndarray:
    """The hull uint8 [S,S] of the face's landmarks [L,2], pixels."""
    import cv2

    hull = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.round(face[:468] - 0.5).astype(np.int32)), 1)
    return hull


def _disc(radius: float, size: int) -> np.ndarray:
    """Round structuring element; radius in pixels of a 256 crop."""
    import cv2

    side = 2 * max(1, round(radius * size / 256)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
