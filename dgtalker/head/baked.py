"""The baked head: from coefficients to splats without the generator, by blendshapes of splat attributes.

    attributes(a) = mean + phi(a) @ weights @ basis,    phi(a) = [a, a_i a_j (i <= j)]

One PCA basis per attribute. Blended are centres, log-scales, logit-opacities, colours and axis-angle rotations relative
to the canonical head, never the activated values. phi(0) = 0, so a = 0 is the canonical head exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from dgtalker.gaussians import Gaussians
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_axis_angle

ATTRIBUTES = {"means": 3, "log_scales": 3, "axis_angles": 3, "logit_opacities": 1, "colors": 3}
OPACITY_MARGIN = 1e-4  # keeps logits finite


class BakedHead(nn.Module):
    """Mean + PCA blendshapes per splat attribute, driven by K coefficients (expression first, then lips)."""

    base_quats: Tensor  # [N, 4] rotations of the canonical head
    # What each splat belongs to: for masks and leakage figures, never for rendering.
    upper_weight: Tensor  # [N] in [0, 1]
    lower_weight: Tensor  # [N] in [0, 1]
    part: Tensor  # [N] index into HeadTemplate.part_names

    def __init__(self, count: int, coefficients: int, ranks: Mapping[str, int]):
        """Zero buffers for `count` splats; `ranks` gives the number of PCA components of each attribute."""
        super().__init__()
        self.count, self.coefficients, self.ranks = count, coefficients, {name: int(ranks[name]) for name in ATTRIBUTES}
        features = coefficients + coefficients * (coefficients + 1) // 2
        for name, channels in ATTRIBUTES.items():
            self.register_buffer(f"mean_{name}", torch.zeros(count, channels))
            self.register_buffer(f"basis_{name}", torch.zeros(self.ranks[name], count, channels))
            self.register_buffer(f"weights_{name}", torch.zeros(features, self.ranks[name]))
        self.register_buffer("base_quats", torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1))
        self.register_buffer("upper_weight", torch.zeros(count))
        self.register_buffer("lower_weight", torch.zeros(count))
        self.register_buffer("part", torch.zeros(count, dtype=torch.int16))
        self._arrays: dict[str, np.ndarray] | None = None

    def config(self) -> dict:
        """The constructor's arguments, for config.json."""
        return {"count": self.count, "coefficients": self.coefficients, "ranks": self.ranks}

    def attributes(self, a: Tensor) -> dict[str, Tensor]:
        """Blended attributes {name: [..., N, channels]} of coefficients a [..., K]."""
        phi = quadratic_features(a)
        return {
            name: getattr(self, f"mean_{name}")
            + torch.einsum("...r,rnc->...nc", phi @ getattr(self, f"weights_{name}"), getattr(self, f"basis_{name}"))
            for name in ATTRIBUTES
        }

    def forward(self, a: Tensor) -> Gaussians:
        """Coefficients a [..., K] -> Gaussians [..., N]; differentiable."""
        assert a.shape[-1] == self.coefficients, f"expected {self.coefficients} coefficients, got {tuple(a.shape)}"
        return gaussians_from_baked(self.attributes(a), self.base_quats)

    def frame(self, a: np.ndarray) -> Gaussians:
        """The same for one a [K] on the CPU without autograd: the fast path of viewport and video, about 2 ms."""
        assert a.shape == (self.coefficients,), f"expected [{self.coefficients}] coefficients, got {a.shape}"
        if self._arrays is None:
            self._arrays = self._prepare_arrays()
        arrays = self._arrays
        phi = quadratic_features_numpy(np.asarray(a, np.float32))

        def blend(name: str) -> np.ndarray:  # one matrix-vector product per attribute
            return (arrays[f"mean_{name}"] + (phi @ arrays[f"weights_{name}"]) @ arrays[f"basis_{name}"]).reshape(
                -1, ATTRIBUTES[name]
            )

        with np.errstate(over="ignore"):  # far outside the training range: opacity 0, or too large to be drawn
            opacities = 1.0 / (1.0 + np.exp(-blend("logit_opacities")[:, 0]))
            scales = np.exp(blend("log_scales"))
        quats = rotate_quats_numpy(arrays["base_quats"], blend("axis_angles"))
        fields = (blend("means"), quats, scales, opacities, blend("colors"))
        return Gaussians(*map(torch.from_numpy, fields))

    @torch.no_grad()
    def permute_coefficients(self, order: Tensor, signs: Tensor) -> None:
        """Reorder coefficients and flip their signs, in place: a'[k] = signs[k] a[order[k]]; order and signs [K].

        Rows of the weights move and change sign, so no precision is lost.
        """
        size = self.coefficients
        rows, columns = torch.triu_indices(size, size)
        feature = torch.zeros(size, size, dtype=torch.int64)  # where phi(a) has a_i a_j
        feature[rows, columns] = feature[columns, rows] = size + torch.arange(len(rows))
        order, signs = order.cpu(), signs.cpu().float()
        source = torch.cat([order, feature[order[rows], order[columns]]])
        flip = torch.cat([signs, signs[rows] * signs[columns]])[:, None]
        for name in ATTRIBUTES:
            weights = getattr(self, f"weights_{name}")
            weights.copy_(weights[source.to(weights.device)] * flip.to(weights))
        self._arrays = None

    def _prepare_arrays(self) -> dict[str, np.ndarray]:
        """Buffers as flat contiguous float32 arrays: basis [R, N * channels], mean [N * channels]."""
        arrays = {"base_quats": self.base_quats.detach().cpu().float().numpy()}
        for name in ATTRIBUTES:
            mean, basis, weights = (
                getattr(self, f"{kind}_{name}").detach().cpu().float() for kind in ("mean", "basis", "weights")
            )
            arrays[f"mean_{name}"] = mean.reshape(-1).numpy()
            arrays[f"basis_{name}"] = np.ascontiguousarray(basis.reshape(len(basis), -1).numpy())
            arrays[f"weights_{name}"] = np.ascontiguousarray(weights.numpy())
        return arrays

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._arrays = None  # built from the old buffers


def quadratic_features(a: Tensor) -> Tensor:
    """phi(a): a [..., K] -> [..., K + K(K+1)/2], zero at a = 0."""
    rows, columns = torch.triu_indices(a.shape[-1], a.shape[-1], device=a.device)
    return torch.cat([a, a[..., rows] * a[..., columns]], dim=-1)


def quadratic_features_numpy(a: np.ndarray) -> np.ndarray:
    """quadratic_features for one numpy vector."""
    rows, columns = np.triu_indices(len(a))
    return np.concatenate([a, a[rows] * a[columns]])


def gaussians_from_baked(attributes: Mapping[str, Tensor], base_quats: Tensor) -> Gaussians:
    """Activate attributes {name: [..., N, channels]}; base_quats [N, 4] are the canonical rotations."""
    rotation = axis_angle_to_quaternion(attributes["axis_angles"])
    return Gaussians(
        means=attributes["means"],
        quats=quaternion_multiply(base_quats.expand_as(rotation), rotation),
        scales=attributes["log_scales"].exp(),
        opacities=attributes["logit_opacities"][..., 0].sigmoid(),
        colors=attributes["colors"],
    )


def baked_from_gaussians(gaussians: Gaussians, base_quats: Tensor) -> dict[str, Tensor]:
    """The inverse of gaussians_from_baked: what a BakedHead has to blend to get these splats [..., N]."""
    opacities = gaussians.opacities.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    quats = nn.functional.normalize(gaussians.quats, dim=-1)
    conjugate = (base_quats * base_quats.new_tensor([1, -1, -1, -1])).expand_as(quats)
    return {
        "means": gaussians.means,
        "log_scales": gaussians.scales.clamp_min(1e-6).log(),
        "axis_angles": quaternion_to_axis_angle(quaternion_multiply(conjugate, quats)),
        "logit_opacities": torch.logit(opacities)[..., None],
        "colors": gaussians.colors,
    }


def rotate_quats_numpy(base: np.ndarray, axis_angle: np.ndarray) -> np.ndarray:
    """quaternion_multiply(base, axis_angle_to_quaternion(axis_angle)) in numpy: [N, 4]."""
    angle = np.sqrt(np.einsum("nc,nc->n", axis_angle, axis_angle) + 1e-12)
    qw = np.cos(angle / 2)
    qx, qy, qz = axis_angle.T * (np.sin(angle / 2) / angle)
    pw, px, py, pz = base.T
    quats = np.empty_like(base)
    quats[:, 0] = pw * qw - px * qx - py * qy - pz * qz
    quats[:, 1] = pw * qx + px * qw + py * qz - pz * qy
    quats[:, 2] = pw * qy - px * qz + py * qw + pz * qx
    quats[:, 3] = pw * qz + px * qy - py * qx + pz * qw
    return quats
