"""The built wheel: what it holds, and that it works in a fresh environment, in another folder, without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 60 * 2**20  # bytes
HEADS = ["actor2", "grid-s1"]
REQUIREMENTS = {  # extra of pyproject.toml -> the file that pins it
    "": "requirements.txt",
    "training": "requirements-training.txt",
    "cuda": "requirements-cuda.txt",
    "tests": "requirements-test.txt",
    "dev": "requirements-lint.txt",
}


def test_requirements_files_pin_what_the_package_declares():
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, file in REQUIREMENTS.items():
        declared = project["optional-dependencies"][extra] if extra else project["dependencies"]
        ranges = {r.name: r.specifier for r in map(requirements.Requirement, declared) if r.name != "dgtalker"}
        lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
        pins = {r.name: r.specifier for r in (requirements.Requirement(line) for line in lines if line)}
        assert set(pins) == set(ranges), file
        for name, pin in pins.items():
            for version in (s.version for s in pin if s.operator == "=="):
                assert version in ranges[name], f"{file} pins {name} {version}, pyproject.toml wants {ranges[name]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run([sys.executable, *build], check=True, cwd=folder)
    return next(folder.glob("dgtalker-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` folder of a new environment with the wheel; the packages it needs are those that run this test."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    install = ["-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run([sys.executable, *install], check=True, cwd=folder)
    site_packages = next(folder.glob("lib*/python*/site-packages"))
    (site_packages / "others.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    return folder / "bin"


def run(command: list, folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DGTALKER_"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_wheel_is_small_and_holds_the_package_alone(wheel):
    assert wheel.stat().st_size < LIMIT
    names = [n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n]
    assert all(n.startswith("dgtalker/") for n in names)
    assert not [n for n in names if "test" in Path(n).name or "__pycache__" in n or Path(n).name.startswith(".")]
    data = [n.split("/", 2)[2] for n in names if n.startswith("dgtalker/checkpoints/")]
    folders = {n.rsplit("/", 1)[0] for n in data if n.endswith("model.safetensors")}
    assert folders == {*(f"identities/{head}" for head in HEADS), "priors/fast", "speech/articulation"}
    assert {n for n in names if n.endswith(".flac")} == {
        f"dgtalker/examples/{f.name}" for f in ROOT.glob("examples/*.flac")
    }
    files = (path for path in ROOT.glob("dgtalker/**/*") if path.is_file() and "__pycache__" not in path.parts)
    assert {path.relative_to(ROOT).as_posix() for path in files} <= set(names)  # with the page's styles and scripts


@pytest.mark.slow
def test_installed_wheel_makes_a_video_in_another_folder(installed, tmp_path):
    program = "import dgtalker, pathlib; print(pathlib.Path(dgtalker.__file__).parent)"
    package = Path(run([installed / "python", "-c", program], tmp_path).strip())
    assert package.is_relative_to(installed.parent)
    report = json.loads(run([installed / "dgtalker", "doctor", "--json"], tmp_path))
    assert report["ok"] and report["identities"] == HEADS and report["priors"] == ["fast"]
    sound = package / "examples" / "ljspeech-printing.flac"
    run([installed / "dgtalker", "talk", "actor2", sound, "-o", "talking.mp4", "--size", "128"], tmp_path)
    assert (tmp_path / "talking.mp4").stat().st_size > 10_000


@pytest.mark.slow
def test_installed_wheel_has_the_python_api(installed, tmp_path):
    program = """
import dgtalker as dg, pathlib
head = dg.load("grid-s1")
sound = pathlib.Path(dg.__file__).parent / "examples" / "ljspeech-printing.flac"
head.render(head.listen(sound), "talking.mp4", size=64)
"""
    run([installed / "python", "-c", program], tmp_path)
    assert (tmp_path / "talking.mp4").stat().st_size > 5_000
