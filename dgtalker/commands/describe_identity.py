"""describe-identity IDENTITY"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import Progress, print_json

EXAMPLE = "dgtalker describe-identity heads/anna"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("identity", help="shipped name or folder; it is rewritten in place")
    parser.add_argument("--data", help="data set that it was trained on, for units and ranges; else example voices")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from dgtalker.coefficients.describe import describe_identity_folder
    from dgtalker.errors import UserError
    from dgtalker.identity import KIND, list_identities
    from dgtalker.pretrained import find_checkpoint

    if args.identity not in list_identities() and not Path(args.identity).is_dir():
        raise UserError(f"There is no identity folder '{args.identity}': only one on this machine can be rewritten.")
    with Progress("describe-identity") as progress:
        identity = describe_identity_folder(
            find_checkpoint(args.identity, KIND),
            progress=lambda fraction, message: progress(fraction, 1.0, message),
            dataset=args.data,
        )
    if args.json:
        print_json(identity.config["coefficients"])
        return
    labels = identity.labels
    print(f"{identity.folder}: range over the {identity.config['coefficients']['range_from']}")
    for name, row in identity.descriptions.items():
        purity = "  -" if row["purity"] is None else f"{row['purity']:.2f}"
        print(f"{labels[name]:50} match {row['match']:.2f}  purity {purity}  {row['low']:+.1f} .. {row['high']:+.1f}")
