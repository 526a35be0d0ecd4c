"""A film of a shipped head before a background, with shoulders, blur, grain and compression; its alpha is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dgtalker.camera import orbit_camera
from dgtalker.identity import Identity
from dgtalker.media.video_reader import decode_frames
from dgtalker.media.video_writer import EncoderConfig, VideoWriter
from dgtalker.render import render

BACKGROUNDS = ("wall", "flag", "workshop")


@dataclass(frozen=True)
class PerformanceFilm:
    """Frames as decoded from the film, and the truth behind them."""

    pictures: np.ndarray  # [T,S,S,3] uint8
    alpha: np.ndarray  # [T,S,S] in 0..1, shoulders included
    color: np.ndarray  # [T,S,S,3] in 0..1, times alpha
    head: np.ndarray  # [T] last row that is judged: above the shoulders


def make_background(kind: str, size: int) -> np.ndarray:
    """Background [S,S,3] in 0..1: a plain wall with a shade, a flag's stars and stripes, or a photographed workshop."""
    import cv2

    y, x = (np.mgrid[:size, :size] + 0.5) / size
    if kind == "wall":
        return (np.float32([0.62, 0.6, 0.55]) * (0.7 + 0.5 * x + 0.2 * y)[..., None]).clip(0, 1).astype(np.float32)
    if kind == "flag":
        stripes = np.where((np.floor(y * 13) % 2)[..., None] > 0, [0.9, 0.88, 0.85], [0.65, 0.12, 0.15])
        stars = np.hypot((x * 11) % 1 - 0.5, (y * 9) % 1 - 0.5) < 0.25
        union = np.where(stars[..., None], [0.92, 0.92, 0.9], [0.12, 0.15, 0.35])
        picture = np.where(((x < 0.62) & (y < 0.6))[..., None], union, stripes)
        return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), size / 256)
    from skimage import data

    photo = {"workshop": data.stereo_motorcycle}[kind]()[0]
    side = min(photo.shape[:2])
    photo = cv2.resize(photo[:side, -side:], (size, size), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(photo.astype(np.float32) / 255, (0, 0), 0.7)


def make_performance_film(
    identity: Identity, background: str, path: Path, frames: int = 24, size: int = 256, crf: int = 23, seed: int = 0
) -> PerformanceFilm:
    """Film the head turning and nodding, three instants to a frame, and read it back from H.264."""
    import cv2

    rng = np.random.default_rng(seed)
    back = make_background(background, size)
    splats = identity.gaussians(np.zeros(identity.n_exp, np.float32), np.zeros(identity.n_lip, np.float32))
    alphas, colors, rows, pictures = [], [], [], []
    for t in range(frames):
        alpha, color = 0.0, 0.0
        for instant in (-0.3, 0, 0.3):
            phase = 2 * np.pi * (t + instant) / 50  # two seconds
            camera = orbit_camera(14 * np.sin(phase), 6 * np.sin(2 * phase), size)
            camera.intrinsics[0, 2] += 12 * size / 256 * np.sin(phase + 1)
            camera.intrinsics[1, 2] += (10 + 4 * np.cos(phase)) * size / 256
            image, coverage = render(splats, camera, background=(0.0,))
            head = coverage[0, ..., 0].clamp(0, 1).numpy()
            body, cloth = _shoulders(head, size)
            alpha = alpha + (head + (1 - head) * body) / 3
            color = color + (image[0].clamp(0, 1).numpy() + ((1 - head) * body)[..., None] * cloth) / 3
        alphas.append(alpha)
        colors.append(color)
        rows.append(_chin_row(head))
        grain = cv2.GaussianBlur(rng.normal(0, 1, (size, size, 3)).astype(np.float32), (0, 0), 0.6)
        picture = color + (1 - alpha[..., None]) * back + 0.015 * grain
        pictures.append((picture.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    with VideoWriter(path, size, size, config=EncoderConfig(crf=crf)) as writer:
        for picture in pictures:
            writer.write(picture)
    decoded = np.stack(list(decode_frames(path, size, size)))
    assert len(decoded) == frames
    return PerformanceFilm(decoded, np.float32(alphas), np.float32(colors), np.array(rows))


def _chin_row(head: np.ndarray) -> int:
    solid = np.flatnonzero((head > 0.5).any(1))
    return int(solid[0] + 0.8 * (solid[-1] - solid[0]))


def _shoulders(head: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Alpha [S,S] and colour [S,S,3] of a woollen jersey under a head [S,S]."""
    rows, columns = np.nonzero(head > 0.5)
    y, x = np.mgrid[:size, :size] + 0.5
    neck = rows.max() - 0.04 * size
    middle = columns[rows > rows.max() - 0.1 * size].mean()
    slope = 0.12 * size * (np.abs(x - middle) / (0.45 * size)) ** 2
    alpha = (y - neck - slope + 0.02 * size * np.cos((x - middle) / (0.1 * size)) * (abs(x - middle) < 0.2 * size)) / 2
    cloth = np.float32([0.25, 0.3, 0.38]) * (0.85 + 0.15 * np.sin(y * 1.3) * np.sin(x * 1.1))[..., None]
    return alpha.clip(0, 1).astype(np.float32), cloth.astype(np.float32)


def rim_errors(film: PerformanceFilm, alpha: np.ndarray, color: np.ndarray) -> dict[str, float]:
    """Mean absolute errors within 4 pixels (of 256) of the outline: alpha, the head on white, and alpha's flicker.

    alpha [T,S,S] and color [T,S,S,3] as found. Flicker is the change of the error from frame to frame.
    """
    import cv2

    size = film.alpha.shape[1]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(4 * size / 256) + 1,) * 2)
    rim = np.stack([cv2.dilate(s, disc) - cv2.erode(s, disc) for s in (film.alpha > 0.5).astype(np.uint8)]).astype(bool)
    rim &= np.arange(size)[None, :, None] < film.head[:, None, None]
    error = alpha - film.alpha
    white = alpha[..., None] * color + 1 - alpha[..., None] - (film.color + 1 - film.alpha[..., None])
    outside = ~rim & (np.arange(size)[None, :, None] < film.head[:, None, None])
    return {
        "alpha": float(np.abs(error)[rim].mean()),
        "color": float(np.abs(white).mean(-1)[rim].mean()),
        "flicker": float(np.abs(np.diff(error, axis=0))[rim[1:] & rim[:-1]].mean()),
        "elsewhere": float(np.abs(error)[outside].mean()),
    }
