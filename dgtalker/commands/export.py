"""export IDENTITY -o HEAD.ply"""

import argparse

from dgtalker.commands import options
from dgtalker.files import check_output_file

EXAMPLE = "dgtalker export actor2 -o head.ply"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_identity(parser)
    parser.add_argument("-o", "--output", required=True, metavar="HEAD.ply")
    options.add_set(parser)


def run(args: argparse.Namespace) -> None:
    output = check_output_file(args.output, (".ply",))
    from dgtalker.api import load

    head = load(args.identity, args.revision)
    head.export(output, **options.read_set(args, head.identity))
