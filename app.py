"""Starts the studio."""

import argparse
import os


def main() -> None:
    parser = argparse.ArgumentParser(description="Open the DGTalker studio in the browser.")
    parser.add_argument("--host", default=os.environ.get("HOST", os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "0")) or None, help="default: 7860 or the next free one")
    parser.add_argument("--open", action="store_true", help="open a browser window")
    args = parser.parse_args()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from dgtalker.studio.layout import launch

    launch(args.host, args.port, inbrowser=args.open)


if __name__ == "__main__":
    main()
