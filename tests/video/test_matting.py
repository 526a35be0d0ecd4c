import numpy as np
import pytest

from dgtalker.video.matting import CropWindow, refine_matte

cv2 = pytest.importorskip("cv2")


def test_window_maps_points_and_pixels_alike():
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8), (0, 0), 4)
    window = CropWindow(left=20.3, top=10.7, side=64.0, size=128)
    crop = window.crop(picture)
    pixel = np.array([[60.5, 40.5]])  # the centre of a source pixel
    x, y = window.points(pixel)[0]
    assert np.allclose([x, y], [(60.5 - 20.3) * 2, (40.5 - 10.7) * 2])
    sampled = cv2.remap(crop, np.float32([[x - 0.5]]), np.float32([[y - 0.5]]), cv2.INTER_LINEAR)[0, 0]
    assert np.abs(sampled - picture[40, 60] / 255).max() < 0.01


def test_window_outside_the_picture():
    inside = CropWindow(-10.0, 0.0, 40.0, 40).inside(20, 100)
    assert not inside[:, :9].any() and inside[:20, 11:].all() and not inside[21:].any()


def test_refinement_finds_soft_edges_and_removes_the_background():
    """A red disc with a soft rim before blue; the rough matte has a hard, slightly wrong edge."""
    y, x = np.mgrid[:256, :256] + 0.5
    radius = np.hypot(x - 128, y - 128)
    alpha = np.clip((80 - radius) / 6 + 0.5, 0, 1).astype(np.float32)
    front, back = np.float32([0.7, 0.3, 0.2]), np.float32([0.1, 0.4, 0.9])
    picture = alpha[..., None] * front + (1 - alpha[..., None]) * back
    rough = (radius < 82).astype(np.float32)
    found, colour = refine_matte(picture, rough)
    assert np.abs(found - alpha).max() < 0.15 and np.abs(found - alpha).mean() < 0.01
    on_white = found[..., None] * colour + 1 - found[..., None]
    ideal = alpha[..., None] * front + 1 - alpha[..., None]
    assert np.abs(on_white - ideal).max() < 0.12  # pasted with the rough matte, the rim is .5 off (blue)
    assert np.abs(rough[..., None] * picture + 1 - rough[..., None] - ideal).max() > 0.3
