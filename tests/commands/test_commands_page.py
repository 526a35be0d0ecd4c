"""docs/commands.md is what the parsers say."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "make_commands.py"


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_commands", SCRIPT)
    make_commands = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_commands)
    page = make_commands.PAGE.read_text(encoding="utf-8")
    assert page == make_commands.write_page(), "run: python -m docs.make_commands"
