"""What the identity stages ask about splats: which region they belong to, what cameras see of them, rigid motion."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dgtalker.camera import Camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply

Renderer = Callable[[Gaussians, Camera], tuple[Tensor, Tensor]]


def region_weights(generator: Generator) -> tuple[Tensor, Tensor]:
    """Membership of every splat in the upper and the lower face, [N] each, in [0, 1]: the template's at its texel."""
    surface, template = generator.surface, generator.template

    def at_texels(weights: Tensor) -> Tensor:
        corners = weights.float().to(surface.texel_corners.device)[surface.texel_corners]  # [N, 3]
        return (corners * surface.texel_bary).sum(dim=-1)

    return at_texels(template.upper_weight), at_texels(template.lower_weight)


def measure_visibility(gaussians: Gaussians, cameras: Camera, render: Renderer) -> Tensor:
    """How much of the pictures each splat paints: blending weights summed over pixels, mean over cameras, [N].

    The sum of a picture that is linear in the colours has just these weights as its gradient.
    """
    colors = torch.zeros_like(gaussians.colors).requires_grad_()
    splats = Gaussians(gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors)
    images, _ = render(splats, cameras)
    (gradient,) = torch.autograd.grad(images.sum(), colors)
    return gradient.mean(dim=-1) / len(cameras)


def apply_pose(gaussians: Gaussians, pose: Tensor) -> Gaussians:
    """Rigid motion of splats [N]: pose [6] = rotation vector (radians) and translation (dm), about the world origin."""
    turn = axis_angle_to_quaternion(pose[:3])
    return Gaussians(
        rotate_points(gaussians.means, turn) + pose[3:],
        quaternion_multiply(turn.expand_as(gaussians.quats), gaussians.quats),
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors,
    )


def rotate_points(points: Tensor, quaternion: Tensor) -> Tensor:
    """Points [N, 3] turned by one unit quaternion [4]."""
    vector = quaternion[1:].expand_as(points)
    cross = 2 * torch.linalg.cross(vector, points)
    return points + quaternion[0] * cross + torch.linalg.cross(vector, cross)
