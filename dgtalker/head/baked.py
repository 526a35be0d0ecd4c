"""The baked head: from coefficients to splats without the generator, by blendshapes of splat attributes.

    attributes(a) = mean + phi(a) @ weights @ basis,    phi(a) = [a, a_i a_j (i <= j)]

One PCA basis per attribute. Blended are centres, log-scales, logit-opacities, colours and axis-angle rotations relative
to the canonical head, never the activated values. phi(0) = 0, so a = 0 is the canonical head exactly.

Far from what training met, products of coefficients run away. So the amplitude of every component, phi(a) @ weights,
and the length of every splat are clamped to bounds that are stored with the head (set_bounds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dgtalker.gaussians import Gaussians
from dgtalker.head.rotations import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_axis_angle

ATTRIBUTES = {"means": 3, "log_scales": 3, "axis_angles": 3, "logit_opacities": 1, "colors": 3}
OPACITY_MARGIN = 1e-4  # keeps logits finite
AttributeChanges = tuple[Tensor, dict[str, Tensor]]  # indices [E] of splats, {attribute: added [..., E, channels]}


class BakedHead(nn.Module):
    """Mean + PCA blendshapes per splat attribute, driven by K coefficients (expression first, then lips)."""

    base_quats: Tensor  # [N, 4] rotations of the canonical head
    longest: Tensor  # [N] largest log-scale
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
            unbounded = torch.tensor([-torch.inf, torch.inf])[:, None].repeat(1, self.ranks[name])
            self.register_buffer(f"bounds_{name}", unbounded)  # [2, R] least and largest amplitudes
        self.register_buffer("longest", torch.full((count,), torch.inf))  # [N] largest log-scale of each splat
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
        phi, blended = quadratic_features(a), {}
        for name in ATTRIBUTES:
            mean, basis, weights, (low, high) = (
                getattr(self, f"{kind}_{name}") for kind in ("mean", "basis", "weights", "bounds")
            )
            amplitudes = (phi @ weights).maximum(low).minimum(high)
            blended[name] = mean + torch.einsum("...r,rnc->...nc", amplitudes, basis)
        return blended

    def forward(self, a: Tensor, changes: AttributeChanges | None = None) -> Gaussians:
        """Coefficients a [..., K] -> Gaussians [..., N]; differentiable. `changes` of FaceControls are added."""
        assert a.shape[-1] == self.coefficients, f"expected {self.coefficients} coefficients, got {tuple(a.shape)}"
        attributes = self.attributes(a)
        if changes is not None:
            splats, added = changes
            attributes = {name: value.index_add(-2, splats, added[name]) for name, value in attributes.items()}
        attributes["log_scales"] = attributes["log_scales"].minimum(self.longest[:, None])
        return gaussians_from_baked(attributes, self.base_quats)

    def frame(self, a: np.ndarray, changes: Sequence[tuple[np.ndarray, Mapping[str, np.ndarray]]] = ()) -> Gaussians:
        """The same for one a [K] on the CPU without autograd: the fast path of viewport and video, about 2 ms."""
        assert a.shape == (self.coefficients,), f"expected [{self.coefficients}] coefficients, got {a.shape}"
        if self._arrays is None:
            self._arrays = self._prepare_arrays()
        arrays = self._arrays
        phi = quadratic_features_numpy(np.asarray(a, np.float32))

        def blend(name: str) -> np.ndarray:  # one matrix-vector product per attribute
            amplitudes = np.clip(phi @ arrays[f"weights_{name}"], *arrays[f"bounds_{name}"])
            blended = (arrays[f"mean_{name}"] + amplitudes @ arrays[f"basis_{name}"]).reshape(-1, ATTRIBUTES[name])
            for splats, added in changes:
                blended[splats] += added[name]  # no index occurs twice
            return blended

        with np.errstate(over="ignore"):  # far outside the training range: opacity 0, or too large to be drawn
            opacities = 1.0 / (1.0 + np.exp(-blend("logit_opacities")[:, 0]))
            scales = np.exp(np.minimum(blend("log_scales"), arrays["longest"]))
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

    @torch.no_grad()
    def set_bounds(self, a: Tensor, margin: float) -> None:
        """Bound amplitudes and splats by what coefficients a [S, K] ask for; margin: by how much these may be exceeded.

        Amplitudes may reach (1 + margin) times the extremes, log-scales the largest among a plus `margin`.
        """
        for name in ATTRIBUTES:
            self.get_buffer(f"bounds_{name}").copy_(torch.tensor([[-torch.inf], [torch.inf]]))
        self.longest.fill_(torch.inf)
        longest = self.get_buffer("mean_log_scales").amax(dim=-1)
        for codes in a.split(16):
            longest = longest.maximum(self.attributes(codes)["log_scales"].amax(dim=(0, -1)))
        self.longest.copy_(longest + margin)
        for name in ATTRIBUTES:
            amplitudes = quadratic_features(a) @ self.get_buffer(f"weights_{name}")
            low, high = amplitudes.amin(dim=0).clamp(max=0.0), amplitudes.amax(dim=0).clamp(min=0.0)
            self.get_buffer(f"bounds_{name}").copy_((1 + margin) * torch.stack([low, high]))
        self._arrays = None

    @property
    def bounded(self) -> bool:
        """Whether bounds are set."""
        return bool(self.longest.isfinite().all())

    @torch.no_grad()
    def transform_coefficients(self, matrix: Tensor) -> None:
        """Change to new coefficients in place: a = matrix a', matrix [K, K]; the splats of both are the same."""
        size = self.coefficients
        rows, columns = torch.triu_indices(size, size)
        matrix = matrix.detach().cpu().double()
        for name in ATTRIBUTES:
            weights = getattr(self, f"weights_{name}")
            linear, products = weights.cpu().double().split([size, len(rows)])
            square = products.new_zeros(size, size, weights.shape[1])  # symmetric: a^T square[..., r] a
            square[rows, columns] += products / 2
            square[columns, rows] += products / 2
            square = torch.einsum("ik,ijr,jl->klr", matrix, square, matrix)
            twice = torch.where(rows == columns, 1.0, 2.0).double()[:, None]
            changed = torch.cat([matrix.T @ linear, twice * square[rows, columns]])
            weights.copy_(changed)
        self._arrays = None

    @torch.no_grad()
    def select_coefficients(self, kept: Tensor) -> BakedHead:
        """A copy with coefficients `kept` [k] int64 alone, in rising order; the others are fixed at zero."""
        rows, columns = torch.triu_indices(self.coefficients, self.coefficients)
        keep = torch.zeros(self.coefficients, dtype=torch.bool).index_fill(0, kept.cpu(), True)
        features = torch.cat([keep, keep[rows] & keep[columns]]).nonzero()[:, 0]
        smaller = BakedHead(self.count, len(kept), self.ranks).to(self.base_quats.device)
        state = self.state_dict()
        for name in ATTRIBUTES:
            state[f"weights_{name}"] = state[f"weights_{name}"][features.to(self.base_quats.device)]
        smaller.load_state_dict(state)
        return smaller.train(self.training).requires_grad_(False)

    def _prepare_arrays(self) -> dict[str, np.ndarray]:
        """Buffers as flat contiguous float32 arrays: basis [R, N * channels], mean [N * channels]."""
        arrays = {"base_quats": self.base_quats.detach().cpu().float().numpy()}
        arrays["longest"] = self.longest.detach().cpu().float()[:, None].numpy()
        for name in ATTRIBUTES:
            mean, basis, weights = (
                getattr(self, f"{kind}_{name}").detach().cpu().float() for kind in ("mean", "basis", "weights")
            )
            arrays[f"mean_{name}"] = mean.reshape(-1).numpy()
            arrays[f"basis_{name}"] = np.ascontiguousarray(basis.reshape(len(basis), -1).numpy())
            arrays[f"weights_{name}"] = np.ascontiguousarray(weights.numpy())
            arrays[f"bounds_{name}"] = getattr(self, f"bounds_{name}").detach().cpu().float().numpy()
        return arrays

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        for name in ("longest", *(f"bounds_{name}" for name in ATTRIBUTES)):  # older heads have none
            state_dict.setdefault(f"{prefix}{name}", getattr(self, name))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
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
