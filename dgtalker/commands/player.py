"""player IDENTITY AUDIO -o TALK.html [--session S.json]"""

import argparse
from dataclasses import replace

from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.errors import UserError
from dgtalker.files import check_input_file, check_output_file

EXAMPLE = "dgtalker player actor2 speech.wav -o talk.html"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_identity(parser)
    parser.add_argument("audio", help="speech in any common format, rate and length")
    parser.add_argument("-o", "--output", required=True, metavar="TALK.html")
    parser.add_argument("--camera", choices=["front", "spiral"], help="default: the session's, else front")
    parser.add_argument("--session", metavar="S.json", help="curves, edits and camera of a session made with AUDIO")
    options.add_set(parser)


def run(args: argparse.Namespace) -> None:
    audio = check_input_file(args.audio, "audio file")
    output = check_output_file(args.output, (".html", ".htm"))
    path = args.session and check_input_file(args.session, "session")
    from dgtalker.api import load
    from dgtalker.performance.curves import parse_edits
    from dgtalker.performance.session import Session
    from dgtalker.talk import listen
    from dgtalker.web.player import write_player

    edits = parse_edits(args.settings)
    identity = load(args.identity, args.revision).identity
    session = Session.load(path) if path else Session(identity.name)
    session = replace(session, edits=session.edits | edits)
    session.check_identity(identity)
    if session.audio is not None:
        session.audio.check(audio)
    if session.curves is None:
        if session.expression_audio is not None:
            raise UserError(
                "The session takes its expression from another sound and holds no curves: make it with talk first."
            )
        with Progress("player") as progress:
            session = replace(session, curves=listen(identity, audio, session.expression, progress=progress))
    write_player(identity, session.performance(identity), output, args.camera or session.camera.choice, audio)
