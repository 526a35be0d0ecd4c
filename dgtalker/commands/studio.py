"""studio [--host ADDRESS] [--port PORT] [--open]"""

import argparse
import os

from dgtalker.errors import UserError

EXAMPLE = "dgtalker studio --open"


def configure(parser: argparse.ArgumentParser) -> None:
    port = os.environ.get("PORT", "")
    parser.add_argument("--host", help="address to listen on; default: $GRADIO_SERVER_NAME or 127.0.0.1")
    parser.add_argument(
        "--port",
        type=int,
        default=int(port) if port.isdigit() else None,
        help="default: $PORT, $GRADIO_SERVER_PORT, or the first free one from 7860",
    )
    parser.add_argument("--open", action="store_true", help="open a browser window")


def run(args: argparse.Namespace) -> int:
    from dgtalker.studio import launch

    try:
        launch(args.host, args.port, inbrowser=args.open)
    except OSError as error:  # the port is taken
        raise UserError(f"The studio cannot be served: {' '.join(str(error).split())}") from error
    return 0
