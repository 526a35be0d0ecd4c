"""Options that several commands have, and the types of their values."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from dgtalker.errors import UserError

if TYPE_CHECKING:
    from dgtalker.identity import Identity


def size(text: str) -> int:
    """Argparse type: a picture size in pixels."""
    from dgtalker.performance.session import check_size

    try:
        return check_size(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number of pixels, not {text}") from error
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def number(text: str) -> float:
    """Argparse type: a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text}")
    return value


def check_minutes(value: float) -> float:
    """Raises UserError unless `value` is above zero."""
    if value <= 0:
        raise UserError(f"--max-minutes must be above zero, not {value:g}.")
    return value


def add_identity(parser: argparse.ArgumentParser) -> None:
    """IDENTITY and --revision."""
    parser.add_argument("identity", help="shipped name, folder or hub repository")
    parser.add_argument("--revision", help="of a hub repository")


def add_set(parser: argparse.ArgumentParser) -> None:
    """--set, whose values `read_set` reads."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set coefficients, in training standard deviations: lip3=1.5 exp1=-1; blink and face controls, such as "
        "smile, run from 0 to 1",
    )


def read_set(args: argparse.Namespace, identity: Identity) -> dict[str, float]:
    """The values of --set. Raises UserError for what `identity` has no coefficient or face control for."""
    from dgtalker.performance.curves import parse_edits

    settings = parse_edits(args.settings)
    identity.check_settings(settings)
    return settings


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_face_landmarker(parser: argparse.ArgumentParser) -> None:
    """--face-landmarker."""
    parser.add_argument("--face-landmarker", metavar="FILE", help="MediaPipe face_landmarker.task")


def add_makehuman(parser: argparse.ArgumentParser) -> None:
    """--makehuman."""
    parser.add_argument(
        "--makehuman",
        metavar="DIR",
        help="MakeHuman's skins, hair, eyes, teeth ... (CC0); default: $DGTALKER_SHARED/data/makehuman",
    )
