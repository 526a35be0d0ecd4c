"""The command line. Each command lives in dgtalker/commands/NAME.py as `configure(parser)` and `run(args)`.

Exit codes: 0 done, 1 a failure of ours, 2 bad input, 130 stopped by Ctrl-C. Errors are one sentence on stderr;
DGTALKER_DEBUG=1 adds the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from dgtalker import __version__
from dgtalker.errors import UserError

COMMANDS = {  # command -> its line in --help
    "studio": "open the app in the browser",
    "doctor": "what this machine has and lacks",
    "talk": "speech to a talking-head video",
    "player": "speech to a page with a head that talks and can be turned and moved",
    "render": "one picture of an identity",
    "export": "the splats of an identity as .ply",
    "preprocess": "video of one person to a data set",
    "create-identity": "a data set to an identity",
    "describe-identity": "turn, order, name and picture an identity's coefficients",
    "synthesize-people": "synthetic people to train the prior on",
    "train-prior": "train the prior on synthetic people",
    "train-speech": "train the speech backbone that lip encoders start from",
    "synthesize-performance": "a talking video of a synthetic person",
    "evaluate": "measure an identity on held-out clips",
    "ablate": "train variants of an identity's navigation and compare them",
    "evaluate-prior": "measure a prior on held-out synthetic people",
    "evaluate-speech": "measure a speech backbone on held-out films",
    "bench": "measure the speed of this machine",
}
ALL = "*"
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """argparse, with its complaints as one sentence and without the usage block."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and exit with code 2."""
        self.exit(2, f"error: {message[:1].upper()}{message[1:].rstrip('.')}. See {self.prog} --help.\n")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole parser; only the options of `command`, or ALL, are filled in, so that nothing else need be imported."""
    parser = Parser(prog="dgtalker", description="Audio-driven 3D Gaussian talking heads.")
    parser.add_argument("--version", action="version", version=f"dgtalker {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=f"{summary[:1].upper()}{summary[1:]}.")
        if command in (name, ALL):
            module = _module(name)
            module.configure(subparser)
            subparser.epilog = f"Example: {module.EXAMPLE}"
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"dgtalker.commands.{command.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse `argv` (default: the process's), run the command, return the exit code."""
    argv = _expand_set_options(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if word in COMMANDS), None)
    try:
        args = build_parser(command).parse_args(argv)
        return _module(args.command).run(args) or 0
    except KeyboardInterrupt as stop:  # trainings say how to go on
        print(str(stop) or "Stopped.", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        return _fail(error, str(error), code=2)
    except Exception as error:
        sentence = f"{type(error).__name__}: {_one_line(error)}".rstrip(": ")
        return _fail(error, f"dgtalker failed: {sentence} (DGTALKER_DEBUG=1 shows where).", code=1)


def _expand_set_options(argv: Sequence[str]) -> list[str]:
    """`--set a=1 b=2 IDENTITY` as `--set=a=1 --set=b=2 IDENTITY`: argparse alone would take IDENTITY for a setting."""
    words, more = [], False  # more: the last setting may be followed by another
    for word in argv:
        if words and words[-1] == "--set":
            words[-1] += f"={word}"
            more = True
        elif more and "=" in word and not word.startswith("-"):
            words.append(f"--set={word}")
        else:
            words.append(word)
            more = False
    return words


def _fail(error: Exception, sentence: str, code: int) -> int:
    if os.environ.get("DGTALKER_DEBUG") == "1":
        traceback.print_exception(error)
    print(f"error: {sentence}", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
