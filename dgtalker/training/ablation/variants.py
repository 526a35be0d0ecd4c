"""Variants of navigation, read from a JSON file: what each of them changes in the settings of the method.

    {"seed": 0,
     "base": {"warm_steps": 1500, "image_steps": 1500},
     "variants": {"own_branch": {"says": "each loss reaches its own branch only",
                                 "changes": {"cross_view": {"routing": "own"}}}}}

Settings have the names of NavigationTrainingConfig. Time limits are removed: all variants take the same steps.
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

_OPTIONAL = ("leakage_removal", "anchor")  # null skips the step
_AFTER_TRAINING = (*_OPTIONAL, "regional")  # settings that training does not depend on
_CHOICES = {"bases": BASES, "start": ("separated", "principal"), "routing": ("both", "swapped", "own")}


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    says: str  # description of what it changes
    config: NavigationTrainingConfig

    def training_settings(self) -> dict:
        """The settings that training depends on; variants with the same ones share its result."""
        return {key: value for key, value in asdict(self.config).items() if key not in _AFTER_TRAINING}


def read_variants(path: str | Path, method: NavigationTrainingConfig) -> tuple[int, list[Variant]]:
    """Read seed and variants of a file; `method` are the settings they change. Raises UserError for a bad file."""
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
    # Lips borrowed from the speech backbone and an amplitude set afterwards would hide what training makes of the lips.
    plain = replace(method, borrowed=None, articulation=None, warm_minutes=float("inf"), image_minutes=float("inf"))
    base = apply_changes(plain, raw.get("base", {}), f"{path}, base")
    found = []
    for name, row in raw["variants"].items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise UserError(f"{path}: '{name}' is no name for a variant; use small letters, digits and underscores.")
        if not isinstance(row, Mapping) or not isinstance(row.get("says"), str) or not set(row) <= {"says", "changes"}:
            raise UserError(f'{path}, {name}: it needs a line "says", and may have "changes".')
        found.append(Variant(name, row["says"], apply_changes(base, row.get("changes", {}), f"{path}, {name}")))
    if not found:
        raise UserError(f"{path} has no variants.")
    return int(raw.get("seed", 0)), found


def select_variants(variants: list[Variant], names: list[str]) -> list[Variant]:
    """Select variants by name, in the file's order; no names: all. Raises UserError for an unknown name."""
    unknown = [name for name in names if name not in [v.name for v in variants]]
    if unknown:
        raise UserError(f"There is no variant '{unknown[0]}'; there are {', '.join(v.name for v in variants)}.")
    return [variant for variant in variants if not names or variant.name in names]


def apply_changes(config: Any, changes: Any, where: str) -> Any:
    """Copy a settings dataclass with changed fields, also nested ones. Raises UserError for bad names or values."""
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
            value = apply_changes(current, value, f"{where}, {name}")
        elif not is_dataclass(current) and not _is_same_kind(value, current):
            raise UserError(f"{where}: {name} cannot be {value!r}.")
        values[name] = value
    return replace(config, **values)


def _is_same_kind(value: Any, current: Any) -> bool:
    """Whether a value has the type of the current one, and is not a negative number."""
    if isinstance(current, bool) or isinstance(value, bool):
        return isinstance(current, bool) and isinstance(value, bool)
    if isinstance(current, int | float):
        return isinstance(value, int if isinstance(current, int) else int | float) and value >= 0
    return isinstance(value, type(current))
