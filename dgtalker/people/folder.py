"""Where synthetic people are kept: one folder for many configurations, each under a key of all it depends on.

FOLDER/performances.safetensors        expressions of real faces, if any were given    (recorded_expressions.py)
FOLDER/KEY/texels, FOLDER/KEY/views    the people                                      (cache.py)
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

import dgtalker
from dgtalker.errors import UserError
from dgtalker.files import write_atomic
from dgtalker.head.generator import atlas_fingerprint, template_fingerprint
from dgtalker.head.template import HeadTemplate
from dgtalker.people.cache import PeopleCache, PeopleConfig, PeopleSource

log = logging.getLogger(__name__)

# Everything that people and their pictures are made by. Its text is part of the key, so that people made by earlier
# code are never taken for those of the present one, whoever forgets to count a version up.
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
    package = Path(dgtalker.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for pattern in CODE for p in package.glob(pattern)):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(_bare(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def _bare(source: str) -> str:
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
