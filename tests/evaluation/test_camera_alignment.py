"""Camera alignment on a painted plane: the truth is known."""

import numpy as np
import torch

from dgtalker.camera import Camera
from dgtalker.evaluation.camera_alignment import refine_camera

SIZE = 96
RNG = np.random.default_rng(0)
SPOTS = RNG.uniform(-0.45, 0.45, (40, 2))
SHADES = RNG.uniform(0.2, 1.0, 40)


def draw(camera: Camera) -> np.ndarray:
    """Soft dark spots on the plane z = 0, seen through the camera."""
    points = np.concatenate([SPOTS, np.zeros((40, 1)), np.ones((40, 1))], 1) @ camera.world_to_camera.numpy().T
    pixels = points[:, :3] @ camera.intrinsics.numpy().T
    x, y = (pixels[:, :2] / pixels[:, 2:]).T
    grid = np.arange(SIZE) + 0.5
    spots = (
        np.exp(-((grid[None, :] - x[:, None]) ** 2) / 18)[:, None, :]
        * np.exp(-((grid[None, :] - y[:, None]) ** 2) / 18)[:, :, None]
    )
    image = 255 * np.clip(1 - (spots * SHADES[:, None, None]).sum(0), 0, 1)
    return np.repeat(image[..., None], 3, -1).astype(np.uint8)


def plane_camera(roll=0.0, scale=1.0, shift=(0.0, 0.0)) -> Camera:
    w2c = torch.eye(4)
    w2c[2, 3] = 4.0
    c, s = np.cos(roll), np.sin(roll)
    w2c[:2, :2] = torch.tensor([[c, -s], [s, c]])
    f = 4 * SIZE * scale
    k = torch.tensor([[f, 0, SIZE / 2 + shift[0]], [0, f, SIZE / 2 + shift[1]], [0, 0, 1.0]])
    return Camera(w2c, k, SIZE, SIZE)


def test_shift_scale_and_roll_are_found():
    truth, start = plane_camera(0.02, 1.02, (1.3, -0.9)), plane_camera()
    found = refine_camera(draw, start, draw(truth), np.ones((SIZE, SIZE), np.float32))
    np.testing.assert_allclose(found.intrinsics, truth.intrinsics, atol=1.2)  # focal length: 384 pixels
    np.testing.assert_allclose(found.intrinsics[:2, 2], truth.intrinsics[:2, 2], atol=0.15)
    np.testing.assert_allclose(found.world_to_camera, truth.world_to_camera, atol=3e-3)


def test_what_lies_outside_the_mask_has_no_say():
    truth = plane_camera(shift=(1.0, 0.5))
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[: SIZE // 2] = 1
    real = draw(truth)
    spoiled = real.copy()
    spoiled[SIZE // 2 + 8 :] = RNG.integers(0, 255, spoiled[SIZE // 2 + 8 :].shape)
    a, b = (refine_camera(draw, plane_camera(), picture, mask) for picture in (real, spoiled))
    np.testing.assert_allclose(a.intrinsics, b.intrinsics, atol=0.05)


def test_a_blank_picture_leaves_the_camera_alone():
    camera = plane_camera()
    blank = np.full((SIZE, SIZE, 3), 255, np.uint8)
    found = refine_camera(lambda c: blank, camera, blank, np.ones((SIZE, SIZE), np.float32))
    assert torch.equal(found.intrinsics, camera.intrinsics)
    assert torch.equal(found.world_to_camera, camera.world_to_camera)
