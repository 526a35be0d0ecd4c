"""train-prior -o DIR

On several processes or GPUs: torchrun --nproc-per-node N -m dgtalker train-prior -o DIR --view-batch N
"""

import argparse
import math
from pathlib import Path

from dgtalker.assets import find_asset
from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.files import check_output_folder

TIME_BOXES = ("people_minutes", "uv_minutes", "view_minutes")

EXAMPLE = "dgtalker train-prior -o heads/prior --people data/people"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument("--people", metavar="FOLDER", help="of synthesize-people; who is missing is made")
    options.add_makehuman(parser)
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument(
        "--size",
        choices=["fast", "full"],
        help="of the generator: a 128² or 256² map; default fast on a CPU, full on a GPU",
    )
    parser.add_argument("--max-minutes", type=options.number, help="shorten or lengthen every stage to fit")
    parser.add_argument("--uv-steps", type=int, metavar="N", help="steps of the first stage, whatever time they take")
    parser.add_argument("--view-steps", type=int, metavar="N", help="steps of the second stage, likewise")
    parser.add_argument(
        "--view-batch",
        type=int,
        metavar="N",
        help="people per step of the second stage, all processes together; default one, or 8 on a GPU, and at least "
        "one a process",
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="of the convolutions; auto takes the faster one on a GPU and float32 on a CPU",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on where the last run in DIR stopped")


def run(args: argparse.Namespace) -> None:
    output = check_output_folder(args.output)
    from dgtalker.errors import UserError
    from dgtalker.training.prior.distributed import split_cores, world_size

    split_cores()  # before numba is imported
    from dgtalker.training.prior.config import PriorConfig
    from dgtalker.training.prior.train import train_prior

    makehuman = Path(args.makehuman) if args.makehuman else find_asset("data", "makehuman")
    changes = {"resume": args.resume, "seed": args.seed, "makehuman": makehuman, "precision": args.precision}
    if args.people:
        changes["people_folder"] = check_output_folder(args.people)
    config = PriorConfig.preset(args.preset, output, args.size, **changes)
    if args.max_minutes is not None:
        factor = options.check_minutes(args.max_minutes) / sum(getattr(config, name) for name in TIME_BOXES)
        changes |= {name: factor * getattr(config, name) for name in TIME_BOXES}
    for name in ("uv_steps", "view_steps", "view_batch"):
        if (value := getattr(args, name)) is not None:
            if value < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
            changes[name] = value
    changes["view_batch"] = max(changes.get("view_batch", config.view_batch), world_size())
    if args.uv_steps is not None:
        changes["uv_minutes"] = math.inf
    if args.view_steps is not None:
        changes["view_minutes"] = math.inf
    with Progress("train-prior") as progress:
        train_prior(PriorConfig.preset(args.preset, output, args.size, **changes), progress=progress)
