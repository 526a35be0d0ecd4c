"""talk IDENTITY AUDIO -o OUT.mp4, or talk --session S.json [AUDIO] -o OUT.mp4"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.errors import UserError
from dgtalker.files import check_input_file, check_output_file

DEFAULT_SIZE, DEFAULT_CAMERA = 256, "front"

EXAMPLE = "dgtalker talk actor2 speech.wav -o talking.mp4 --camera spiral --set lip2=1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("identity", nargs="?", help="shipped name, folder or hub repository; may be left to --session")
    parser.add_argument("audio", nargs="?", help="speech in any common format, rate and length")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.mp4")
    parser.add_argument("--size", type=options.size, help=f"pixels, default {DEFAULT_SIZE}")
    parser.add_argument("--camera", choices=["front", "spiral"], help=f"default {DEFAULT_CAMERA}")
    parser.add_argument("--save-coefficients", metavar="C.csv", help="write the coefficient curves")
    parser.add_argument("--revision", help="of a hub repository")
    options.add_set(parser)
    upper = parser.add_argument_group("upper face; none of these changes the lips")
    upper.add_argument(
        "--blinks",
        metavar="TIMES",
        help="seconds at which the eyes shut, '1.2,3.4,5', or a .csv of them, or none; default: as people blink",
    )
    upper.add_argument("--blink-rate", type=options.number, metavar="N", help="blinks a minute, 0 to 60, default 18")
    upper.add_argument(
        "--expression-audio", "--expression-from", metavar="AUDIO2", help="take the expression from another recording"
    )
    upper.add_argument(
        "--variant", type=int, metavar="N", help="another natural movement for the same speech; default 0"
    )
    upper.add_argument("--seed", type=int, metavar="N", help="of blinks and variant, default 0")
    session = parser.add_argument_group("sessions")
    session.add_argument("--save-session", metavar="S.json", help="write everything that the video was made from")
    session.add_argument("--session", metavar="S.json", help="make the same frames again; silent without AUDIO")


def run(args: argparse.Namespace) -> None:
    session = _read_session(args)
    if args.audio is None and session is None:
        what = "IDENTITY and AUDIO" if args.identity is None else "AUDIO"
        raise UserError(f"{what} must be given. See dgtalker talk --help.")
    audio = args.audio and check_input_file(args.audio, "audio file")
    expression = args.expression_audio and check_input_file(args.expression_audio, "audio file")
    output = check_output_file(args.output, (".mp4",))
    table = args.save_coefficients and check_output_file(args.save_coefficients, (".csv",))
    saved = args.save_session and check_output_file(args.save_session, (".json",))
    from dgtalker.api import load
    from dgtalker.performance.curves import parse_edits
    from dgtalker.talk import TalkOptions, talk, talk_session

    edits = parse_edits(args.settings)
    if session is None:
        identity = load(args.identity, args.revision).identity
        shown = TalkOptions(
            args.size or DEFAULT_SIZE, args.camera or DEFAULT_CAMERA, edits, _expression(args), expression or None
        )
        with Progress("talk") as progress:
            result = talk(identity, audio, output, shown, save_coefficients=table or None, progress=progress)
    else:
        session = replace(session, size=args.size or session.size, edits=session.edits | edits)
        if args.camera:
            session = replace(session, camera=replace(session.camera, path=args.camera))
        identity = _identity_of(session, args)
        with Progress("talk") as progress:
            result = talk_session(
                session,
                identity,
                audio or None,
                output,
                expression_from=expression or None,
                save_coefficients=table or None,
                progress=progress,
            )
        if not audio:
            print(f"The video is silent: give the sound{_named(session)} after --session to hear it.", file=sys.stderr)
    if saved and result and result.session:
        result.session.save(saved)


def _expression(args: argparse.Namespace):
    """The options of the upper face."""
    from dgtalker.performance.blinks import RATE, parse_schedule
    from dgtalker.performance.expression import ExpressionSettings

    rate = RATE if args.blink_rate is None else args.blink_rate
    return ExpressionSettings(parse_schedule(args.blinks, files=True), rate, args.seed or 0, args.variant or 0)


def _read_session(args: argparse.Namespace):
    """The session of --session, or None; sorts out which positional argument is which."""
    if args.session is None:
        return None
    if args.audio is None and args.identity is not None:
        only = Path(args.identity)
        if only.is_file() or (only.suffix[1:].isalpha() and not only.is_dir()):  # a name with an ending is no identity
            args.identity, args.audio = None, args.identity
    from dgtalker.performance.session import Session

    session = Session.load(check_input_file(args.session, "session"))
    given = [o for o in ("blinks", "blink_rate", "variant", "seed") if getattr(args, o) is not None]
    if session.curves is not None and args.expression_audio is not None:
        given.append("expression_audio")
    if given:
        raise UserError(f"--{given[0].replace('_', '-')} cannot be changed: the session already says it.")
    return session


def _identity_of(session, args: argparse.Namespace):
    """The identity named on the command line, else the shipped one of the session's name."""
    from dgtalker.api import heads, load

    if args.identity is None and session.identity not in heads():  # a file may not choose what is downloaded
        raise UserError(
            f"The session's identity '{session.identity[:60]}' is not installed: name its folder or repository, too."
        )
    return load(args.identity or session.identity, args.revision).identity


def _named(session) -> str:
    return f" '{session.audio.name}'" if session.audio else ""
