"""Writes docs/commands.md from the parsers of the command line.

python -m docs.make_commands
"""

import argparse
import inspect
from pathlib import Path

from dgtalker import cli

PAGE = Path(__file__).with_name("commands.md")
HEADER = """# Commands

Written by `python -m docs.make_commands`; `dgtalker COMMAND --help` says the same.

A head, prior or backbone is named by its shipped name, its folder or a hub repository. Bad input is one sentence on
stderr and exit code 2; 1 is a failure of the program, 130 Ctrl-C. `DGTALKER_DEBUG=1` adds the traceback. Trainings
that were stopped say how they go on.
"""


def write_page() -> str:
    """The page's text."""
    (subparsers,) = (a for a in cli.build_parser(cli.ALL)._actions if isinstance(a, argparse._SubParsersAction))
    contents = [f"* [`{name}`](#{name}): {summary}" for name, summary in cli.COMMANDS.items()]
    sections = [section(name, parser) for name, parser in subparsers.choices.items()]
    return "\n".join([HEADER, *contents, "", "\n".join(sections)])


def section(name: str, parser: argparse.ArgumentParser) -> str:
    """One command: what it does, an example, its options."""
    example = str(parser.epilog).removeprefix("Example: ")
    rows = [
        f"| {cell(spelling(action))} | {cell(explanation(action))} |"
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    table = ["| option | meaning |", "|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {name}", "", str(parser.description), "", f"    {example}", "", *table])


def spelling(action: argparse.Action) -> str:
    """`-o OUT.mp4, --output` or `IDENTITY`."""
    value = action.metavar or (action.dest.upper() if not action.choices else "|".join(map(str, action.choices)))
    if action.nargs == 0:
        value = ""
    elif action.nargs == "+":
        value = f"{value} ..."
    elif action.nargs == "?":
        value = f"[{value}]"
    words = " ".join(filter(None, [", ".join(action.option_strings), str(value)]))
    return f"`{words}`"


def explanation(action: argparse.Action) -> str:
    """The help, and the default where the help does not name it."""
    parts = [inspect.cleandoc(action.help or "")]
    if action.required and action.option_strings:
        parts.append("required")
    shown = isinstance(action.default, str | int | float) and not isinstance(action.default, bool)
    if shown and action.default != "" and "default" not in parts[0]:
        parts.append(f"default {action.default}")
    return "; ".join(filter(None, parts))


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
