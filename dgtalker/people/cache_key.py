"""Which folder a cache of synthetic people lies in: one for each configuration, named by a key of all it depends on.

FOLDER/performances.safetensors        expressions of real faces, if any were given    (recorded_expressions.py)
FOLDER/KEY/texels, FOLDER/KEY/views    the people                                      (target_cache.py)
FOLDER/KEY/people.json                 what KEY stands for, to read
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dgtalker.assets import PACKAGE
from dgtalker.errors import UserError
from dgtalker.files import write_atomic
from dgtalker.head.generator import atlas_fingerprint, template_fingerprint
from dgtalker.head.template import HeadTemplate
from dgtalker.people.source import PeopleSource
from dgtalker.people.target_cache import PeopleCache, PeopleConfig

log = logging.getLogger(__name__)

# The code that people and their pictures are made by. It is part of the key, so that people made by earlier code are
# never taken for those of today.
CODE = ("people/*.py", "camera.py", "head/template.py")


def open_people(
    folder: str | Path,
    source: PeopleSource,
    config: PeopleConfig,
    template: HeadTemplate,
    recorded: Tensor | None = None,
) -> PeopleCache:
    """The cache of these people in `folder`, new or begun. Raises UserError if it cannot be written."""
    parts = {
        "settings": asdict(config),
        "code": code_fingerprint(),
        "template": _digest(*(v for v in vars(template).values() if isinstance(v, Tensor))),
        "geometry": template_fingerprint(template),
        "atlas": atlas_fingerprint(template, config.map_size),
        "material": source.fingerprint(),
        "performances": None if recorded is None else _digest(recorded),
    }
    text = json.dumps(parts, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = Path(folder) / key
    try:
        others = [p.parent.name for p in Path(folder).glob("*/people.json")]
        if others and key not in others:
            log.warning("%s holds people of other settings or an earlier version (%s).", folder, ", ".join(others))
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "people.json").is_file():
            write_atomic(path / "people.json", json.dumps(parts, indent=1).encode())
    except OSError as error:
        raise UserError(f"'{path}' cannot be written: {error.strerror or error}.") from error
    return PeopleCache(path, source, config, recorded)


def code_fingerprint() -> str:
    """Hash of the code that makes people, without its comments and docstrings."""
    digest = hashlib.sha256()
    for path in sorted(p for pattern in CODE for p in PACKAGE.glob(pattern)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode())
        digest.update(_without_docstrings(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def _without_docstrings(source: str) -> str:
    tree: Any = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body.pop(0)
    return ast.dump(tree)


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
