"""The training data of the prior: UV targets and pictures of synthetic people, one file for each person and kind.

Person i depends on (seed, i) alone, so a cache can be continued, or made again, and holds the same people. Held-out
people have their own range of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.people.random_expressions import sample_expression
from dgtalker.people.source import PeopleSource
from dgtalker.resumable import load_state, save_state

HELD_OUT = 1_000_000  # numbers of held-out people start here
HELD_OUT_VIEWS = ((0.0, 0.0), (60.0, 0.0))  # (yaw, pitch) of their pictures, the same for all: figures to compare
REAL_SHARE = 0.25  # of the expressions, where recorded ones are at hand


@dataclass(frozen=True)
class PeopleConfig:
    """What is made of every person."""

    seed: int = 0  # of the people
    map_size: int = 128  # side of the UV targets in texels
    image_size: int = 256  # side of the pictures in pixels
    expressions: int = 3  # per person, the first at rest; for the UV targets and for the pictures
    views: int = 4  # pictures of each expression


@dataclass
class TexelTargets:
    """UV targets of one person in S expressions (the first one is the neutral face)."""

    index: int  # number of the person
    factors: Tensor  # [Zp]
    choices: Tensor  # [C,3] ranges of the factors that choose one of several: start, stop, sharpness
    shape: Tensor  # [Ks]
    expressions: Tensor  # [S,52]
    positions: Tensor  # [S,T,3] float16, world units
    color: Tensor  # [T,3] uint8
    opacity: Tensor  # [T] uint8


@dataclass
class Views:
    """Pictures of one person: n of them, each with its camera and its row of `expressions`; read when asked for."""

    index: int
    expressions: Tensor  # [S,52]
    expression_index: Tensor  # [n]
    cameras: Camera  # [n]
    path: Path

    def __len__(self) -> int:
        return len(self.expression_index)

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """uint8 [k,H,W,3] of some rows. Only these are read off the disk: hundreds of people need not fit memory."""
        from safetensors import safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                images = file.get_slice("images")
                return torch.cat([images[int(row) : int(row) + 1] for row in rows])
        except Exception as error:  # safetensors' own error class, or the system's
            raise UserError(f"The pictures '{self.path}' cannot be read any more; delete the file.") from error


class PeopleCache:
    """Folder of people: `texels/INDEX.safetensors` and `views/INDEX.safetensors`, made on first use.

    `cache_key.open_people` finds the folder that belongs to a configuration.
    """

    def __init__(
        self,
        folder: str | Path,
        source: PeopleSource,
        config: PeopleConfig | None = None,
        recorded: Tensor | None = None,  # [K,52] expressions of real faces, a quarter of those drawn
    ):
        self.folder = Path(folder)
        self.source = source
        self.config = config or PeopleConfig()
        self.recorded = None if recorded is None else recorded.numpy()

    def _rng(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, index, purpose])

    def person(self, index: int):
        """Person `index`; the same on every call."""
        return self.source.sample(self._rng(index, 0))

    def draw_expression(self, rng: np.random.Generator) -> np.ndarray:  # -> [52] float32
        """One random expression of the kind that people are made with."""
        return sample_mixed_expression(rng, self.source.expression_names, self.recorded)

    def expressions(self, index: int) -> Tensor:
        """[S,52] of person `index`: at rest, then random ones (held-out people: one)."""
        rng, count = self._rng(index, 1), 2 if index >= HELD_OUT else self.config.expressions
        rest = np.zeros(len(self.source.expression_names), np.float32)
        return torch.from_numpy(np.stack([rest, *(self.draw_expression(rng) for _ in range(count - 1))]))

    def has(self, index: int, pictures: bool) -> bool:
        """Whether person `index` is on the disk."""
        kinds = ("texels", "views") if pictures else ("texels",)
        return all(self._path(kind, index).is_file() for kind in kinds)

    def texels(self, index: int) -> TexelTargets:
        """UV targets of person `index`, from disk or made now."""
        _, tensors = self._stored("texels", index, self._make_texels)
        return TexelTargets(index, **tensors)

    def views(self, index: int) -> Views:
        """Pictures of person `index`, from disk or made now."""
        path, tensors = self._stored("views", index, self._make_views, skipped="images")
        size = self.config.image_size
        cameras = Camera(tensors["world_to_camera"], tensors["intrinsics"], size, size)
        return Views(index, tensors["expressions"], tensors["expression_index"], cameras, path)

    def _path(self, kind: str, index: int) -> Path:
        return self.folder / kind / f"{index:07d}.safetensors"

    def _stored(
        self, kind: str, index: int, make: Callable[[int], dict[str, Tensor]], skipped: str = ""
    ) -> tuple[Path, dict[str, Tensor]]:
        """The file of a person and its tensors without `skipped`; made first if it is missing or damaged."""
        path = self._path(kind, index)
        try:
            return path, read_tensors_except(path, skipped)
        except (FileNotFoundError, UserError):
            save_state(path, make(index), {"index": index})
            return path, read_tensors_except(path, skipped)

    def _make_texels(self, index: int) -> dict[str, Tensor]:
        person, expressions = self.person(index), self.expressions(index)
        made = [self.source.texels(person, expression) for expression in expressions.numpy()]
        first = made[0]
        return {
            "factors": torch.as_tensor(self.source.factors(person)).float(),
            "choices": torch.tensor(self.source.choices(person), dtype=torch.float32).reshape(-1, 3),
            "shape": torch.as_tensor(self.source.shape(person)).float(),
            "expressions": expressions,
            "positions": torch.stack([torch.as_tensor(m["positions"]) for m in made]).half(),
            "color": to_uint8(first["color"]),
            "opacity": to_uint8(first["opacity"]),
        }

    def _make_views(self, index: int) -> dict[str, Tensor]:
        person, expressions = self.person(index), self.expressions(index)
        if index >= HELD_OUT:
            directions = [list(HELD_OUT_VIEWS)] * len(expressions)
        else:
            directions = sample_view_directions(self._rng(index, 2), len(expressions), self.config.views)
        rows = torch.tensor([row for row, some in enumerate(directions) for _ in some])
        size = self.config.image_size
        cameras = Camera.stack([orbit_camera(yaw, pitch, size) for some in directions for yaw, pitch in some])
        return {
            "expressions": expressions,
            "expression_index": rows,
            "images": to_uint8(self.source.capture(person, expressions[rows].numpy(), cameras)),
            "world_to_camera": cameras.world_to_camera,
            "intrinsics": cameras.intrinsics,
        }


def read_tensors_except(path: Path, skipped: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file without the one named `skipped`. FileNotFoundError, or UserError if damaged."""
    if not skipped:
        return load_state(path)[0]
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys() if k != skipped}  # noqa: SIM118 (no mapping)
    except Exception as error:  # safetensors has its own error class
        raise UserError(f"'{path}' is damaged.") from error


def sample_mixed_expression(rng: np.random.Generator, names: Sequence[str], recorded: np.ndarray | None) -> np.ndarray:
    """[52] float32: a recorded expression for `REAL_SHARE` of the draws, if there are any; else a random one."""
    if recorded is not None and rng.random() < REAL_SHARE:
        return recorded[rng.integers(len(recorded))].astype(np.float32)
    return sample_expression(rng, names)


def sample_view_directions(rng: np.random.Generator, expressions: int, views: int) -> list[list[tuple[float, float]]]:
    """(yaw, pitch) in degrees, `views` of each expression: one near the front, the others over yaw -90..90.

    Pitch is -20..20. Each expression is seen from every side; all together cover the sides evenly.
    """
    directions = [[rng.uniform(-25, 25)] for _ in range(expressions)]
    edges = np.linspace(-90, 90, (views - 1) * expressions + 1)
    for side in range(views - 1):  # a side is as many narrow bands as there are expressions, dealt out among them
        for yaws, band in zip(directions, rng.permutation(expressions), strict=True):
            low = side * expressions + band
            yaws.append(rng.uniform(edges[low], edges[low + 1]))
    return [[(float(yaw), float(rng.uniform(-20, 20))) for yaw in yaws] for yaws in directions]


def to_uint8(values) -> Tensor:
    """0..1 floats (or uint8 as they are) -> uint8."""
    values = torch.as_tensor(values)
    return values if values.dtype == torch.uint8 else (values.clamp(0, 1) * 255).round().to(torch.uint8)


def bytes_per_person(config: PeopleConfig, texels: int, pictures: bool) -> int:
    """About what one person takes on the disk."""
    images = config.expressions * config.views * config.image_size**2 * 3 if pictures else 0
    return texels * (config.expressions * 6 + 4) + images + 4096
