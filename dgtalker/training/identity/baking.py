"""Stage B, baking: distil a -> splats from the generator into a BakedHead, and check it against the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.baked import ATTRIBUTES, BakedHead, baked_from_gaussians, quadratic_features
from dgtalker.head.splats import region_weights
from dgtalker.metrics.image_loss import psnr
from dgtalker.pretrained import from_bytes
from dgtalker.training.identity.regional_head import RegionalHead
from dgtalker.training.stage import Stage

SWEEP = 3.0  # standard deviations, the sliders' range


@dataclass(frozen=True)
class BakingConfig:
    """Distillation of the generator into blendshapes of splat attributes."""

    samples: int = 1000  # coefficient vectors the generator is asked about
    ranks: Mapping[str, int] = field(
        default_factory=lambda: {"means": 24, "log_scales": 8, "axis_angles": 8, "logit_opacities": 8, "colors": 24}
    )
    # The same for heads of more than `many` splats, whose folder would not stay within 12 MiB.
    many: int = 30_000
    many_ranks: Mapping[str, int] = field(
        default_factory=lambda: {"means": 16, "log_scales": 4, "axis_angles": 4, "logit_opacities": 4, "colors": 16}
    )
    ridge_linear: float = 1e-5  # per sample
    ridge_quadratic: float = 1e-2
    min_opacity: float = 0.02  # splats that never exceed it are left out
    held_out: int = 48  # fresh coefficient vectors for the check
    batch: int = 4


def bake(driven: RegionalHead, coefficients: Tensor, config: BakingConfig, stage: Stage) -> tuple[BakedHead, dict]:
    """Returns the baked head and its figures (PSNR against the driven one, dB).

    coefficients [T, K]: those of the training frames, expression first, in final units.
    """
    generator, navigation = driven.generator, driven.navigation
    random = np.random.default_rng(stage.seed + 7)
    streams = driven.streams.to(coefficients)
    samples = sample_coefficients(coefficients, navigation.config.n_exp, config.samples // len(streams), random)
    canonical = generate(driven, torch.zeros_like(samples[:1]))
    base_quats = torch.nn.functional.normalize(canonical.quats[0], dim=-1)
    mean = {name: value[0] for name, value in baked_from_gaussians(canonical, base_quats).items()}
    driving = [samples * stream for stream in streams]  # what one stream does alone
    targets: list[dict[str, Tensor]] = []
    for number, codes in enumerate(driving):
        rows: dict[str, list[Tensor]] = {name: [] for name in ATTRIBUTES}
        for first in range(0, len(codes), config.batch):
            done = (number + first / len(codes)) / len(streams)
            stage.report(0.7 * done, f"sample {first} of {len(codes)}")
            gaussians = generate(driven, codes[first : first + config.batch])
            for name, value in baked_from_gaussians(gaussians, base_quats).items():
                rows[name].append(value)
        targets.append({name: torch.cat(value) for name, value in rows.items()})  # [S, N, channels]
    stage.report(0.75, "blendshapes")
    opacities = [mean["logit_opacities"], *(target["logit_opacities"].amax(dim=0) for target in targets)]
    strongest = torch.stack(opacities).amax(dim=0)[:, 0].sigmoid()
    kept = (strongest >= config.min_opacity).nonzero()[:, 0]
    ranks = config.ranks if len(kept) <= config.many else config.many_ranks
    head = BakedHead(len(kept), samples.shape[1], ranks).to(samples.device)
    for name in ATTRIBUTES:
        getattr(head, f"mean_{name}").copy_(mean[name][kept])
        changes = [(target.pop(name)[:, kept] - mean[name][kept]).flatten(1) for target in targets]  # [S, N * channels]
        basis, weights = fit_streams(changes, driving, ranks[name], config)
        getattr(head, f"basis_{name}").copy_(basis.unflatten(1, (len(kept), -1)))
        getattr(head, f"weights_{name}").copy_(weights)
    head.base_quats.copy_(base_quats[kept])
    upper, lower = region_weights(generator)
    head.upper_weight.copy_(upper[kept])
    head.lower_weight.copy_(lower[kept])
    head.part.copy_(generator.texel_part[kept].to(torch.int16))
    figures = check(head, driven, coefficients, config, stage)
    stage.note(**figures)
    return head, figures


def sample_coefficients(coefficients: Tensor, n_exp: int, count: int, random: np.random.Generator) -> Tensor:
    """[about count, K] for distillation: training codes with lips and expression of different frames, louder and
    softer, Gaussian noise around them, and every coefficient alone up to the sliders' ends."""
    total, size = coefficients.shape
    sweeps = sweep_coefficients(size, (-SWEEP, -SWEEP / 2, SWEEP / 2, SWEEP)).to(coefficients)
    some = max(1, count - 2 * len(sweeps))
    mixed = _mixed(coefficients, n_exp, some, random)
    mixed[: some // 4] += torch.from_numpy(random.normal(0, 0.7, (some // 4, size))).to(mixed)
    on_top = sweeps / 1.5 + 0.7 * _mixed(coefficients, n_exp, len(sweeps), random)
    return torch.cat([mixed, sweeps, on_top])


def _mixed(coefficients: Tensor, n_exp: int, count: int, random: np.random.Generator) -> Tensor:
    """Training codes scaled by 0.6 to 1.4, half of them with the expression of one frame and the lips of another."""
    first, second = random.integers(0, len(coefficients), (2, count))
    second = np.where(random.random(count) < 0.5, first, second)
    codes = torch.cat([coefficients[first, :n_exp], coefficients[second, n_exp:]], dim=-1)
    return codes * torch.from_numpy(random.uniform(0.6, 1.4, (count, 1))).to(codes)


def sweep_coefficients(size: int, values: tuple[float, ...]) -> Tensor:
    """Every coefficient alone at every value: [size * len(values), size]."""
    return torch.cat([value * torch.eye(size) for value in values])


@torch.no_grad()
def generate(driven: RegionalHead, coefficients: Tensor) -> Gaussians:
    """Splats [B, N] of coefficients [B, K] through the generator."""
    sizes = driven.navigation.config
    return driven(*coefficients.split([sizes.n_exp, sizes.n_lip], dim=-1))


def fit_streams(
    changes: Sequence[Tensor], samples: Sequence[Tensor], rank: int, config: BakingConfig
) -> tuple[Tensor, Tensor]:
    """basis [R, P] and weights [features, R] of streams whose changes [S, P] add up, each with its own samples [S, K].

    The R components are shared out by how much they explain, and none belongs to two streams: what one stream leaves
    alone stays exactly as it is.
    """
    systems = [principal_components(change) for change in changes]
    explained = torch.cat([values for values, _ in systems])
    stream = torch.cat([torch.full((len(values),), k) for k, (values, _) in enumerate(systems)])
    taken = stream[explained.cpu().argsort(descending=True)[:rank]]
    counts = [int((taken == k).sum()) for k in range(len(systems))]
    fits = [
        fit_blendshapes(change, codes, vectors[:, -count:] / values[-count:].sqrt(), config)
        for change, codes, (values, vectors), count in zip(changes, samples, systems, counts, strict=True)
        if count
    ]
    basis, weights = torch.cat([b for b, _ in fits]), torch.cat([w for _, w in fits], dim=1)
    missing = rank - len(basis)  # fewer samples than components: the rest stays zero
    return torch.nn.functional.pad(basis, (0, 0, 0, missing)), torch.nn.functional.pad(weights, (0, missing))


def principal_components(change: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending eigenvalues [S] and eigenvectors [S, S] of change [S, P] by its transpose."""
    gram = change.double() @ change.double().T if change.shape[1] < 10_000 else (change @ change.T).double()
    values, vectors = torch.linalg.eigh(gram)
    return values.clamp_min(1e-12), vectors


def fit_blendshapes(change: Tensor, samples: Tensor, components: Tensor, config: BakingConfig) -> tuple[Tensor, Tensor]:
    """basis [R, P] and weights [features, R] with phi(samples) @ weights @ basis ~ change [S, P].

    components [S, R]: the basis as combinations of the samples' changes. Ridge regression in double precision;
    quadratic terms are held back so that slider extremes stay tame.
    """
    basis = components.T.to(change) @ change  # orthonormal rows
    coordinates = change @ basis.T
    phi = quadratic_features(samples).double()
    penalty = torch.full((phi.shape[1],), config.ridge_quadratic, dtype=phi.dtype, device=phi.device)
    penalty[: samples.shape[1]] = config.ridge_linear
    system = phi.T @ phi + torch.diag(penalty * len(phi))
    weights = torch.linalg.solve(system, phi.T @ coordinates.double())
    # Stored numbers like basis and weights of like size.
    size = coordinates.abs().amax(dim=0).clamp_min(1e-6)
    return basis * size[:, None], (weights / size).to(change)


@torch.no_grad()
def check(
    head: BakedHead,
    driven: RegionalHead,
    coefficients: Tensor,
    config: BakingConfig,
    stage: Stage,
    size: int = 256,
) -> dict:
    """PSNR of pictures, baked against generator: held-out codes, and single coefficients at the sliders' ends."""
    random = np.random.default_rng(stage.seed + 8)
    held_out = _mixed(coefficients, driven.navigation.config.n_exp, config.held_out, random)
    sweeps = sweep_coefficients(coefficients.shape[1], (-SWEEP, SWEEP)).to(coefficients)
    camera = orbit_camera(yaw=10.0, size=size)
    cameras = type(camera).stack([camera]).to(coefficients.device)
    stored = as_stored(head)
    figures = {}
    for k, (name, codes) in enumerate({"held_out": held_out, "sweep": sweeps}.items()):
        values = []
        for row, code in enumerate(codes):
            stage.report(0.8 + 0.1 * (k + row / len(codes)), "check")
            truth, _ = stage.render(generate(driven, code[None])[0], cameras)
            image, _ = stage.render(stored(code), cameras)
            values.append(psnr(image.clamp(0, 1), truth.clamp(0, 1)))
        figures |= {f"{name}_psnr": round(float(np.mean(values)), 2), f"{name}_psnr_min": round(min(values), 2)}
    return {**figures, "splats": head.count}


def as_stored(head: BakedHead) -> BakedHead:
    """The head as it will be once saved and loaded."""
    from dgtalker.identity import narrowed

    stored = narrowed({f"head.{key}": value for key, value in head.state_dict().items()})
    widened = from_bytes({k: v.float() if v.dtype == torch.float16 else v for k, v in stored.items()})
    copy = BakedHead(**head.config()).to(head.base_quats.device)
    copy.load_state_dict({key.removeprefix("head."): value for key, value in widened.items()})
    return copy
