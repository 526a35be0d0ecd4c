"""Who makes the people that the prior is trained on: a protocol, and the real maker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dgtalker.camera import Camera
from dgtalker.errors import UserError
from dgtalker.head.template import HeadTemplate


class PeopleSource(Protocol):
    """What the cache needs from a maker of people; `SyntheticPeople` is the real one."""

    @property
    def expression_names(self) -> Sequence[str]:
        """Names of the 52 scores."""
        ...

    def fingerprint(self) -> Any:
        """JSON-able; changes with the assets that people are made of."""
        ...

    def sample(self, rng: np.random.Generator) -> Any:
        """One random person."""
        ...

    def factors(self, person: Any) -> np.ndarray:
        """[Zp] about N(0,1)."""
        ...

    def choices(self, person: Any) -> Sequence[tuple[int, int, float]]:
        """Ranges of the factors that choose one of several, see `GeneratorConfig.z_choices`; the same for everyone."""
        ...

    def shape(self, person: Any) -> np.ndarray:
        """[Ks] template coefficients of the neutral head."""
        ...

    def texels(self, person: Any, expression: np.ndarray) -> dict:
        """UV targets of an expression [52]: positions [T,3], color [T,3], opacity [T]."""
        ...

    def capture(self, person: Any, expressions: np.ndarray, cameras: Camera) -> np.ndarray:
        """Pictures uint8 [n,H,W,3] of n expressions [n,52] through n cameras."""
        ...


class SyntheticPeople:
    """People of `dgtalker.people` over a MakeHuman asset folder, seen through the template's atlas.

    The assets are loaded when the first person is made: it takes about 12 seconds and 1 GB, which a process that only
    reads the cache, or has others make it, does without.
    """

    def __init__(self, makehuman: str | Path, map_size: int, template: HeadTemplate | None = None):
        self.makehuman, self.map_size, self._template = Path(makehuman), map_size, template
        if not self.makehuman.is_dir():
            raise UserError(f"There is no folder {self.makehuman} with MakeHuman's skins, hair and eyes.")

    def __reduce__(self) -> tuple:  # to worker processes goes how to make it, not the loaded assets
        return SyntheticPeople, (self.makehuman, self.map_size, self._template)

    @cached_property
    def template(self) -> HeadTemplate:
        """The head the people are made on."""
        return self._template or HeadTemplate.load()

    @cached_property
    def _assets(self):
        from dgtalker.people import PersonAssets

        return PersonAssets(self.makehuman, self.template)

    @cached_property
    def _atlas(self):
        return self.template.atlas(self.map_size)

    @property
    def expression_names(self) -> list[str]:
        """Names of the 52 scores."""
        return list(self.template.expression_names)

    def fingerprint(self) -> list:
        """Names and sizes of the asset files."""
        files = (p for p in self.makehuman.rglob("*") if p.is_file())
        return sorted([p.relative_to(self.makehuman).as_posix(), p.stat().st_size] for p in files)

    def sample(self, rng: np.random.Generator):
        """One random person."""
        from dgtalker.people import sample_person

        return sample_person(rng, self._assets)

    def factors(self, person) -> np.ndarray:
        """[Zp] about N(0,1)."""
        return person.factors()

    def choices(self, person) -> list[tuple[int, int, float]]:
        """Ranges of the factors that choose one of several things, the same for everyone."""
        return person.factor_choices()

    def shape(self, person) -> np.ndarray:
        """[Ks] template coefficients of the neutral head."""
        return person.shape_coefficients

    def texels(self, person, expression: np.ndarray) -> dict[str, np.ndarray]:
        """UV targets: positions [T,3], color [T,3], opacity [T] in the atlas."""
        from dgtalker.people import compute_person_texels

        return compute_person_texels(person, expression, self._atlas)

    def capture(self, person, expressions: np.ndarray, cameras: Camera) -> np.ndarray:
        """Mesh renders on white, one of `expressions` per camera."""
        from dgtalker.people import capture

        return capture(person, expressions, cameras)
