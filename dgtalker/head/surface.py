"""The template's surface under deformation: texel positions, rotations and stretches from vertices."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgtalker.head.rotations import matrix_to_quaternion


class TexelSurface(nn.Module):
    """Moves texels with the deforming template. Nothing of it is stored in checkpoints.

    Every triangle has a tangent frame (t, b, n). On the mean head t points up along the surface, so that frames vary
    smoothly over the head; the edges of the deformed triangle rotate and stretch it.
    """

    triangles: Tensor  # [F, 3], only those that carry texels
    texel_triangle: Tensor  # [T], into triangles
    texel_corners: Tensor  # [T, 3], into the template's vertices
    texel_bary: Tensor  # [T, 3]
    alpha_beta: Tensor  # [F, 2]: t = alpha edge1 + beta edge2
    rest_frames: Tensor  # [F, 3, 3], columns t, b, n
    rest_log_lengths: Tensor  # [F, 2]

    def __init__(self, vertices: Tensor, triangles: Tensor, texel_triangle: Tensor, texel_bary: Tensor):
        super().__init__()
        triangles = triangles.long()
        used, local = torch.unique(texel_triangle.long(), return_inverse=True)
        triangles = triangles[used]
        self._buffer("triangles", triangles)
        self._buffer("texel_triangle", local)
        self._buffer("texel_corners", triangles[local])
        self._buffer("texel_bary", texel_bary.float())

        edge1, edge2 = self._edges(vertices[None])
        normal = F.normalize(torch.linalg.cross(edge1, edge2), dim=-1, eps=1e-12)
        up = torch.tensor([0.0, 1.0, 0.0]).expand_as(normal)
        forward = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
        wanted = torch.where((normal[..., 1:2].abs() > 0.9), forward, up)
        tangent = wanted - (wanted * normal).sum(-1, keepdim=True) * normal
        # tangent = alpha edge1 + beta edge2, solved in the triangle's plane
        gram = torch.stack([(edge1 * edge1).sum(-1), (edge1 * edge2).sum(-1), (edge2 * edge2).sum(-1)], -1)
        right = torch.stack([(edge1 * tangent).sum(-1), (edge2 * tangent).sum(-1)], -1)
        determinant = (gram[..., 0] * gram[..., 2] - gram[..., 1] ** 2).clamp_min(1e-12)
        alpha = (gram[..., 2] * right[..., 0] - gram[..., 1] * right[..., 1]) / determinant
        beta = (gram[..., 0] * right[..., 1] - gram[..., 1] * right[..., 0]) / determinant
        self._buffer("alpha_beta", torch.stack([alpha, beta], -1)[0])
        frames, lengths = self._frames(vertices[None])
        self._buffer("rest_frames", frames[0])
        self._buffer("rest_log_lengths", lengths[0].log())

    def _buffer(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.clone(), persistent=False)

    def _edges(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        corners = vertices[:, self.triangles.reshape(-1)].unflatten(1, (-1, 3))  # [B,F,3,3]
        return corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]

    def _frames(self, vertices: Tensor) -> tuple[Tensor, Tensor]:
        """Frames [B,F,3,3], and lengths [B,F,2] of the deformed tangent and of the triangle across it."""
        edge1, edge2 = self._edges(vertices)
        tangent = self.alpha_beta[:, :1] * edge1 + self.alpha_beta[:, 1:] * edge2
        normal = torch.linalg.cross(edge1, edge2)
        length = (tangent.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        area = (normal.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        t, n = tangent / length, normal / area
        b = torch.linalg.cross(n, t)
        return torch.stack([t, b, n], -1), torch.cat([length, area / length], -1).clamp_min(1e-5)

    def positions(self, vertices: Tensor) -> Tensor:  # [B,V,3] -> [B,T,3]
        """Position of each texel."""
        """Position of each texel."""
        corners = vertices[:, self.texel_corners.reshape(-1)].unflatten(1, (-1, 3))
        return (corners * self.texel_bary[:, :, None]).sum(2)

    def frames(self, vertices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Per texel: frame [B,T,3,3], rotation since rest [B,T,4] and log-stretch [B,T,2] along t and b since rest.

        Rotations are quaternions in the rest frame's own axes.
        """
        frames, lengths = self._frames(vertices)
        rotation = matrix_to_quaternion(self.rest_frames.mT @ frames)
        stretch = (lengths.log() - self.rest_log_lengths).clamp(-1.5, 1.2)
        at = self.texel_triangle
        return frames[:, at], rotation[:, at], stretch[:, at]

    def rest_quaternions(self) -> Tensor:  # [T,4]
        """Rotation of each texel's frame on the mean head."""
        return matrix_to_quaternion(self.rest_frames, exact=True)[self.texel_triangle]
