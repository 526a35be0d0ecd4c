"""Latent navigation, the idea of the project in one equation.

    w      = w_can + B_exp @ a_exp + B_lip @ a_lip
    splats = G(w)
    image  = render(splats, camera)

Source: Liang et al., "DGTalker: Disentangled Generative Latent Space Learning for Audio-Driven Gaussian Talking
Heads", ICCV 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from dgtalker.navigation.blendshapes import BASES, OrthogonalBlendshapes
from dgtalker.navigation.encoders import EncoderConfig, ExpressionEncoder, LipEncoder
from dgtalker.navigation.speech_backbone import BackboneConfig

RANGE_MARGIN = 1.3  # encoders may exceed the training range of a coefficient by this factor


@dataclass(frozen=True)
class NavigationConfig:
    """What has to be known to build a Navigation before its weights are loaded."""

    latent: int  # dimensions of w
    feature_dim: int  # D of the audio features
    n_exp: int  # expression coefficients k_e (upper face)
    n_lip: int  # lip coefficients k_l (lower face)
    hidden: int = 96  # channels of the audio encoders
    lip_hidden: int | None = None  # of the lip encoder's, if it has others
    reach: int = 6  # frames of audio to each side
    dropout: float = 0.1  # of the audio encoders, while training
    bases: str = "joint"  # of blendshapes.BASES: both from one QR; the others are ablations
    backbone: BackboneConfig | None = None  # of the lip encoder; None: it sees the features themselves

    def __post_init__(self):
        assert self.bases in BASES, self.bases
        if isinstance(self.backbone, dict):  # as config.json has it
            object.__setattr__(self, "backbone", BackboneConfig(**self.backbone))
        if self.backbone is not None and self.backbone.feature_dim != self.feature_dim:
            raise ValueError("the backbone's feature_dim")

    def to_dict(self) -> dict:
        """Plain values for config.json."""
        return {**asdict(self), "backbone": self.backbone and self.backbone.to_dict()}

    @staticmethod
    def from_dict(values: Mapping) -> NavigationConfig:
        """From config.json, also with older keys (`joint_qr`, `trunk`). Raises TypeError for unknown ones."""
        values = dict(values)
        if "trunk" in values:
            values["backbone"] = values.pop("trunk")
        if "joint_qr" in values:
            values["bases"] = "joint" if values.pop("joint_qr") else "separate"
        return NavigationConfig(**values)


class Navigation(nn.Module):
    """Anchor, bases and encoders of one identity. The generator is not part of it."""

    w_can: Tensor  # [W] the anchor
    w_scale: Tensor  # [W] standard deviation of each dimension of w (OTAvatar's scaling)
    feature_mean: Tensor  # [D]
    feature_std: Tensor  # [D]
    unit: Tensor  # [K] training standard deviation of what the encoders emit
    limits: Tensor  # [K, 2] training range of the coefficients

    def __init__(self, config: NavigationConfig):
        super().__init__()
        self.config = config
        encoder = EncoderConfig(config.feature_dim, config.hidden, config.reach, config.dropout)
        self.blendshapes = OrthogonalBlendshapes(config.latent, config.n_exp, config.n_lip, config.bases)
        self.expression_encoder = ExpressionEncoder(encoder, config.n_exp)
        lips = replace(encoder, hidden=config.lip_hidden or config.hidden)
        self.lip_encoder = LipEncoder(lips, config.n_lip, config.backbone)
        self.register_buffer("w_can", torch.zeros(config.latent))
        self.register_buffer("w_scale", torch.ones(config.latent))
        self.register_buffer("feature_mean", torch.zeros(config.feature_dim))
        self.register_buffer("feature_std", torch.ones(config.feature_dim))
        coefficients = config.n_exp + config.n_lip
        self.register_buffer("unit", torch.ones(coefficients))
        self.register_buffer("limits", torch.tensor([-1e3, 1e3]).repeat(coefficients, 1))

    def latent(self, a_exp: Tensor, a_lip: Tensor, frozen: str | None = None) -> Tensor:
        """a_exp [..., n_exp], a_lip [..., n_lip] -> w [..., W]. `frozen`: "exp" or "lip", a branch without gradient."""
        b_exp, b_lip = self.blendshapes()
        step_exp, step_lip = a_exp @ b_exp.T, a_lip @ b_lip.T
        if frozen == "exp":
            step_exp = step_exp.detach()
        if frozen == "lip":
            step_lip = step_lip.detach()
        return self.w_can + self.w_scale * (step_exp + step_lip)

    def expression(self, features: Tensor, blink: Tensor) -> Tensor:
        """Features [B, 2N, D], blink [B, N] in [0, 1] -> a_exp [B, N, n_exp]."""
        return self.expression_encoder(self.normalise_features(features), blink) / self.unit[: self.config.n_exp]

    def lips(self, features: Tensor) -> Tensor:
        """Features [B, 2N, D] -> a_lip [B, N, n_lip]."""
        if self.config.backbone is None:  # a backbone normalises for itself
            features = self.normalise_features(features)
        return self.lip_encoder(features) / self.unit[self.config.n_exp :]

    def blink(self, blink: Tensor) -> Tensor:
        """What blink [..., N] adds to a_exp: [..., N, n_exp], zero at 0."""
        return self.expression_encoder.blink(blink) / self.unit[: self.config.n_exp]

    @property
    def look_ahead(self) -> int:
        """Frames of sound after its own that a coefficient depends on."""
        return max(encoder.audio.look_ahead for encoder in (self.expression_encoder, self.lip_encoder))

    @property
    def look_behind(self) -> int:
        """Frames of sound before its own that a coefficient depends on."""
        return max(encoder.audio.look_behind for encoder in (self.expression_encoder, self.lip_encoder))

    def encoder_parameter_groups(self, rate: float, backbone_share: float) -> list[dict]:
        """The encoders' parameters for an optimiser; a pretrained backbone's at `backbone_share` of the rate."""
        backbone = [p for name, p in self.lip_encoder.named_parameters() if name.startswith("audio.backbone.")]
        fresh = [p for name, p in self.lip_encoder.named_parameters() if not name.startswith("audio.backbone.")]
        groups = [{"params": [*self.expression_encoder.parameters(), *fresh], "lr": rate}]
        return groups + ([{"params": backbone, "lr": backbone_share * rate}] if backbone else [])

    def normalise_features(self, features: Tensor) -> Tensor:
        """Features with zero mean and unit variance over the training clips."""
        return (features - self.feature_mean) / self.feature_std

    def clamp_coefficients(self, a_exp: Tensor, a_lip: Tensor) -> tuple[Tensor, Tensor]:
        """Keep coefficients near their training range: unfamiliar sounds must not break the head."""
        (low, high), n_exp = (RANGE_MARGIN * self.limits).unbind(-1), self.config.n_exp
        return a_exp.clamp(low[:n_exp], high[:n_exp]), a_lip.clamp(low[n_exp:], high[n_exp:])

    @torch.no_grad()
    def rotate_coefficients(self, rotation_exp: Tensor, rotation_lip: Tensor) -> None:
        """Change to new axes inside each branch: B' = B rotation along unit directions; the latents stay the same.

        rotation_exp [n_exp, n_exp] and rotation_lip [n_lip, n_lip] are orthogonal. In units of the unit directions
        a' = rotation^T a; afterwards these are the units, all 1, and the limits are the caller's to set (set_units).
        """
        rotation = torch.block_diag(rotation_exp, rotation_lip)
        to_raw = self.blendshapes.scales / self.unit  # what encoders emit -> steps along unit directions
        self.blendshapes.set_directions(self.blendshapes.directions() @ rotation, torch.ones(len(rotation)))
        branches = (self.expression_encoder, rotation_exp), (self.lip_encoder, rotation_lip)
        for (encoder, r), scale in zip(branches, to_raw.split(self._sizes()), strict=True):
            change = r.T * scale  # of what is emitted
            weight, bias = encoder.audio.head.parameters()
            weight.copy_((change @ weight[..., 0])[..., None])
            bias.copy_(change @ bias)
            attention = encoder.audio.attention.weight
            attention.copy_(torch.einsum("wkt,kj->wjt", attention / scale[:, None], r))
        blink = self.expression_encoder.blink
        change = rotation_exp.T * to_raw[: self.config.n_exp]
        blink.linear.copy_(change @ blink.linear)
        blink.quadratic.copy_(change @ blink.quadratic)
        self.unit.fill_(1.0)

    @torch.no_grad()
    def move_origin(self, a_exp: Tensor, a_lip: Tensor) -> None:
        """Make a_exp [n_exp], a_lip [n_lip] the zero of the coefficients; the anchor takes up the shift.

        The latents of sounds stay the same. Limits are the caller's to set.
        """
        self.w_can.copy_(self.latent(a_exp, a_lip))
        encoders = self.expression_encoder.audio, self.lip_encoder.audio
        for encoder, zero, unit in zip(encoders, (a_exp, a_lip), self.unit.split(self._sizes()), strict=True):
            shift = zero * unit
            encoder.head.bias -= shift
            encoder.attention.bias += encoder.attention.weight.sum(-1) @ shift  # attention weights stay the same

    @torch.no_grad()
    def transform_lips(self, matrix: Tensor) -> None:
        """Change what the sound does: a_lip' = matrix a_lip, with an invertible matrix [n_lip, n_lip].

        Unlike a rotation of the axes it changes the latents. Units and limits are the caller's to set (set_units).
        """
        unit = self.unit[self.config.n_exp :]
        matrix = unit[:, None] * matrix / unit  # of what is emitted
        weight, bias = self.lip_encoder.audio.head.parameters()
        weight.copy_((matrix @ weight[..., 0])[..., None])
        bias.copy_(matrix @ bias)
        attention = self.lip_encoder.audio.attention.weight  # [8, n_lip, 5]: it weighs neighbours as before
        attention.copy_(torch.einsum("wkt,kj->wjt", attention, torch.linalg.inv(matrix)))

    @torch.no_grad()
    def permute_coefficients(self, order: Tensor, signs: Tensor) -> None:
        """Reorder coefficients and flip their signs: a'[k] = signs[k] a[order[k]]; the latents stay the same.

        order [K] keeps each branch's coefficients in their branch, signs [K] are +-1; units may be set.
        """
        matrix = torch.zeros(len(order), len(order), device=self.unit.device)
        matrix[order, torch.arange(len(order))] = signs.to(matrix)
        exp, lip = (matrix[part, part] for part in (slice(None, self.config.n_exp), slice(self.config.n_exp, None)))
        assert bool((exp.abs().sum(0) == 1).all() and (lip.abs().sum(0) == 1).all()), "a coefficient left its branch"
        unit, scales, limits = self.unit[order], self.blendshapes.scales[order], self.limits[order]
        self.unit.fill_(1.0)  # the same numbers under other names: nothing is rounded
        self.blendshapes.scales.fill_(1.0)
        self.rotate_coefficients(exp, lip)
        flipped = -limits.flip(-1)
        self.set_units(unit, torch.where(signs[:, None] < 0, flipped, limits))
        self.blendshapes.scales.copy_(scales)

    @torch.no_grad()
    def select_coefficients(self, kept: Tensor, constant: Tensor) -> Navigation:
        """A copy with coefficients `kept` alone; the others are fixed at constant [K] and become part of the anchor.

        kept: indices in rising order, some of either branch.
        """
        n_exp = self.config.n_exp
        exp, lip = kept[kept < n_exp], kept[kept >= n_exp] - n_exp
        fixed = constant.index_fill(0, kept, 0.0)
        state = self.state_dict()
        state["w_can"] = self.latent(*fixed.split(self._sizes()))
        state["blendshapes.raw"] = self.blendshapes.directions()[:, kept]
        for name in ("blendshapes.scales", "unit", "limits"):
            state[name] = state[name][kept]
        raw = (fixed * self.unit).split(self._sizes())
        for branch, rows, rest in zip(("expression_encoder", "lip_encoder"), (exp, lip), raw, strict=True):
            audio = f"{branch}.audio"
            attention = state[f"{audio}.attention.weight"]  # [8, K, 5]: it weighs neighbours as before
            state[f"{audio}.attention.bias"] = state[f"{audio}.attention.bias"] + attention.sum(-1) @ rest
            state[f"{audio}.attention.weight"] = attention[:, rows]
            for name in ("weight", "bias"):
                state[f"{audio}.head.{name}"] = state[f"{audio}.head.{name}"][rows]
        for name in ("linear", "quadratic"):
            state[f"expression_encoder.blink.{name}"] = state[f"expression_encoder.blink.{name}"][exp]
        smaller = Navigation(replace(self.config, n_exp=len(exp), n_lip=len(lip))).to(self.unit.device)
        smaller.load_state_dict(state)
        return smaller.train(self.training).requires_grad_(False)

    @torch.no_grad()
    def set_units(self, std: Tensor, limits: Tensor) -> None:
        """Make 1 = one training standard deviation: std [K] of the coefficients so far, limits [K, 2] in new units."""
        self.unit.mul_(std)
        self.blendshapes.scales.mul_(std)
        self.limits.copy_(limits)

    def _sizes(self) -> list[int]:
        return [self.config.n_exp, self.config.n_lip]
