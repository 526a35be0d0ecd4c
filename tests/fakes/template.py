"""A small made-up head template (a lumpy ball with a hair cap), with the fields the generator reads."""

from types import SimpleNamespace

import torch

PART_NAMES = ["skin", "eyeball_left", "hair"]


def fake_template(rings: int = 12, sectors: int = 20, shapes: int = 5, expressions: int = 52, seed: int = 0):
    """Ball of radius 1 dm, its own lat-long UV map in the lower three quarters, a hair cap in the top quarter."""
    draw = torch.Generator().manual_seed(seed)
    theta = torch.linspace(0.05, 3.09, rings)[:, None].expand(rings, sectors + 1)
    phi = torch.linspace(-torch.pi, torch.pi, sectors + 1)[None].expand(rings, sectors + 1)
    ball = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], -1).reshape(-1, 3)
    vertices = torch.cat([ball, ball * 1.1])
    index = torch.arange(len(ball)).reshape(rings, sectors + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    quads = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)], 2)  # [R-1,S,2,3]
    skin = quads.reshape(-1, 3)
    cap_rings = rings // 3
    triangles = torch.cat([skin, quads[:cap_rings].reshape(-1, 3) + len(ball)]).int()

    def bases(count: int) -> torch.Tensor:
        waves = torch.randn(count, 3, 3, generator=draw)
        return 0.03 * torch.sin(vertices @ waves)  # smooth, [count,V,3]

    def atlas(size: int):
        split = size * 3 // 4
        row, col = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        hair = row >= split
        v = torch.where(hair, (row - split + 0.5) / (size - split) * cap_rings, (row + 0.5) / split * (rings - 1))
        u = (col + 0.5) / size * sectors
        i, j = v.floor().long(), u.floor().long()
        y, x = v - i, u - j
        upper = x > y
        # upper triangle (a, c, d), lower (a, b, c): solve for barycentrics in the unit square
        bary = torch.where(upper[..., None], torch.stack([1 - x, y, x - y], -1), torch.stack([1 - y, y - x, x], -1))
        face = (i * sectors + j) * 2 + upper.long()
        face = torch.where(hair, face + len(skin), face)
        part = torch.where(hair, 2, 0)
        return SimpleNamespace(
            texel_triangle=face.reshape(-1),
            texel_bary=bary.reshape(-1, 3),
            texel_rowcol=torch.stack([row, col], -1).reshape(-1, 2),
            texel_part=part.reshape(-1),
        )

    front = (vertices[:, 2] > 0).float()
    return SimpleNamespace(
        vertices=vertices,
        triangles=triangles,
        part_names=PART_NAMES,
        shape_basis=bases(shapes),
        expression_basis=bases(expressions),
        expression_names=[f"unit{k}" for k in range(expressions)],
        atlas=atlas,
        upper_weight=front,
        lower_weight=1 - front,
    )
