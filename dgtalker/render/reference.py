"""The reference: 3D Gaussian splatting in a page of plain PyTorch, every Gaussian at every pixel.

Semantics of gsplat's `rasterization` (rasterize_mode "classic"): EWA projection (Zwicker et al. 2002) with a low-pass
of `eps2d` pixels^2, alpha clamped to 0.999 and dropped below 1/255, front-to-back compositing by the depth of the
centres, and a pixel is finished by the first Gaussian that would take its transmittance to 1e-4 or less. Slow and
hungry for memory (N x H x W): for tests and small images. Differentiable by everything, in the inputs' precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_ALPHA = 0.999
MIN_ALPHA = 1 / 255
MIN_TRANSMITTANCE = 1e-4


def rotation_matrices(
    quats: Tensor,  # [..., 4] wxyz
) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions, which are normalised first."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def project(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    view: Tensor,  # [C, 4, 4]
    intrinsics: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    eps2d: float = 0.3,
) -> tuple[Tensor, Tensor, Tensor]:
    """Screen positions [C,N,2], covariances on screen [C,N,2,2] (pixels^2, low-pass included) and depths [C,N]."""
    rotation, translation = view[:, :3, :3], view[:, :3, 3]
    focal = intrinsics[:, None, [0, 1], [0, 1]]  # [C, 1, 2]
    centre = intrinsics[:, None, [0, 1], [2, 2]]
    size = torch.tensor([width, height]).to(means)
    x = torch.einsum("cij,nj->cni", rotation, means) + translation[:, None]  # [C, N, 3] in camera space
    depths = x[..., 2]
    direction = x[..., :2] / depths[..., None]
    positions = focal * direction + centre
    # The Jacobian is taken inside the view cone plus 30 %: outside it, the linearisation explodes.
    margin = 0.15 * size / focal
    direction = torch.maximum(torch.minimum(direction, (size - centre) / focal + margin), -centre / focal - margin)
    diagonal = torch.diag_embed(focal / depths[..., None])  # [C, N, 2, 2]
    jacobian = torch.cat([diagonal, -(focal * direction / depths[..., None])[..., None]], dim=-1)  # [C, N, 2, 3]
    root = jacobian @ rotation[:, None] @ (rotation_matrices(quats) * scales[:, None])  # [C, N, 2, 3]
    return positions, root @ root.mT + eps2d * torch.eye(2).to(means), depths


def render_reference(
    means: Tensor,  # [N, 3]
    quats: Tensor,  # [N, 4]
    scales: Tensor,  # [N, 3]
    opacities: Tensor,  # [N]
    colors: Tensor,  # [N, D]
    view: Tensor,  # [C, 4, 4]
    intrinsics: Tensor,  # [C, 3, 3]
    width: int,
    height: int,
    background: Tensor,  # [D]
    near: float,
    eps2d: float,
) -> tuple[Tensor, Tensor]:
    """Images [C,H,W,D] and alphas [C,H,W,1]. Gaussians with attributes that are not finite are left out."""
    attributes = torch.cat([means, quats, scales, opacities[:, None], colors], dim=-1)
    keep = attributes.isfinite().all(dim=-1)
    means, quats, scales, opacities, colors = (
        tensor[keep] for tensor in (means, quats, scales, opacities, colors)
    )  # fmt: skip
    images, alphas = zip(
        *(
            _render_one(means, quats, scales, opacities, colors, v, k, width, height, background, near, eps2d)
            for v, k in zip(view[:, None], intrinsics[:, None], strict=True)
        ),
        strict=True,
    )
    return torch.stack(images), torch.stack(alphas)


def _render_one(means, quats, scales, opacities, colors, view, intrinsics, width, height, background, near, eps2d):
    depths = (means.detach() @ view[0, 2, :3].detach()) + view[0, 2, 3].detach()
    order = torch.argsort(depths)
    order = order[depths[order] > near]
    positions, covariances, _ = project(
        means[order], quats[order], scales[order], view, intrinsics, width, height, eps2d
    )  # fmt: skip
    a, b, c = covariances[0, :, 0, 0], covariances[0, :, 0, 1], covariances[0, :, 1, 1]
    determinant = a * c - b * b
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack([x, y], dim=-1).to(means)  # [H, W, 2]
    dx, dy = (positions[0, :, None, None] - pixels).unbind(-1)  # [N, H, W]
    form = (
        c[:, None, None] * dx * dx - 2 * b[:, None, None] * dx * dy + a[:, None, None] * dy * dy
    ) / determinant[:, None, None]  # fmt: skip
    alpha = (opacities[order, None, None] * torch.exp(-0.5 * form)).clamp_max(MAX_ALPHA)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=0)
    # Transmittance only falls, so every Gaussian from the one that would finish the pixel onwards is dropped.
    alpha = torch.where(after > MIN_TRANSMITTANCE, alpha, 0.0)
    after = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    transmittance = torch.prod(1 - alpha, dim=0)[..., None]  # [H, W, 1]
    image = torch.einsum("nhw,nd->hwd", alpha * before, colors[order]) + transmittance * background
    return image, 1 - transmittance
