"""ablate VARIANTS.json --work NAME.work --dataset TRAIN --test TEST -o DIR"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.files import check_output_folder

EXAMPLE = (
    "dgtalker ablate docs/ablation.json --work heads/anna.work --dataset data/anna --test data/anna-test -o ablation"
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("variants", metavar="VARIANTS.json", help="what each variant changes, see docs/ablation.json")
    parser.add_argument("--work", required=True, metavar="DIR", help="NAME.work, left by create-identity beside NAME")
    parser.add_argument("--dataset", required=True, metavar="DIR", help="the data set that identity was made from")
    parser.add_argument("--test", required=True, metavar="DIR", help="data set of held-out clips")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="NAME/ of each variant, table.json and .md"
    )
    parser.add_argument("--variants", dest="only", metavar="A,B", default="", help="run these alone; default: all")
    parser.add_argument("--prior", metavar="NAME", help="that the identity was made from; default: the shipped one")
    parser.add_argument(
        "--backbone", "--trunk", metavar="NAME", help="speech backbone to start from, as in create-identity"
    )
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu", help="settings that the variants change")
    parser.add_argument("--clips", type=int, default=20, help="at most so many held-out clips, default 20")
    options.add_face_landmarker(parser)


def run(args: argparse.Namespace) -> None:
    output = check_output_folder(args.output)
    from pathlib import Path

    from dgtalker.training.ablation.run import AblationConfig, ablate
    from dgtalker.training.ablation.table import format_markdown

    config = AblationConfig(
        variants=Path(args.variants),
        work=Path(args.work),
        prior=args.prior,
        backbone=args.backbone,
        only=tuple(name for name in args.only.split(",") if name),
        preset=args.preset,
        clips=args.clips,
        face_landmarker=args.face_landmarker,
    )
    with Progress("ablate") as progress:
        table = ablate(args.dataset, args.test, output, config, progress=progress)
    print(format_markdown(table))
