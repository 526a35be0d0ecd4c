"""Figures and tables that are made from the code agree with it."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def rooms() -> set[str]:
    """Packages of dgtalker/ and of training/, with a slash, and modules beside them."""
    package = ROOT / "dgtalker"
    folders = {f"{p.parent.name}/" for p in package.glob("*/__init__.py")}
    folders |= {f"training/{p.parent.name}/" for p in package.glob("training/*/__init__.py")}
    return folders | {p.name for p in package.glob("*.py")} - {"__init__.py"}


def test_every_room_has_a_line_on_the_architecture_page():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = page.split("## The rooms")[1].split("\n## ")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`([^`]+)`", line.split("|")[1:2].__str__())}
    assert named == rooms()


def test_files_that_the_architecture_page_names_exist():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## Where do I change")[1]
    names = re.findall(r"`([a-z_]+/[\w/.]*)`", page)
    assert len(names) > 8
    assert [name for name in names if not (ROOT / "dgtalker" / name).exists()] == []
    rows = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## The rooms")[1].split("\n## ")[0]
    for room, first in re.findall(r"^\| `([a-z_/]+/)` .*\| `([\w/.]+)` \|$", rows, re.MULTILINE):
        assert (ROOT / "dgtalker" / room / first).exists(), f"{room}{first}"


def test_architecture_figure_is_up_to_date():
    pytest.importorskip("grimp", reason="import-linter is not installed")
    from docs.make_architecture import draw

    drawn = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    assert draw() == drawn, "imports between rooms have changed: run python -m docs.make_architecture"


def test_performance_chart_is_up_to_date_and_says_what_was_measured():
    from docs.make_performance import SOURCE, TARGET, draw

    record = json.loads(SOURCE.read_text(encoding="utf-8"))
    drawn = TARGET.read_text(encoding="utf-8")
    assert draw(record) == drawn, "run python -m docs.make_performance"
    unmeasured = sum(renderer["ms"][size] is None for renderer in record["renderers"] for size in record["scenes"])
    assert drawn.count("not measured") == unmeasured


@pytest.mark.parametrize("script", sorted(DOCS.glob("make_*.py")), ids=lambda script: script.stem)
def test_what_the_scripts_import_exists(script):
    """Scripts that take minutes are not run here, but a renamed function is found."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dgtalker"):
            module = importlib.import_module(node.module)
            for name in node.names:  # a thing of the module, or a module of the package
                assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")
