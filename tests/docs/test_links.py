"""The pages for people: links lead somewhere, the README stays short, and what it says can be done works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """All Markdown files under version control, or without git all but those of environments."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        found = [ROOT / line for line in listed.stdout.splitlines()]
    else:
        found = [p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    return [page for page in found if page.is_file()]


def without_front_matter(text: str) -> str:
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors as GitHub makes them of the headings."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", LINK.sub("", heading).lower()).replace(" ", "-")
        number = 1
        while slug in found:
            slug, number = f"{slug.removesuffix(f'-{number - 1}')}-{number}", number + 1
        found.add(slug)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(ROOT) or not target.exists():
            broken.append(link)
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_every_page_of_docs_is_in_its_table_of_contents():
    contents = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    names = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in names if f"({name})" not in contents} == set()


def test_readme_fits_on_a_screen_or_two():
    body = without_front_matter((ROOT / "README.md").read_text(encoding="utf-8")).strip()
    assert len(body.splitlines()) <= 90


def test_pictures_are_small():
    assert (ROOT / "docs" / "teaser.webp").stat().st_size < 4 << 20
    assert (ROOT / "docs" / "studio.webp").stat().st_size < 300 << 10


@pytest.mark.parametrize("page", [p for p in pages() if p.parent in (ROOT, ROOT / "docs")], ids=lambda p: p.name)
def test_commands_and_their_options_exist(page):
    """Lines of code such as `dgtalker talk actor2 speech.wav -o talking.mp4`."""
    from dgtalker.cli import COMMANDS, build_parser

    text = page.read_text(encoding="utf-8").replace("python -m dgtalker", "dgtalker")
    for line in re.findall(r"(?:^    |`)(?:\S+/)?dgtalker ([a-z][^`\n]*)", text, re.MULTILINE):
        line = line.split("#")[0]
        command, *words = line.split()
        assert command in COMMANDS, line
        subparsers = build_parser(command)._subparsers._group_actions[0].choices
        options = {word for word in words if re.match(r"--[a-z]", word)}
        assert options <= set(subparsers[command]._option_string_actions) | {"--help"}, line


@pytest.mark.parametrize(("name", "number"), [("README.md", 0), ("docs/start.md", 0), ("docs/python-api.md", 1)])
def test_python_of_the_pages_runs(name, number, tmp_path, monkeypatch):
    """On a shipped head and 1.2 seconds of speech; pictures are made small to be quick."""
    import soundfile

    import dgtalker

    code = re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    samples, rate = soundfile.read(ROOT / "examples" / "jfk-ask-not.flac", frames=19200)
    soundfile.write(tmp_path / "speech.wav", samples, rate)
    monkeypatch.chdir(tmp_path)
    exec(compile(code[number].replace("size=512", "size=64"), name, "exec"), {"dg": dgtalker})
    assert (tmp_path / "talking.mp4").stat().st_size > 1000
