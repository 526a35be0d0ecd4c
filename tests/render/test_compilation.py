"""Importing compiles nothing; a package folder and home that cannot be written do not stop rendering."""

import os
import subprocess
import sys
from pathlib import Path

import dgtalker

ROOT = Path(dgtalker.__file__).parents[1]


def python(code: str, root: Path = ROOT, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root), **environment}, cwd=root,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_is_light():
    loaded = python("import sys, dgtalker.render; print([m for m in ('numba', 'gsplat') if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_no_folder_for_the_cache():
    """numba's cache finds no writable place: kernels are compiled without it."""
    code = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from dgtalker.render.parallel import jit
print(jit(lambda x: x + 1)(2))
"""
    assert python(code).strip() == "3"


def test_cache_folder_can_be_chosen(tmp_path):
    code = "from dgtalker.render.parallel import jit\ndef f(x): return x + 1\nprint(jit(f)(2))"
    script = tmp_path / "script.py"
    script.write_text(code)
    python(f"import runpy; runpy.run_path({str(script)!r})", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").rglob("*.nbi"))
