"""Variants of navigation, read from a file: what each of them changes in the settings of the method.

    {"seed": 0,
     "base": {"warm_steps": 1500, "image_steps": 1500},
     "variants": {"own_branch": {"says": "each loss reaches its own branch only",
                                 "changes": {"cross_view": {"routing": "own"}}}}}

Names of settings are those of NavigationTrainingConfig. Time boxes are left out: variants take the same steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError
from dgtalker.navigation.blendshapes import BASES
from dgtalker.training.identity.navigation_config import NavigationTrainingConfig

_OPTIONAL = ("leakage_removal", "anchor")  # null leaves the step out
_AFTERWARDS = (*_OPTIONAL, "regional")  # settings of what follows training
_CHOICES = {"bases": BASES, "start": ("separated", "principal"), "routing": ("both", "swapped", "own")}


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    says: str  # what it changes, for people
    config: NavigationTrainingConfig

    def training(self) -> dict:
        """The settings that training itself depends on: variants that share them share its result."""
        return {key: value for key, value in asdict(self.config).items() if key not in _AFTERWARDS}


def read_variants(path: str | Path, method: NavigationTrainingConfig) -> tuple[int, list[Variant]]:
    """Seed and variants of a file; `method` is what they change. Raises UserError if the file is not as above."""
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The variants {path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise UserError(f"The variants {path} are not JSON ({error}).") from error
    known = {"about", "seed", "base", "variants"}
    if not isinstance(raw, Mapping) or not isinstance(raw.get("variants"), Mapping) or not set(raw) <= known:
        raise UserError(f'{path} must have "variants", and may have "seed", "base" and "about", nothing else.')
    endless = replace(method, warm_minutes=float("inf"), image_minutes=float("inf"))
    base = change(endless, raw.get("base", {}), f"{path}, base")
    found = []
    for name, row in raw["variants"].items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise UserError(f"{path}: '{name}' is no name for a variant; use small letters, digits and underscores.")
        if not isinstance(row, Mapping) or not isinstance(row.get("says"), str) or not set(row) <= {"says", "changes"}:
            raise UserError(f'{path}, {name}: it needs a line "says", and may have "changes".')
        found.append(Variant(name, row["says"], change(base, row.get("changes", {}), f"{path}, {name}")))
    if not found:
        raise UserError(f"{path} has no variants.")
    return int(raw.get("seed", 0)), found


def choose(variants: list[Variant], names: list[str]) -> list[Variant]:
    """Those of `names`, in the file's order; all without names. Raises UserError for a name that is not among them."""
    unknown = [name for name in names if name not in [v.name for v in variants]]
    if unknown:
        raise UserError(f"There is no variant '{unknown[0]}'; there are {', '.join(v.name for v in variants)}.")
    return [variant for variant in variants if not names or variant.name in names]


def change(config: Any, changes: Any, where: str) -> Any:
    """A settings dataclass with some fields changed, those of settings inside it too. UserError names what is wrong."""
    if not isinstance(changes, Mapping):
        raise UserError(f"{where}: {changes!r} should be settings by name.")
    values = {}
    for name, value in changes.items():
        if name not in [f.name for f in fields(config)]:
            raise UserError(f"{where}: there is no setting '{name}'.")
        current = getattr(config, name)
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UserError(f"{where}: {name} is one of {', '.join(_CHOICES[name])}, not {value!r}.")
        if is_dataclass(current) and not (value is None and name in _OPTIONAL):
            value = change(current, value, f"{where}, {name}")
        elif not is_dataclass(current) and not _alike(value, current):
            raise UserError(f"{where}: {name} cannot be {value!r}.")
        values[name] = value
    return replace(config, **values)


def _alike(value: Any, current: Any) -> bool:
    """Whether a value is of the kind that is there, and no negative number."""
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, int | float):
        return isinstance(value, int if isinstance(current, int) else int | float) and value >= 0
    return isinstance(value, type(current))
