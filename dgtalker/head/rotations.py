"""Rotations as unit quaternions (w, x, y, z), axis-angle vectors (radians) and matrices; all differentiable."""

import torch
from torch import Tensor
from torch.nn import functional as F


def quaternion_multiply(p: Tensor, q: Tensor) -> Tensor:  # [...,4] x [...,4] -> [...,4]
    """Hamilton product: first q, then p."""
    pw, pv = p[..., :1], p[..., 1:]
    qw, qv = q[..., :1], q[..., 1:]
    w = pw * qw - (pv * qv).sum(-1, keepdim=True)
    return torch.cat([w, pw * qv + qw * pv + torch.linalg.cross(pv, qv)], -1)


def axis_angle_to_quaternion(axis_angle: Tensor) -> Tensor:  # [...,3] -> [...,4]
    """Exponential map; smooth at zero."""
    half = 0.5 * (axis_angle.square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return torch.cat([half.cos(), 0.5 * axis_angle * (half.sin() / half)], -1)


def quaternion_to_axis_angle(q: Tensor) -> Tensor:  # [...,4] -> [...,3]
    """Logarithm of unit quaternions: angles of at most pi; smooth at the identity."""
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = (q[..., 1:].square().sum(-1, keepdim=True) + 1e-12).sqrt()
    return q[..., 1:] * (2.0 * torch.atan2(sine, q[..., :1]) / sine)


def matrix_to_quaternion(m: Tensor, exact: bool = False) -> Tensor:  # [...,3,3] -> [...,4]
    """Rotation matrices to unit quaternions.

    By default the formula of one branch: cheap, finite everywhere, accurate for angles well below pi (a surface since
    rest). `exact` picks the best conditioned of the four branches.
    """
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    xx, yy, zz = diagonal.unbind(-1)
    skew = torch.stack([m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1)
    trace = (1.0 + xx + yy + zz)[..., None]
    if not exact:
        return F.normalize(torch.cat([trace.clamp_min(0.02), skew], -1), dim=-1)
    sx, sy, sz = skew.unbind(-1)
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    branches = torch.stack(  # each is the quaternion times four of its own components
        [
            torch.stack([1 + xx + yy + zz, sx, sy, sz], -1),
            torch.stack([sx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([sy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([sz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = branches.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    return F.normalize(branches.gather(-2, best).squeeze(-2), dim=-1)
