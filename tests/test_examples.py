"""The scripts and the notebook in examples/, each as a process in a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
WRITTEN = {
    "01_speak": ["talking.mp4"],
    "02_edit_curves": ["edited.mp4", "curves.csv"],
    "03_compare_two_heads": ["two_heads.webp"],
    "04_orbit": ["orbit.png", "spiral.mp4"],
    "06_export": ["head.ply", "head.png"],
}


def run_script(script: Path, folder: Path, *arguments: str, **environment: str) -> str:
    """What the script prints; it must end well."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"} | environment
    command = [sys.executable, str(script), *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.fixture(scope="module", autouse=True)
def whisper():
    from dgtalker.audio.whisper_weights import find_whisper
    from dgtalker.errors import UserError

    try:
        find_whisper()
    except UserError as error:
        pytest.skip(str(error))


def test_every_example_is_listed_and_short():
    scripts = sorted(EXAMPLES.glob("*.py"))
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [script.stem for script in scripts] == sorted([*WRITTEN, "05_from_video_to_head"])
    for path in [*scripts, EXAMPLES / "quickstart.ipynb"]:
        assert f"({path.name})" in page
    assert all(8 <= len(script.read_text(encoding="utf-8").splitlines()) <= 30 for script in scripts)


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN)
def test_scripts_write_what_they_say(name, tmp_path):
    assert run_script(EXAMPLES / f"{name}.py", tmp_path)
    assert all((tmp_path / file).stat().st_size > 1000 for file in WRITTEN[name])
    assert len(list(tmp_path.iterdir())) == len(WRITTEN[name])


@pytest.mark.slow
def test_a_video_becomes_a_head(face_landmarker, tmp_path):
    models = str(face_landmarker.parent)
    said = run_script(EXAMPLES / "05_from_video_to_head.py", tmp_path, DGTALKER_MODELS=models)
    assert said.startswith("new_head was made from 101 frames")
    assert (tmp_path / "new_head" / "model.safetensors").is_file() and (tmp_path / "new_head.mp4").is_file()


def test_a_video_without_the_models_is_one_sentence(tmp_path):
    environment = {name: str(tmp_path) for name in ("DGTALKER_SHARED", "DGTALKER_MODELS", "HOME", "HF_HOME")}
    (tmp_path / "film.mp4").write_bytes(b"not looked at")
    said = run_script(EXAMPLES / "05_from_video_to_head.py", tmp_path, "film.mp4", **environment)
    assert said.count("\n") == 1 and "model file face_landmarker.task was not found" in said


def test_the_notebook_is_valid_and_its_cells_run(tmp_path):
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    script = tmp_path / "cells.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells), encoding="utf-8")
    run_script(script, tmp_path)
    assert (tmp_path / "talking.mp4").is_file()
