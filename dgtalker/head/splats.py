"""Functions on splats that training and analysis share: face regions, visibility, rigid motion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply
from dgtalker.head.w_plus import WPlusGenerator

Renderer = Callable[[Gaussians, Camera], tuple[Tensor, Tensor]]


def region_weights(generator: Generator | WPlusGenerator) -> tuple[Tensor, Tensor]:
    """Membership of every splat in the upper and the lower face, [N] each, in [0, 1]: the template's at its texel."""
    surface, template = generator.surface, generator.template

    def at_texels(weights: Tensor) -> Tensor:
        corners = weights.float().to(surface.texel_corners.device)[surface.texel_corners]  # [N, 3]
        return (corners * surface.texel_bary).sum(dim=-1)

    return at_texels(template.upper_weight), at_texels(template.lower_weight)


def measure_visibility(gaussians: Gaussians, cameras: Camera, render: Renderer) -> Tensor:
    """Blending weight of each splat summed over pixels, mean over cameras, [N].

    A picture is linear in the colours, so the weights are the gradient of the sum of its pixels by the colours.
    """
    colors = torch.zeros_like(gaussians.colors).requires_grad_()
    splats = Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors)
    images, _ = render(splats, cameras)
    (gradient,) = torch.autograd.grad(images.sum(), colors)
    return gradient.mean(dim=-1) / len(cameras)


def apply_pose(gaussians: Gaussians, pose: Tensor) -> Gaussians:
    """Rigid motion of splats [N]: pose [6] = rotation vector (radians) and translation (dm), about the world origin."""
    rotation = axis_angle_to_quaternion(pose[:3])
    return Gaussians(
        rotate_points(gaussians.means, rotation) + pose[3:],
        quaternion_multiply(rotation.expand_as(gaussians.quats), gaussians.quats),
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
    )


def rotate_points(points: Tensor, quaternion: Tensor) -> Tensor:
    """Rotate points [N, 3] by one unit quaternion [4]."""
    vector = quaternion[1:].expand_as(points)
    cross = 2 * torch.linalg.cross(vector, points)
    return points + quaternion[0] * cross + torch.linalg.cross(vector, cross)
