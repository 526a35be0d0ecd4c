"""render IDENTITY -o OUT.png"""

import argparse

from dgtalker.commands import options
from dgtalker.files import check_output_file

EXAMPLE = "dgtalker render actor2 -o head.png --yaw 20 --set lip1=2 blink=1"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_identity(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT.png")
    parser.add_argument("--size", type=options.size, default=256, help="pixels, default 256")
    parser.add_argument("--yaw", type=options.number, default=0.0, help="degrees; > 0: from the head's left")
    parser.add_argument("--pitch", type=options.number, default=0.0, help="degrees; > 0 raises the camera")
    parser.add_argument("--zoom", type=options.number, default=1.0)
    options.add_set(parser)


def run(args: argparse.Namespace) -> None:
    output = check_output_file(args.output, (".png", ".jpg", ".jpeg", ".webp"))
    from PIL import Image

    from dgtalker.api import load

    head = load(args.identity, args.revision)
    settings = options.read_set(args, head.identity)
    image = head.frame(yaw=args.yaw, pitch=args.pitch, zoom=args.zoom, size=args.size, **settings)
    Image.fromarray(image).save(output)
