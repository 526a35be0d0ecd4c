"""train-prior -o DIR"""

from pathlib import Path

from dgtalker.commands import common
from dgtalker.material import find_material

TIME_BOXES = ("people_minutes", "uv_minutes", "view_minutes")


def configure(parser):
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument("--people", metavar="FOLDER", help="of synthesize-people; who is missing is made")
    parser.add_argument(
        "--makehuman",
        metavar="DIR",
        help="MakeHuman's skins, hair, eyes, teeth ... (CC0); default: $DGTALKER_SHARED/data/makehuman",
    )
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--max-minutes", type=common.number, help="shorten or lengthen every stage to fit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on where the last run in DIR stopped")


def run(args) -> None:
    output = common.check_output_folder(args.output)
    from dgtalker.training.prior import PriorConfig, train_prior

    makehuman = Path(args.makehuman) if args.makehuman else find_material("data", "makehuman")
    changes = {"resume": args.resume, "seed": args.seed, "makehuman": makehuman}
    if args.people:
        changes["people_folder"] = common.check_output_folder(args.people)
    config = PriorConfig.preset(args.preset, output, **changes)
    if args.max_minutes is not None:
        factor = common.positive_minutes(args.max_minutes) / sum(getattr(config, name) for name in TIME_BOXES)
        boxes = {name: factor * getattr(config, name) for name in TIME_BOXES}
        config = PriorConfig.preset(args.preset, output, **changes, **boxes)
    with common.Progress("train-prior") as progress:
        train_prior(config, progress=progress)
