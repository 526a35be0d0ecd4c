"""The three backends draw the same pictures, with the same gradients, and survive bad input."""

import threading

import numpy as np
import pytest
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.render import render, render_frame
from dgtalker.render.reference import project, rotation_matrices

NAMES = ("means", "quats", "scales", "opacities", "colors")


def random_gaussians(count: int, channels: int = 3, seed: int = 0, size: float = 0.1) -> Gaussians:
    """Gaussians of all shapes around the origin, needles and pancakes included, some opaque."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return Gaussians(
        means=(uniform(count, 3) - 0.5) * 3,
        quats=torch.randn(count, 4, generator=generator),
        scales=size * torch.exp(1.5 * (uniform(count, 3) - 0.7)),
        opacities=1.1 * uniform(count).clamp(0.01, 0.9),
        colors=uniform(count, channels),
    )


def two_cameras(width: int = 70, height: int = 45) -> Camera:
    """Two views of an image that is no whole number of tiles."""
    return Camera.stack([orbit_camera(20, 10, 64), orbit_camera(-140, -30, 64, zoom=1.5)]).resized((width, height))


def gradients(
    gaussians: Gaussians, cameras: Camera, backend: str, seed: int, device: str = "cpu"
) -> list[torch.Tensor]:
    """Gradients of a random quadratic loss on image and alpha by attributes, background and camera."""
    generator = torch.Generator().manual_seed(seed)
    leaves = [getattr(gaussians, name).clone().to(device).requires_grad_() for name in NAMES]
    view = cameras.world_to_camera.clone().to(device).requires_grad_()
    background = torch.rand(leaves[-1].shape[-1], generator=generator).to(device).requires_grad_()
    moved = Camera(view, cameras.intrinsics.to(device), cameras.width, cameras.height)
    images, alphas = render(Gaussians(*leaves), moved, background, backend)
    target = torch.rand(images.shape, generator=generator).to(device)
    loss = ((images - target) ** 2).mean() + (alphas * target[..., :1]).mean()
    return torch.autograd.grad(loss, [*leaves, background, view])


def assert_gradients_close(found, expected, tolerance: float = 1e-2) -> None:
    for name, a, b in zip((*NAMES, "background", "view"), found, expected, strict=True):
        a, b = a.cpu(), b.cpu()
        assert torch.linalg.norm(a - b) <= tolerance * torch.linalg.norm(b), name
        assert torch.linalg.norm(b) > 0, name


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_cpu_images_match_reference(seed, channels):
    gaussians, cameras = random_gaussians(400, channels, seed), two_cameras()
    background = torch.linspace(0, 1, channels)
    images, alphas = render(gaussians, cameras, background, "cpu")
    expected, expected_alphas = render(gaussians, cameras, background, "reference")
    assert images.shape == (2, 45, 70, channels) and alphas.shape == (2, 45, 70, 1)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(alphas, expected_alphas, atol=1e-3, rtol=0)
    assert 0.2 < alphas.mean() < 0.98  # the scene shows something, and lets something through


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_cpu_gradients_match_reference(seed, channels):
    gaussians, cameras = random_gaussians(300, channels, seed), two_cameras()
    assert_gradients_close(gradients(gaussians, cameras, "cpu", seed), gradients(gaussians, cameras, "reference", seed))


def test_big_and_close_gaussians():
    """Ellipses much larger than a tile, centres outside the picture, near the camera or behind it."""
    gaussians = random_gaussians(60, size=1.0, seed=5)
    gaussians.means *= 4
    gaussians.opacities *= 0.3
    camera = orbit_camera(10, 0, 96)
    images, _ = render(gaussians, camera, backend="cpu")
    torch.testing.assert_close(images, render(gaussians, camera, backend="reference")[0], atol=1e-3, rtol=0)
    close = Camera(camera.world_to_camera.clone(), camera.intrinsics, 96, 96)
    close.world_to_camera[2, 3] = 3.0  # among them
    images, _ = render(gaussians, close, backend="cpu")
    torch.testing.assert_close(images, render(gaussians, close, backend="reference")[0], atol=1e-3, rtol=0)
    batch = Camera.stack([close])
    assert_gradients_close(gradients(gaussians, batch, "cpu", 0), gradients(gaussians, batch, "reference", 0))


def test_reference_gradients_against_finite_differences():
    gaussians = random_gaussians(12, seed=3, size=0.5).to(torch.float64)
    camera = orbit_camera(10, 5, 8).to(torch.float64)
    leaves = [getattr(gaussians, name).requires_grad_() for name in NAMES]

    def function(*attributes):
        return render(Gaussians(*attributes), camera, backend="reference")

    assert torch.autograd.gradcheck(function, leaves, eps=1e-7, atol=1e-5, rtol=1e-3)


def test_projection_against_gsplat():
    gsplat = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    gaussians, cameras = random_gaussians(500, seed=2), two_cameras()
    gaussians.means[:20] *= 6  # some outside the view cone
    covariances, _ = gsplat._quat_scale_to_covar_preci(gaussians.quats, gaussians.scales, compute_preci=False)
    _, positions, depths, conics, _ = gsplat._fully_fused_projection(
        gaussians.means, covariances, cameras.world_to_camera, cameras.intrinsics, cameras.width, cameras.height
    )
    found = project(
        gaussians.means, gaussians.quats, gaussians.scales, cameras.world_to_camera, cameras.intrinsics,
        cameras.width, cameras.height,
    )  # fmt: skip
    torch.testing.assert_close(found[0], positions, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found[2], depths)
    inverse = torch.linalg.inv(found[1])[..., [0, 0, 1], [0, 1, 1]]
    torch.testing.assert_close(inverse, conics, atol=1e-4, rtol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gsplat_matches_reference():
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    gaussians, cameras = random_gaussians(400), two_cameras()
    images, alphas = render(gaussians.to("cuda"), cameras.to("cuda"), backend="gsplat")
    expected, expected_alphas = render(gaussians, cameras, backend="reference")
    torch.testing.assert_close(images.cpu(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(alphas.cpu(), expected_alphas, atol=1e-3, rtol=0)
    found = gradients(gaussians, cameras, "gsplat", 0, "cuda")
    assert_gradients_close(found, gradients(gaussians, cameras, "reference", 0))


def test_rotation_of_gsplat_order():
    """wxyz: a quarter turn about y takes z to x."""
    half = 0.5**0.5
    turned = rotation_matrices(torch.tensor([half, 0, half, 0])) @ torch.tensor([0.0, 0, 1])
    torch.testing.assert_close(turned, torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)


def test_frame_equals_render():
    gaussians, camera = random_gaussians(400), orbit_camera(30, 0, 100)
    frame = render_frame(gaussians, camera, background=(0.2, 0.4, 0.6))
    images, _ = render(gaussians, camera, (0.2, 0.4, 0.6), "cpu")
    expected = (images[0].clamp(0, 1) * 255).round().numpy()
    assert frame.shape == (100, 100, 3) and frame.dtype == np.uint8
    assert np.abs(frame - expected).max() <= 1


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_values_that_are_not_finite_are_not_drawn(backend):
    gaussians, cameras = random_gaussians(50), two_cameras()
    expected, _ = render(gaussians[5:], cameras, backend=backend)
    gaussians.means[0, 1] = torch.nan
    gaussians.quats[1, 0] = torch.inf
    gaussians.scales[2, 2] = torch.inf
    gaussians.opacities[3] = torch.nan
    gaussians.colors[4, 0] = torch.nan
    images, _ = render(gaussians, cameras, backend=backend)
    torch.testing.assert_close(images, expected)
    found = gradients(gaussians, cameras, backend, 0)
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_nothing_to_see_is_background(backend):
    camera = orbit_camera(0, 0, 20)
    for gaussians in (random_gaussians(10)[:0], random_gaussians(10)):
        gaussians.means[..., 2] += 20  # behind the camera
        images, alphas = render(gaussians, camera, (0.1, 0.2, 0.3), backend)
        torch.testing.assert_close(images, torch.tensor([0.1, 0.2, 0.3]).expand(1, 20, 20, 3))
        assert not alphas.any()


def test_extreme_values_do_not_crash():
    gaussians = random_gaussians(200)
    for factor in (1e-30, 1e-6, 1e6, 1e18, 1e30):
        huge = Gaussians(
            gaussians.means, gaussians.quats, gaussians.scales * factor, gaussians.opacities, gaussians.colors
        )
        assert render_frame(huge, orbit_camera(0, 0, 50)).shape == (50, 50, 3)
        far = Gaussians(
            gaussians.means * factor, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors
        )
        assert render_frame(far, orbit_camera(0, 0, 50)).shape == (50, 50, 3)
    broken = orbit_camera(0, 0, 50)
    broken.world_to_camera[:] = torch.nan
    assert (render_frame(gaussians, broken) == 255).all()


def test_shapes_are_checked_at_the_door():
    good, camera = random_gaussians(10), orbit_camera(0, 0, 20)
    for name, shape in [
        ("means", (10, 2)),
        ("quats", (9, 4)),
        ("scales", (10,)),
        ("opacities", (10, 1)),
        ("colors", (9, 3)),
    ]:
        bad = good.to(torch.float32)
        setattr(bad, name, torch.zeros(shape))
        with pytest.raises(ValueError, match=name):
            render(bad, camera)
        with pytest.raises(ValueError, match=name):
            render_frame(bad, camera)
    with pytest.raises(ValueError, match="background"):
        render(good, camera, (0.1, 0.2))
    with pytest.raises(ValueError, match="backend"):
        render(good, camera, backend="opengl")
    with pytest.raises(ValueError, match="Cameras"):
        render(good, Camera(torch.eye(3), torch.eye(3), 10, 10))
    with pytest.raises(ValueError, match="RGB"):
        render_frame(random_gaussians(10, channels=1), camera)


def test_threads_render_at_the_same_time():
    gaussians, camera = random_gaussians(2000), orbit_camera(0, 0, 64)
    expected, wrong = render_frame(gaussians, camera), []

    def work():
        for _ in range(20):
            if not np.array_equal(render_frame(gaussians, camera), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_gradients_are_reproducible():
    gaussians, cameras = random_gaussians(2000), two_cameras()
    first, second = (gradients(gaussians, cameras, "cpu", 0) for _ in range(2))
    for a, b in zip(first[:5], second[:5], strict=True):
        assert torch.equal(a, b)


def test_changing_a_parameter_before_backward_is_noticed():
    gaussians = random_gaussians(20)
    gaussians.means.requires_grad_()
    images, _ = render(gaussians, orbit_camera(size=32), backend="cpu")
    with torch.no_grad():
        gaussians.means += 1
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        images.sum().backward()
