"""Stage 0 of the prior: synthetic people, their UV targets and their pictures, cached one file a person.

Person i is drawn from seed (seed, i), so a cache can be continued, or made again, and holds the same people. Held-out
people have their own range of seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.head.template import HeadTemplate
from dgtalker.training.common import load_state, save_state
from dgtalker.training.expressions import sample_expression

HELD_OUT = 1_000_000  # seeds of held-out people start here


class PeopleSource(Protocol):
    """What the cache needs from a maker of people; `SyntheticPeople` is the real one."""

    expression_names: Sequence[str]

    def sample(self, rng: np.random.Generator): ...

    def factors(self, person) -> np.ndarray: ...  # [Zp] ~ N(0,1)

    def shape(self, person) -> np.ndarray: ...  # [Ks] template coefficients

    def texels(self, person, expression: np.ndarray) -> dict: ...  # positions [T,3], color [T,3], opacity [T]

    def capture(self, person, expressions: np.ndarray, cameras: Camera) -> np.ndarray: ...  # uint8 [n,H,W,3]


class SyntheticPeople:
    """People of `dgtalker.people` over a MakeHuman asset folder, seen through the template's atlas."""

    def __init__(self, makehuman: str | Path, template: HeadTemplate, map_size: int):
        from dgtalker import people

        self.people = people
        self.atlas = template.atlas(map_size)
        self.assets = people.PersonAssets(makehuman, template)
        self.expression_names = list(template.expression_names)

    def sample(self, rng: np.random.Generator):
        """One random person."""
        return self.people.sample_person(rng, self.assets)

    def factors(self, person) -> np.ndarray:
        """[Zp] about N(0,1)."""
        return person.factors()

    def shape(self, person) -> np.ndarray:
        """[Ks] template coefficients of the neutral head."""
        return person.shape_coefficients

    def texels(self, person, expression: np.ndarray) -> dict[str, np.ndarray]:
        """positions [T,3], color [T,3], opacity [T] in the atlas."""
        return self.people.person_texels(person, expression, self.atlas)

    def capture(self, person, expressions: np.ndarray, cameras: Camera) -> np.ndarray:
        """Mesh renders on white, one of `expressions` per camera."""
        return self.people.capture(person, expressions, cameras)


@dataclass
class TexelTargets:
    """UV targets of one person in S expressions (the first one is the neutral face)."""

    index: int  # seed of the person
    factors: Tensor  # [Zp]
    shape: Tensor  # [Ks]
    expressions: Tensor  # [S,52]
    positions: Tensor  # [S,T,3] float16, world units
    color: Tensor  # [T,3] uint8
    opacity: Tensor  # [T] uint8


@dataclass
class Views:
    """Pictures of one person: n images, each with its camera and its row of `expressions`."""

    index: int
    expressions: Tensor  # [E,52]
    expression_index: Tensor  # [n]
    images: Tensor  # [n,H,W,3] uint8
    cameras: Camera  # [n]

    def __len__(self) -> int:
        return len(self.images)


class PeopleCache:
    """Folder of people: `texels/INDEX.safetensors` and `views/INDEX.safetensors`, made on first use."""

    def __init__(self, folder: str | Path, source: PeopleSource, seed: int):
        self.folder = Path(folder)
        self.source = source
        self.seed = seed

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, index, purpose])

    def person(self, index: int):
        """Person `index`; the same on every call."""
        return self.source.sample(self._rng(index, 0))

    def texels(self, index: int, expressions: int = 2) -> TexelTargets:
        """UV targets of person `index`, from disk or made now."""
        path = self._path("texels", index)
        try:
            tensors, _ = load_state(path)
        except FileNotFoundError:
            tensors = self._make_texels(index, expressions)
            save_state(path, tensors, {"index": index})
        return TexelTargets(index, **tensors)

    def _make_texels(self, index: int, count: int) -> dict[str, Tensor]:
        person, rng = self.person(index), self._rng(index, 1)
        names = self.source.expression_names
        expressions = np.zeros((count, len(names)), np.float32)
        for k in range(1, count):
            expressions[k] = sample_expression(rng, names)
        made = [self.source.texels(person, expression) for expression in expressions]
        first = made[0]
        return {
            "factors": torch.as_tensor(self.source.factors(person)).float(),
            "shape": torch.as_tensor(self.source.shape(person)).float(),
            "expressions": torch.from_numpy(expressions),
            "positions": torch.stack([torch.as_tensor(m["positions"]) for m in made]).half(),
            "color": to_uint8(first["color"]),
            "opacity": to_uint8(first["opacity"]),
        }

    def views(self, index: int, size: int, expressions: int = 2, views: int = 4) -> Views:
        """Pictures of person `index`, from disk or made now: `views` cameras for each of `expressions` faces."""
        path = self._path("views", index)
        try:
            tensors, _ = load_state(path)
        except FileNotFoundError:
            tensors = self._make_views(index, size, expressions, views)
            save_state(path, tensors, {"index": index})
        height, width = tensors["images"].shape[1:3]
        cameras = Camera(tensors["world_to_camera"], tensors["intrinsics"], width, height)
        return Views(index, tensors["expressions"], tensors["expression_index"], tensors["images"], cameras)

    def _make_views(self, index: int, size: int, n_expressions: int, n_views: int) -> dict[str, Tensor]:
        person, rng = self.person(index), self._rng(index, 2)
        names = self.source.expression_names
        expressions = np.stack([sample_expression(rng, names) for _ in range(n_expressions)])
        if index >= HELD_OUT:  # measured at rest and in one expression, always from the same two sides
            expressions[0] = 0
            angles = [[(0.0, 0.0), (60.0, 0.0)]] * n_expressions
        else:
            angles = [spread_views(rng, n_views) for _ in range(n_expressions)]
        images, cameras, rows = [], [], []
        for row, directions in enumerate(angles):
            batch = Camera.stack([orbit_camera(yaw, pitch, size) for yaw, pitch in directions])
            pictures = self.source.capture(person, np.repeat(expressions[row : row + 1], len(batch), 0), batch)
            images.append(to_uint8(pictures))
            cameras.append(batch)
            rows += [row] * len(batch)
        return {
            "expressions": torch.from_numpy(expressions),
            "expression_index": torch.tensor(rows),
            "images": torch.cat(images),
            "world_to_camera": torch.cat([c.world_to_camera for c in cameras]),
            "intrinsics": torch.cat([c.intrinsics for c in cameras]),
        }

    def _path(self, kind: str, index: int) -> Path:
        return self.folder / kind / f"{index:07d}.safetensors"


def spread_views(rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """(yaw, pitch) in degrees: one near the front, the others spread over yaw -90..90; pitch -20..20."""
    yaws = [rng.uniform(-25, 25)]
    edges = np.linspace(-90, 90, count)
    yaws += [rng.uniform(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    return [(float(yaw), float(rng.uniform(-20, 20))) for yaw in yaws]


def to_uint8(values) -> Tensor:
    """0..1 floats (or uint8 as they are) -> uint8."""
    values = torch.as_tensor(values)
    return values if values.dtype == torch.uint8 else (values.clamp(0, 1) * 255).round().to(torch.uint8)
