"""Stage B, baking: distil coefficients -> splats from the generator into a BakedHead, and measure the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.baked import ATTRIBUTES, BakedHead, baked_from_gaussians, quadratic_features
from dgtalker.head.splats import region_weights
from dgtalker.metrics.image_loss import tensor_psnr
from dgtalker.pretrained import dequantize_int8
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import Stage

SWEEP_STD = 3.0  # the sliders' range, standard deviations


@dataclass(frozen=True)
class BakingConfig:
    """Distillation of the generator into blendshapes of splat attributes."""

    samples: int = 1000  # coefficient vectors at which the generator is evaluated
    ranks: Mapping[str, int] = field(
        default_factory=lambda: {"means": 24, "log_scales": 8, "axis_angles": 8, "logit_opacities": 8, "colors": 24}
    )
    # The same for heads of more than `large_head_splats`, whose folder would exceed 12 MiB.
    large_head_splats: int = 30_000
    large_head_ranks: Mapping[str, int] = field(
        default_factory=lambda: {"means": 13, "log_scales": 4, "axis_angles": 4, "logit_opacities": 4, "colors": 11}
    )
    ridge_linear: float = 1e-5  # per sample
    ridge_quadratic: float = 1e-2
    min_opacity: float = 0.02  # splats that never exceed it are left out
    held_out: int = 48  # new coefficient vectors for the comparison
    batch: int = 4


def bake_head(head: RegionalHead, coefficients: Tensor, config: BakingConfig, stage: Stage) -> tuple[BakedHead, dict]:
    """Distil `head`; returns the baked head and its figures (PSNR against `head`, dB).

    coefficients [T, K]: those of the training frames, expression first, in final units.
    """
    generator, navigation = head.generator, head.navigation
    random = np.random.default_rng(stage.seed + 7)
    stream_masks = head.stream_masks.to(coefficients)
    samples = sample_coefficients(coefficients, navigation.config.n_exp, config.samples // len(stream_masks), random)
    canonical = generate_gaussians(head, torch.zeros_like(samples[:1]))
    base_quats = torch.nn.functional.normalize(canonical.quats[0], dim=-1)
    mean = {name: value[0] for name, value in baked_from_gaussians(canonical, base_quats).items()}
    per_stream = [samples * mask for mask in stream_masks]  # the samples of each stream alone
    targets: list[dict[str, Tensor]] = []
    for number, codes in enumerate(per_stream):
        rows: dict[str, list[Tensor]] = {name: [] for name in ATTRIBUTES}
        for first in range(0, len(codes), config.batch):
            done = (number + first / len(codes)) / len(stream_masks)
            stage.report(0.7 * done, f"sample {first} of {len(codes)}")
            gaussians = generate_gaussians(head, codes[first : first + config.batch])
            for name, value in baked_from_gaussians(gaussians, base_quats).items():
                rows[name].append(value)
        targets.append({name: torch.cat(value) for name, value in rows.items()})  # [S, N, channels]
    stage.report(0.75, "blendshapes")
    opacities = [mean["logit_opacities"], *(target["logit_opacities"].amax(dim=0) for target in targets)]
    strongest = torch.stack(opacities).amax(dim=0)[:, 0].sigmoid()
    kept = (strongest >= config.min_opacity).nonzero()[:, 0]
    ranks = config.ranks if len(kept) <= config.large_head_splats else config.large_head_ranks
    baked = BakedHead(len(kept), samples.shape[1], ranks).to(samples.device)
    for name in ATTRIBUTES:
        getattr(baked, f"mean_{name}").copy_(mean[name][kept])
        changes = [(target.pop(name)[:, kept] - mean[name][kept]).flatten(1) for target in targets]  # [S, N * channels]
        basis, weights = fit_streams(changes, per_stream, ranks[name], config)
        getattr(baked, f"basis_{name}").copy_(basis.unflatten(1, (len(kept), -1)))
        getattr(baked, f"weights_{name}").copy_(weights)
    baked.base_quats.copy_(base_quats[kept])
    upper, lower = region_weights(generator)
    baked.upper_weight.copy_(upper[kept])
    baked.lower_weight.copy_(lower[kept])
    baked.part.copy_(generator.texel_part[kept].to(torch.int16))
    figures = measure_baked_head(baked, head, coefficients, config, stage)
    stage.log_values(**figures)
    return baked, figures


def sample_coefficients(coefficients: Tensor, n_exp: int, count: int, random: np.random.Generator) -> Tensor:
    """About `count` coefficient vectors [S, K] for distillation.

    Training vectors with lips and expression of different frames, scaled, some with Gaussian noise; and every
    coefficient alone up to the sliders' ends.
    """
    total, size = coefficients.shape
    sweeps = sweep_coefficients(size, (-SWEEP_STD, -SWEEP_STD / 2, SWEEP_STD / 2, SWEEP_STD)).to(coefficients)
    some = max(1, count - 2 * len(sweeps))
    mixed = _mix_streams(coefficients, n_exp, some, random)
    mixed[: some // 4] += torch.from_numpy(random.normal(0, 0.7, (some // 4, size))).to(mixed)
    on_top = sweeps / 1.5 + 0.7 * _mix_streams(coefficients, n_exp, len(sweeps), random)
    return torch.cat([mixed, sweeps, on_top])


def _mix_streams(coefficients: Tensor, n_exp: int, count: int, random: np.random.Generator) -> Tensor:
    """Training vectors scaled by 0.6 to 1.4, half of them with the expression of one frame and the lips of another."""
    first, second = random.integers(0, len(coefficients), (2, count))
    second = np.where(random.random(count) < 0.5, first, second)
    codes = torch.cat([coefficients[first, :n_exp], coefficients[second, n_exp:]], dim=-1)
    return codes * torch.from_numpy(random.uniform(0.6, 1.4, (count, 1))).to(codes)


def sweep_coefficients(size: int, values: tuple[float, ...]) -> Tensor:
    """Each coefficient alone at each value: [size * len(values), size]."""
    return torch.cat([value * torch.eye(size) for value in values])


@torch.no_grad()
def generate_gaussians(head: RegionalHead, coefficients: Tensor) -> Gaussians:
    """Splats [B, N] of coefficients [B, K], without gradients."""
    sizes = head.navigation.config
    return head(*coefficients.split([sizes.n_exp, sizes.n_lip], dim=-1))


def fit_streams(
    changes: Sequence[Tensor], samples: Sequence[Tensor], rank: int, config: BakingConfig
) -> tuple[Tensor, Tensor]:
    """Basis [R, P] and weights [features, R] of streams whose changes [S, P] add up, each with its own samples [S, K].

    The R components are those that explain most, over all streams. None belongs to two streams: what a stream does not
    change stays exactly as it is.
    """
    systems = [principal_components(change) for change in changes]
    explained = torch.cat([values for values, _ in systems])
    stream = torch.cat([torch.full((len(values),), k) for k, (values, _) in enumerate(systems)])
    chosen = stream[explained.cpu().argsort(descending=True)[:rank]]
    counts = [int((chosen == k).sum()) for k in range(len(systems))]
    fits = [
        fit_blendshapes(change, codes, vectors[:, -count:] / values[-count:].sqrt(), config)
        for change, codes, (values, vectors), count in zip(changes, samples, systems, counts, strict=True)
        if count
    ]
    basis, weights = torch.cat([b for b, _ in fits]), torch.cat([w for _, w in fits], dim=1)
    missing = rank - len(basis)  # fewer samples than components: the rest stays zero
    return torch.nn.functional.pad(basis, (0, 0, 0, missing)), torch.nn.functional.pad(weights, (0, missing))


def principal_components(change: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues [S] and eigenvectors [S, S] of change @ change.T, change [S, P]."""
    gram = change.double() @ change.double().T if change.shape[1] < 10_000 else (change @ change.T).double()
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp_min(1e-12), vectors


def fit_blendshapes(change: Tensor, samples: Tensor, components: Tensor, config: BakingConfig) -> tuple[Tensor, Tensor]:
    """Basis [R, P] and weights [features, R] with phi(samples) @ weights @ basis ~ change [S, P].

    components [S, R]: the basis as combinations of the samples' changes. Ridge regression in double precision, with a
    stronger penalty on quadratic terms, so that sliders stay plausible at their ends.
    """
    basis = components.T.to(change) @ change  # orthonormal rows
    coordinates = change @ basis.T
    phi = quadratic_features(samples).double()
    penalty = torch.full((phi.shape[1],), config.ridge_quadratic, dtype=phi.dtype, device=phi.device)
    penalty[: samples.shape[1]] = config.ridge_linear
    system = phi.T @ phi + torch.diag(penalty * len(phi))
    weights = torch.linalg.solve(system, phi.T @ coordinates.double())
    # Basis and weights of similar magnitude lose least in half precision.
    size = coordinates.abs().amax(dim=0).clamp_min(1e-6)
    return basis * size[:, None], (weights / size).to(change)


@torch.no_grad()
def measure_baked_head(
    baked: BakedHead,
    head: RegionalHead,
    coefficients: Tensor,
    config: BakingConfig,
    stage: Stage,
    size: int = 256,
) -> dict:
    """PSNR of pictures, baked against generator: held-out samples, and single coefficients at the sliders' ends."""
    random = np.random.default_rng(stage.seed + 8)
    held_out = _mix_streams(coefficients, head.navigation.config.n_exp, config.held_out, random)
    sweeps = sweep_coefficients(coefficients.shape[1], (-SWEEP_STD, SWEEP_STD)).to(coefficients)
    camera = orbit_camera(yaw=10.0, size=size)
    cameras = Camera.stack([camera]).to(coefficients.device)
    stored = round_as_stored(baked)
    figures = {}
    for k, (name, codes) in enumerate({"held_out": held_out, "sweep": sweeps}.items()):
        values = []
        for row, code in enumerate(codes):
            stage.report(0.8 + 0.1 * (k + row / len(codes)), "check")
            truth, _ = stage.render(generate_gaussians(head, code[None])[0], cameras)
            image, _ = stage.render(stored(code), cameras)
            values.append(tensor_psnr(image.clamp(0, 1), truth.clamp(0, 1)))
        figures |= {f"{name}_psnr": round(float(np.mean(values)), 2), f"{name}_psnr_min": round(min(values), 2)}
    return {**figures, "splats": baked.count}


def round_as_stored(head: BakedHead) -> BakedHead:
    """The head as it is after saving and loading: rounded to half precision."""
    from dgtalker.identity import compress_tensors

    stored = compress_tensors({f"head.{key}": value for key, value in head.state_dict().items()})
    widened = dequantize_int8({k: v.float() if v.dtype == torch.float16 else v for k, v in stored.items()})
    copy = BakedHead(**head.config()).to(head.base_quats.device)
    copy.load_state_dict({key.removeprefix("head."): value for key, value in widened.items()})
    return copy
