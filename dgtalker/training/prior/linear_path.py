"""The generator's linear path, fitted in closed form to the people's UV targets, and every person's latent w in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.generator import Generator, footprint_log_scales, texel_steps
from dgtalker.people.target_cache import TexelTargets

OFFSET_SCALE = 10.0  # one decimetre of hair offset weighs as much as ten units of logit opacity in the hair PCA
HAIR_WEIGHTS = (OFFSET_SCALE,) * 3 + (
    1.0,
    1.0,
    1.0,
)  # weights of a hair texel's features: offset, logit opacity, log-scales
MIN_VISIBLE = 0.1  # opacity below which colour and position of hair are ignored


@dataclass
class LinearPath:
    """Means and whitened bases as fitted. They define w and stay fixed; the generator's copies are trained further."""

    color_mean: Tensor  # [N*3]
    color_basis: Tensor  # [A, N*3], scaled so that coefficients have standard deviation 1
    hair_mean: Tensor  # [H*6]: offset (3), logit opacity, log-scales (2) of each hair texel, weighted by HAIR
    hair_basis: Tensor  # [D, H*6]
    hair_color: Tensor  # [H,3] mean over the people who have hair there
    footprint: Tensor  # [N,2] log-scales along t and b that the template's own texels have
    steps: tuple[Tensor, Tensor]  # neighbours in the map, from `texel_steps`

    @torch.no_grad()
    def encode(self, generator: Generator, person: TexelTargets) -> Tensor:  # -> [W]
        """Return the person's w at rest."""
        mean_offset = self.hair_mean.unflatten(0, (-1, 6))[:, :3]
        measured = _measure_texels(generator, person, self.footprint, self.steps)
        return self._project(generator, person, *_features(generator, person, measured, self.hair_color, mean_offset))

    def _project(self, generator: Generator, person: TexelTargets, color: Tensor, hair: Tensor) -> Tensor:
        w = torch.zeros(generator.w_dim)
        w[generator.slices["shape"]] = person.shape
        w[generator.slices["appearance"]] = _project(color, self.color_mean, self.color_basis)
        w[generator.slices["hair"]] = _project(hair, self.hair_mean, self.hair_basis)
        return w


def opacity_logit(opacity: Tensor) -> Tensor:
    """Opacity 0..1 -> logit within [-6, 4]: many texels overlap, so a transparent one must be very transparent."""
    return torch.logit(opacity.clamp(0.0025, 0.982))


@torch.no_grad()
def fit_linear_path(
    generator: Generator, people: Sequence[TexelTargets], expressions: Tensor
) -> tuple[LinearPath, Tensor]:
    """Fit means and bases to the people at rest; write them and the statistics of w into the generator.

    expressions [M, 52] are a sample of the training expressions, for their standard deviations.

    Returns the path and the people's w [P, W] at rest.
    """
    hair = generator.hair_texels
    opacity = torch.stack([p.opacity for p in people]).float() / 255  # [P,N]
    color = torch.stack([p.color for p in people]).float() / 255  # [P,N,3]
    seen = (opacity[:, hair] > MIN_VISIBLE).float()[..., None]  # [P,H,1]
    footprint = generator.log_scale_mean[:, :2].clone()
    size = generator.config.map_size
    rowcol = torch.stack([generator.texel_index // size, generator.texel_index % size], 1)
    steps = texel_steps(rowcol, generator.texel_part)
    measured = [_measure_texels(generator, p, footprint, steps) for p in people]
    offsets = torch.stack([m[0] for m in measured])  # [P,N,3]

    hair_color = _masked_mean(color[:, hair], seen)
    hair_offset = _masked_mean(offsets[:, hair], seen)
    features = [
        _features(generator, p, m, hair_color, hair_offset * OFFSET_SCALE)
        for p, m in zip(people, measured, strict=True)
    ]
    color_mean, color_basis = whitened_pca(torch.stack([f[0] for f in features]), generator.config.appearance_dim)
    hair_mean, hair_basis = whitened_pca(torch.stack([f[1] for f in features]), generator.config.hair_dim)

    generator.expression_std.copy_(expressions.std(0).clamp_min(0.1))
    generator.color_mean.copy_(color_mean.unflatten(0, (-1, 3)))
    generator.color_basis.copy_(generator.uv_pyramid.downsample(color_basis.unflatten(1, (-1, 3))))
    weights = torch.tensor(HAIR_WEIGHTS)
    generator.hair_basis.copy_(generator.uv_pyramid.downsample(hair_basis.unflatten(1, (-1, 6)) / weights, "hair"))
    shell = hair_mean.unflatten(0, (-1, 6)) / weights
    bound = generator.offset_bound
    generator.offset_mean.copy_(offsets.mean(0).clamp(-bound, bound))
    generator.offset_mean[hair] = shell[:, :3]
    generator.logit_opacity_mean.copy_(opacity_logit(opacity.mean(0)))
    generator.logit_opacity_mean[hair] = shell[:, 3]
    generator.log_scale_mean[hair, :2] += shell[:, 4:]

    path = LinearPath(color_mean, color_basis, hair_mean, hair_basis, hair_color, footprint, steps)
    w = torch.stack([path._project(generator, p, *f) for p, f in zip(people, features, strict=True)])
    rest = generator.slices["expression"]
    generator.w_mean.copy_(w.mean(0))
    generator.w_mean[rest] = 0.0
    generator.w_std.copy_(w.std(0).clamp_min(0.2) if len(people) > 1 else torch.ones_like(w[0]))
    generator.w_std[rest] = 1.0
    return path, w


def whitened_pca(x: Tensor, count: int) -> tuple[Tensor, Tensor]:  # [P,D] -> [D], [count,D]
    """Mean, and principal directions times their standard deviations; directions beyond the data's rank are 0."""
    mean = x.mean(0)
    centred = x - mean
    values, vectors = torch.linalg.eigh(centred @ centred.T)  # P is far smaller than D
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    keep = min(count, int((values > values[0] * 1e-6).sum()), max(len(x) - 1, 0))
    basis = torch.zeros(count, x.shape[1])
    basis[:keep] = (vectors[:, :keep].T @ centred) / max(len(x) - 1, 1) ** 0.5
    return mean, basis


def _project(x: Tensor, mean: Tensor, basis: Tensor) -> Tensor:  # the directions are orthogonal
    energy = basis.square().sum(1)
    return torch.where(energy > 0, basis @ (x - mean) / energy.clamp_min(1e-12), torch.zeros_like(energy))


def _masked_mean(x: Tensor, mask: Tensor) -> Tensor:  # [P,H,C], [P,H,1] -> [H,C]
    overall = (x * mask).sum((0, 1)) / mask.sum().clamp_min(1)
    count = mask.sum(0)
    return torch.where(count > 0, (x * mask).sum(0) / count.clamp_min(1), overall)


def _measure_texels(
    generator: Generator, person: TexelTargets, footprint: Tensor, steps: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Compare the person's texels at rest with the template's.

    Returns:
        Offsets [N,3] in the texels' frames; and how much log-scales of hair splats must grow along t and b beyond the
        shell's `footprint` [N,2] to cover the person's hair without holes, [H,2].
    """
    vertices = generator.vertices(generator.w_from_geometry(person.shape[None]))
    frames, _, stretch = generator.surface.frames(vertices)
    positions = person.positions[0].float()
    gap = positions - generator.surface.positions(vertices)[0]
    seen = person.opacity.float() / 255 > MIN_VISIBLE
    wanted = footprint_log_scales(positions, frames[0], steps, seen)[:, :2]
    grown = (wanted - footprint - stretch[0]).clamp(-0.5, 1.0)
    grown = torch.where(seen[:, None], grown, 0.0)[generator.hair_texels]
    return (frames[0] * gap[..., None]).sum(-2), grown


def _features(
    generator: Generator,
    person: TexelTargets,
    measured: tuple[Tensor, Tensor],  # from `_measure`
    hair_color: Tensor,
    scaled_offset: Tensor,
) -> tuple[Tensor, Tensor]:
    """Colour [N*3] and hair [H*6] vectors of a person; invisible hair gets the mean colour and offset."""
    hair = generator.hair_texels
    color = person.color.float() / 255
    opacity = person.opacity.float()[hair] / 255
    seen = (opacity > MIN_VISIBLE)[:, None]
    # Where the person has no hair, the colour of the hair they have elsewhere, else the population's.
    own = (color[hair] * seen).sum(0) / seen.sum() if seen.sum() > 20 else hair_color
    color = color.index_copy(0, hair, torch.where(seen, color[hair], own))
    offset = torch.where(seen, measured[0][hair] * OFFSET_SCALE, scaled_offset)
    shell = [offset, opacity_logit(opacity)[:, None], measured[1]]
    return color.flatten(), torch.cat(shell, 1).flatten()
