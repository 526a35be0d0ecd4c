"""Starts the studio."""

import argparse
import os
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description="Open the DGTalker studio in the browser.")
    port = os.environ.get("PORT", "")
    parser.add_argument("--host", help="address to listen on; default: $GRADIO_SERVER_NAME or 127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=int(port) if port.isdigit() else None,
        help="default: $PORT, $GRADIO_SERVER_PORT, or the first free one from 7860",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open a browser window")
    args = parser.parse_args()
    from dgtalker.errors import UserError
    from dgtalker.studio import launch

    try:
        launch(args.host, args.port, inbrowser=args.open)
    except (UserError, OSError) as error:  # no Gradio; the port is taken
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
