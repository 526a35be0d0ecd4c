"""Camera conventions, read off rendered pictures where possible."""

import pytest
import torch

from dgtalker.camera import Camera, camera_path, orbit_camera
from dgtalker.errors import UserError
from dgtalker.gaussians import Gaussians
from dgtalker.render import render


def dot(x: float, y: float, z: float) -> Gaussians:
    """One small black splat."""
    return Gaussians(
        torch.tensor([[x, y, z]]), torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.05), torch.tensor([0.99]),
        torch.zeros(1, 3),
    )  # fmt: skip


def seen_at(gaussians: Gaussians, camera: Camera) -> tuple[float, float]:
    """Centre of mass (x, y) of what is drawn, in pixels."""
    alpha = render(gaussians, camera, backend="cpu")[1][0, ..., 0]
    rows = torch.arange(camera.height) + 0.5
    columns = torch.arange(camera.width) + 0.5
    return ((alpha.sum(0) @ columns) / alpha.sum()).item(), ((alpha.sum(1) @ rows) / alpha.sum()).item()


def test_front_view():
    front = orbit_camera(size=100)
    assert seen_at(dot(0, 0, 0), front) == pytest.approx((50, 50), abs=0.05)
    x, y = seen_at(dot(1, 0, 0), front)  # the subject's left is at the right of the picture
    assert x == pytest.approx(50 + 100 / 3.2, abs=0.1) and y == pytest.approx(50, abs=0.05)
    x, y = seen_at(dot(0, 1, 0), front)  # up is up: image rows grow downwards
    assert x == pytest.approx(50, abs=0.05) and y == pytest.approx(50 - 100 / 3.2, abs=0.1)
    torch.testing.assert_close(front.position, torch.tensor([0.0, 0, 12]), atol=1e-5, rtol=0)


def test_yaw_and_pitch():
    assert orbit_camera(yaw=30).position[0] > 5
    assert orbit_camera(pitch=30).position[1] > 5
    nose = dot(0, 0, 1)
    assert seen_at(nose, orbit_camera(yaw=30, size=100))[0] < 45  # camera to its right: the nose points left
    assert seen_at(nose, orbit_camera(pitch=30, size=100))[1] > 55  # camera above: the nose points down
    for yaw, pitch in [(0, 0), (90, 0), (-135, 40), (180, -80)]:
        camera = orbit_camera(yaw, pitch, 100)
        rotation = camera.world_to_camera[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
        assert torch.linalg.det(rotation) == pytest.approx(1)
        assert rotation[1, 1] < 0  # upright
        assert camera.position.norm() == pytest.approx(12)
        assert seen_at(dot(0, 0, 0), camera) == pytest.approx((50, 50), abs=0.05)


def test_zoom_target_and_resize():
    assert seen_at(dot(0.5, 0, 0), orbit_camera(size=100, zoom=2)) == pytest.approx((50 + 100 / 3.2, 50), abs=0.1)
    target = (0.3, -0.4, 0.2)
    assert seen_at(dot(*target), orbit_camera(70, -20, 100, target=target)) == pytest.approx((50, 50), abs=0.05)
    small, large = orbit_camera(20, 0, 64), orbit_camera(20, 0, 64).resized(128)
    torch.testing.assert_close(large.intrinsics, orbit_camera(20, 0, 128).intrinsics)
    assert (large.width, large.height) == (128, 128)
    x, y = seen_at(dot(0.5, 0.5, 0), small)
    assert seen_at(dot(0.5, 0.5, 0), large) == pytest.approx((2 * x, 2 * y), abs=0.1)
    wide = Camera(small.world_to_camera, small.intrinsics, 96, 64).resized((48, 16))
    assert (wide.width, wide.height) == (48, 16)


def test_batches():
    cameras = Camera.stack([orbit_camera(yaw, 0, 32) for yaw in (0, 10, 20)])
    assert len(cameras) == 3 and len(cameras[1:]) == 2
    torch.testing.assert_close(cameras[2].position, orbit_camera(20, 0, 32).position)
    with pytest.raises(ValueError):
        Camera.stack([orbit_camera(size=32), orbit_camera(size=33)])
    with pytest.raises(TypeError):
        len(cameras[0])


def test_paths():
    front = camera_path("front", 5, 64)
    assert len(front) == 5
    torch.testing.assert_close(front[4].world_to_camera, orbit_camera(0, 0, 64).world_to_camera)
    spiral = camera_path("spiral", 200, 64, yaw=25, pitch=10)
    torch.testing.assert_close(spiral[0].position, orbit_camera(0, 0, 64).position)
    yaws = torch.rad2deg(torch.atan2(spiral.position[:, 0], spiral.position[:, 2]))
    pitches = torch.rad2deg(torch.asin(spiral.position[:, 1] / 12))
    assert yaws.max() == pytest.approx(25, abs=0.1) and yaws.min() == pytest.approx(-25, abs=0.1)
    assert pitches.max() == pytest.approx(10, abs=0.1) and pitches.min() == pytest.approx(-10, abs=0.1)
    assert yaws.diff().abs().max() < 2.5  # no jumps
    with pytest.raises(UserError):
        camera_path("sideways", 5, 64)


@pytest.mark.parametrize("bad", [{"yaw": float("nan")}, {"yaw": "left"}, {"pitch": 90}, {"zoom": 0}, {"size": 0}])
def test_bad_cameras(bad):
    with pytest.raises(UserError):
        orbit_camera(**bad)
