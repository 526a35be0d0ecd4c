"""The Gaussian generative prior G: latent w -> attributes of the Gaussians at the texels of the head template.

    G(w) = low-rank linear path (template bases, colour and hair bases) + modulated convolutions (residuals)

w consists of named, whitened coordinates [shape | expression | appearance | hair], each with a standard deviation of
about 1 over the training people. Shape and expression act through the template's vertex bases. Hence w can be
interpreted, inversion is well conditioned, and pictures change almost linearly along directions in w.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dgtalker import pretrained
from dgtalker.errors import UserError
from dgtalker.gaussians import Gaussians
from dgtalker.head.modulated_conv import SynthesisNetwork
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_axis_angle
from dgtalker.head.surface import TexelSurface
from dgtalker.head.template import HeadTemplate
from dgtalker.head.uv_pyramid import UVPyramid

# Channels of the residual map, in this order.
RESIDUALS = {"offset": 3, "color": 3, "log_scale": 3, "axis_angle": 3, "logit_opacity": 1}
# Bounds of the residuals; those of offsets are in GeneratorConfig.
RESIDUAL_RANGE = {"color": 1.0, "log_scale": 1.5, "axis_angle": 1.0, "logit_opacity": 6.0}
# Tighter bounds in the hair shell: it differs so much between styles that the convolutions would memorise it.
HAIR_RANGE = {"color": 0.2, "log_scale": 0.5, "axis_angle": 0.5, "logit_opacity": 1.0}
# Scale of the expression in the convolutions' input: it moves the surface and hardly changes its attributes.
EXPRESSION_STYLE = 0.3
# Surfaces close behind the skin: splats as wide as elsewhere would show through skin that is seen at an angle.
INNER_PARTS = ("mouth_cavity", "eye_socket")


@dataclass(frozen=True)
class GeneratorConfig:
    """Size of the generator; everything about the head itself comes from the template."""

    map_size: int = 128  # side of the UV map in texels
    basis_size: int = 128  # side of the map of the colour and hair bases, at most map_size
    channels: tuple[int, ...] = (96, 96, 64, 48, 32)  # of the convolutions at 8, 16, ... map_size
    appearance_dim: int = 56  # colour components in w
    hair_dim: int = 32  # hair shell components in w
    z_dim: int = 200  # inputs of the mapping network
    z_choices: tuple[tuple[int, int, float], ...] = ()  # (start, stop, sharpness): softmax over z[start:stop]
    mapping_hidden: int = 256  # hidden units of the mapping network's residual
    max_offset: float = 0.12  # bound of a residual offset on the head, decimetres
    max_hair_offset: float = 0.08  # bound of a residual offset in the hair shell, decimetres

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "z_choices", tuple(tuple(choice) for choice in self.z_choices))
        if 8 * 2 ** (len(self.channels) - 1) != self.map_size:
            raise UserError(f"A generator with {len(self.channels)} levels does not make a {self.map_size}² map.")
        object.__setattr__(self, "basis_size", min(self.basis_size, self.map_size))

    @staticmethod
    def preset(name: str, **changes) -> GeneratorConfig:
        """Presets "fast" (128² map, for CPUs) and "full" (256² map, for GPUs), with changes."""
        presets = {
            "fast": GeneratorConfig(),
            "full": GeneratorConfig(map_size=256, channels=(128, 128, 128, 96, 64, 32)),
        }
        if name not in presets:
            raise UserError(f"There is no generator preset '{name}': choose from {', '.join(presets)}.")
        return replace(presets[name], **changes)


class MappingNetwork(nn.Module):
    """z -> w: a linear map plus a small residual network, which starts at zero.

    Some groups of z stand for discrete choices, such as the hair style: softmax makes normal samples nearly one-hot,
    standardised like the factors of the training people.
    """

    def __init__(self, z_dim: int, w_dim: int, hidden: int, choices: Sequence[tuple[int, int, float]] = ()):
        super().__init__()
        self.choices = tuple(choices)
        self.linear = nn.Linear(z_dim, w_dim)
        last = nn.Linear(hidden, w_dim)
        self.residual = nn.Sequential(nn.Linear(z_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def apply_choices(self, z: Tensor) -> Tensor:  # [...,Z] -> [...,Z]
        """Z with the groups of `choices` made nearly one-hot and standardised."""
        z = z.clone()
        for start, stop, sharpness in self.choices:
            share = (sharpness * z[..., start:stop]).softmax(-1)
            p = 1 / (stop - start)
            z[..., start:stop] = (share - p) / (p * (1 - p)) ** 0.5
        return z

    def forward(self, z: Tensor) -> Tensor:  # [B,Z] -> [B,W]
        """Map normal samples z to latents w."""
        """Map normal samples z to latents w."""
        z = self.apply_choices(z)
        return self.linear(z) + self.residual(z)


class Generator(nn.Module):
    """Generates the attributes of one Gaussian for every texel in the UV map of the head template.

    Attributes:
        w_mean, w_std: [W] population statistics; w_mean is at rest (neutral expression).
        slices: name -> slice of w, for "shape", "expression", "appearance", "hair".
        texel_part: [N] part index of each Gaussian (names: template.part_names).
    """

    w_mean: Tensor  # [W]
    w_std: Tensor  # [W]
    expression_std: Tensor  # [52]
    rest_vertices: Tensor  # [V, 3]
    vertex_basis: Tensor  # [Ks + 52, V * 3]
    texel_part: Tensor  # [N]
    texel_index: Tensor  # [N], into the flattened map
    hair_texels: Tensor  # [H]
    rest_quats: Tensor  # [N, 4]
    offset_bound: Tensor  # [N, 1], as are the bounds of the other residuals
    style_scale: Tensor  # [W]

    def __init__(self, config: GeneratorConfig | None = None, template: HeadTemplate | None = None):
        super().__init__()
        self.config = config = config or GeneratorConfig()
        self.template = template = template or HeadTemplate.load()
        atlas = template.atlas(config.map_size)
        rest = template.vertices.float()
        n_shape, n_expression = len(template.shape_basis), len(template.expression_basis)
        sizes = (n_shape, n_expression, config.appearance_dim, config.hair_dim)
        self.slices: dict[str, slice] = {}
        start = 0
        for name, size in zip(("shape", "expression", "appearance", "hair"), sizes, strict=True):
            self.slices[name] = slice(start, start + size)
            start += size
        self.w_dim = start

        def constant(name: str, value: Tensor) -> None:
            self.register_buffer(name, value, persistent=False)

        constant("rest_vertices", rest)
        bases = torch.cat([template.shape_basis.float(), template.expression_basis.float()])
        constant("vertex_basis", bases.reshape(n_shape + n_expression, -1))
        self.surface = TexelSurface(rest, template.triangles, atlas.texel_triangle, atlas.texel_bary)
        part = torch.as_tensor(atlas.texel_part).long()
        constant("texel_part", part)
        rowcol = torch.as_tensor(atlas.texel_rowcol).long()
        constant("texel_index", rowcol[:, 0] * config.map_size + rowcol[:, 1])
        constant("hair_texels", (part == list(template.part_names).index("hair")).nonzero()[:, 0])
        constant("rest_quats", self.surface.rest_quaternions())
        bound = torch.full((len(part), 1), config.max_offset)
        bound[self.hair_texels] = config.max_hair_offset
        constant("offset_bound", bound)
        is_hair = torch.zeros(len(part), 1).index_fill(0, self.hair_texels, 1.0)
        for name, reach in RESIDUAL_RANGE.items():
            constant(f"{name}_bound", reach + (HAIR_RANGE[name] - reach) * is_hair)  # [N,1]
        style_scale = torch.ones(self.w_dim)
        style_scale[self.slices["expression"]] = EXPRESSION_STYLE
        constant("style_scale", style_scale)

        self.uv_pyramid = UVPyramid(template, config.basis_size, config.map_size)
        n = len(part)
        self.register_buffer("w_mean", torch.zeros(self.w_dim))
        self.register_buffer("w_std", torch.ones(self.w_dim))
        self.register_buffer("expression_std", torch.full((n_expression,), 0.25))
        self.color_mean = nn.Parameter(torch.full((n, 3), 0.5))
        self.color_basis = nn.Parameter(torch.zeros(config.appearance_dim, self.uv_pyramid.coarse_count(), 3))
        self.offset_mean = nn.Parameter(torch.zeros(n, 3))  # in the texel's frame (t, b, n), decimetres
        inner = torch.tensor([name in INNER_PARTS for name in template.part_names])[part]
        log_scales = footprint_log_scales(
            self.surface.positions(rest[None])[0], self.surface.frames(rest[None])[0][0], texel_steps(rowcol, part)
        )
        self.log_scale_mean = nn.Parameter(log_scales - 0.5 * inner[:, None])
        self.axis_angle_mean = nn.Parameter(torch.zeros(n, 3))
        self.logit_opacity_mean = nn.Parameter(torch.full((n,), 3.0))
        # Hair shell: offset in the texel's frame (3), logit opacity (1) and log-scale along t and b (2) per component.
        self.hair_basis = nn.Parameter(torch.zeros(config.hair_dim, self.uv_pyramid.coarse_count("hair"), 6))
        self.synthesis = SynthesisNetwork(self.w_dim, config.channels, sum(RESIDUALS.values()))
        self.mapping = MappingNetwork(config.z_dim, self.w_dim, config.mapping_hidden, config.z_choices)

    # ---- latents ----

    def truncate(self, w: Tensor, psi: float = 0.7) -> Tensor:  # [...,W] -> [...,W]
        """StyleGAN's truncation towards the mean head at rest: psi = 1 changes nothing, 0 gives the mean.

        Hair is not truncated: the mean over hair styles is no style.
        """
        out = self.w_mean + psi * (w - self.w_mean)
        out[..., self.slices["hair"]] = w[..., self.slices["hair"]]
        return out

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0, psi: float = 0.8) -> Tensor:  # [count,W]
        """Latents of random people at rest, truncated by `psi`; the same for the same seed."""
        z = torch.randn(count, self.config.z_dim, generator=torch.Generator().manual_seed(seed))
        w = self.truncate(self.mapping(z.to(self.w_mean.device)), psi)
        w[:, self.slices["expression"]] = 0
        return w

    def w_from_geometry(self, shape: Tensor | None = None, expression: Tensor | None = None) -> Tensor:
        """Template coefficients -> w, with everything not given at the mean.

        Args:
            shape: [..., Ks] in standard deviations.
            expression: [..., 52] ARKit scores (0..1).
        """
        given = shape if shape is not None else expression
        leading = given.shape[:-1] if given is not None else ()
        w = self.w_mean.expand(*leading, -1).clone()
        if shape is not None:
            w[..., self.slices["shape"]] = shape
        if expression is not None:
            w[..., self.slices["expression"]] = expression / self.expression_std
        return w

    def geometry_from_w(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Template coefficients in w: shape [..., Ks] and expression [..., 52] (ARKit scores)."""
        return w[..., self.slices["shape"]], w[..., self.slices["expression"]] * self.expression_std

    # ---- w -> Gaussians ----

    def vertices(self, w: Tensor) -> Tensor:  # [B,W] -> [B,V,3]
        """Template vertices of the linear path, world units."""
        coefficients = torch.cat(self.geometry_from_w(w), -1)
        return self.rest_vertices + (coefficients @ self.vertex_basis).unflatten(-1, (-1, 3))

    def residuals(self, w: Tensor) -> dict[str, Tensor]:  # [B,W] or [B,L,W] -> name -> [B,N,C]
        """What the modulated convolutions add, bounded; zero before training."""
        maps = self.synthesis((w - self.w_mean) / self.w_std * self.style_scale)  # [B,13,S,S]
        texels = maps.flatten(2)[:, :, self.texel_index].transpose(1, 2)  # [B,N,13]
        parts = dict(zip(RESIDUALS, texels.split(tuple(RESIDUALS.values()), -1), strict=True))
        bounds = {name: getattr(self, f"{name}_bound") for name in RESIDUALS}
        return {name: bound * torch.tanh(parts[name] / bound) for name, bound in bounds.items()}

    def attributes(self, w: Tensor, return_residuals: bool = False, styles: Tensor | None = None) -> dict[str, Tensor]:
        """Raw attributes, the ones that may be blended linearly (baking).

        Args:
            w: [B, W].
            return_residuals: also return "residual_<name>" of `residuals`, for regularisation.
            styles: [B, L, W], what the L resolutions of the convolutions take instead of w (see w_plus.py).

        Returns:
            means [B,N,3]; log_scales [B,N,3]; axis_angles [B,N,3], rotation since rest in the rest frame's own axes;
            rest_quats [N,4], constant; logit_opacities [B,N]; colors [B,N,3] (nominally 0..1, not clamped).
        """
        if w.ndim != 2 or w.shape[1] != self.w_dim:
            raise ValueError(f"w must be [B, {self.w_dim}], not {tuple(w.shape)}")
        residual = self.residuals(w if styles is None else styles)
        vertices = self.vertices(w)
        frames, surface_rotation, stretch = self.surface.frames(vertices)

        hair = self.uv_pyramid.upsample(
            torch.tensordot(w[:, self.slices["hair"]], self.hair_basis, 1), "hair"
        )  # [B,H,6]
        offset = (self.offset_mean + residual["offset"]).index_add(1, self.hair_texels, hair[..., :3])
        opacity = (self.logit_opacity_mean + residual["logit_opacity"][..., 0]).index_add(
            1, self.hair_texels, hair[..., 3]
        )
        appearance = self.uv_pyramid.upsample(torch.tensordot(w[:, self.slices["appearance"]], self.color_basis, 1))
        rotation = quaternion_multiply(
            surface_rotation, axis_angle_to_quaternion(self.axis_angle_mean + residual["axis_angle"])
        )
        stretch = F.pad(stretch.index_add(1, self.hair_texels, hair[..., 4:]), (0, 1))  # nothing along the normal
        out = {
            "means": self.surface.positions(vertices) + (frames @ offset[..., None])[..., 0],
            "log_scales": self.log_scale_mean + residual["log_scale"] + stretch,
            "axis_angles": quaternion_to_axis_angle(rotation),
            "rest_quats": self.rest_quats,
            "logit_opacities": opacity,
            "colors": self.color_mean + appearance + residual["color"],
        }
        if return_residuals:
            out.update({f"residual_{name}": value for name, value in residual.items()})
        return out

    @staticmethod
    def gaussians_from_attributes(attributes: dict[str, Tensor]) -> Gaussians:
        """Gaussians from raw attributes (see `attributes`)."""
        quats = quaternion_multiply(
            attributes["rest_quats"].expand(*attributes["axis_angles"].shape[:-1], 4),
            axis_angle_to_quaternion(attributes["axis_angles"]),
        )
        return Gaussians(
            means=attributes["means"],
            quats=quats,
            scales=attributes["log_scales"].exp(),
            opacities=attributes["logit_opacities"].sigmoid(),
            colors=attributes["colors"],
        )

    def forward(self, w: Tensor) -> Gaussians:  # [B,W] -> batch of B sets of N Gaussians
        """Gaussians of each latent."""
        return self.gaussians_from_attributes(self.attributes(w))

    # ---- checkpoints ----

    def save_pretrained(self, folder: str | Path, half: bool = True, **extra) -> Path:
        """Write config.json and model.safetensors (fp16 if `half`); `extra` is added to the config."""
        config = {
            "generator": asdict(self.config),
            "template": template_fingerprint(self.template),
            "atlas": atlas_fingerprint(self.template, self.config.map_size),
            **extra,
        }
        return pretrained.write_checkpoint(folder, "prior", config, self.state_dict(), half)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, revision: str | None = None, template: HeadTemplate | None = None
    ) -> Generator:
        """Load a shipped name, a folder or a hub repository. Raises UserError if there is none or it is damaged."""
        folder = pretrained.find_checkpoint(name_or_path, "prior", revision)
        config = pretrained.read_config(folder, "prior")
        template = template or HeadTemplate.load()
        if config.get("template") != template_fingerprint(template):
            raise UserError(f"The prior in '{folder}' was made for another head template; train it again.")
        try:
            generator = cls(GeneratorConfig(**config["generator"]), template)
        except (KeyError, TypeError) as error:
            raise UserError(f"'{folder}' is damaged: its config lacks the generator's sizes.") from error
        if config.get("atlas", "") not in ("", atlas_fingerprint(template, generator.config.map_size)):
            raise UserError(f"The prior in '{folder}' was made for another UV map of the head; train it again.")
        pretrained.load_into(generator, pretrained.read_weights(folder, config), folder)
        return generator.eval()


def template_fingerprint(template: HeadTemplate) -> str:
    """Short hash of the vertex bases that w acts through; stored with every prior."""
    digest = hashlib.sha256()
    for value in (template.vertices, template.shape_basis, template.expression_basis):
        digest.update(value.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    digest.update(template.triangles.detach().cpu().to(torch.int32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def atlas_fingerprint(template: HeadTemplate, map_size: int) -> str:
    """Short hash of each Gaussian's position in the UV map and on the surface."""
    atlas = template.atlas(map_size)
    place = torch.cat([atlas.texel_rowcol.long(), atlas.texel_triangle.long()[:, None]], 1).to(torch.int32)
    return hashlib.sha256(place.contiguous().numpy().tobytes()).hexdigest()[:16]


def texel_steps(rowcol: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours in the UV map to the right, left, below and above: their index [4,N] and whether there is one [4,N].

    Args:
        rowcol: [N,2] row and column of each texel.
        part: [N] part index; texels of different parts are not neighbours.
    """
    size = int(rowcol.max()) + 2
    table = torch.full((size, size), -1, dtype=torch.long)
    table[rowcol[:, 0], rowcol[:, 1]] = torch.arange(len(rowcol))
    near = rowcol + torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])[:, None]
    inside = (near >= 0).all(-1)
    near = near.clamp(0, size - 1)
    other = table[near[..., 0], near[..., 1]]
    there = inside & (other >= 0)
    return other.clamp_min(0), there & (part[other.clamp_min(0)] == part)


def footprint_log_scales(
    positions: Tensor,
    frames: Tensor,
    steps: tuple[Tensor, Tensor],
    seen: Tensor | None = None,
    cover: float = 0.7,
    thin: float = 0.25,
) -> Tensor:  # [N,3]
    """Log standard deviations with which neighbouring texels overlap without holes.

    Args:
        positions: [N,3].
        frames: [N,3,3], columns t, b, n.
        steps: from `texel_steps`.
        seen: [N] bool, texels that count as neighbours (default all).
        cover: standard deviation along t and b, relative to the distance to the next texel.
        thin: standard deviation along the normal, relative to the smaller of the other two distances.
    """
    other, there = steps
    gap = positions[other] - positions  # [4,N,3]
    there = there & (gap.square().sum(-1) < 0.3**2)  # farther texels belong to another chart
    if seen is not None:
        there = there & seen[other]
    along = (frames[None, :, :, :2] * gap[..., None]).sum(-2).abs() * there[..., None]  # [4,N,2]
    squares = torch.zeros(len(positions), 2)
    for pair in (slice(0, 2), slice(2, 4)):
        count = there[pair].sum(0)[:, None]
        mean = along[pair].sum(0) / count.clamp_min(1)
        typical = mean[count[:, 0] > 0].median() if (count > 0).any() else torch.tensor(0.03)
        squares += torch.where(count > 0, mean, typical / 2**0.5).square()
    extent = squares.sqrt().clamp(0.004, 0.12) * cover
    smaller = extent.min(-1, keepdim=True).values
    # Keep the in-plane axes within a factor of three.
    extent = torch.maximum(extent, extent.max(-1, keepdim=True).values / 3)
    return torch.cat([extent, smaller * thin], -1).log()
