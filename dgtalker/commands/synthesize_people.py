"""synthesize-people FOLDER"""

import argparse
from pathlib import Path

from dgtalker.assets import find_asset
from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.files import check_output_folder

EXAMPLE = "dgtalker synthesize-people data/people --people 100"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="gets the people; what it has already is kept")
    options.add_makehuman(parser)
    parser.add_argument(
        "--performances",
        nargs="+",
        metavar="CLIP",
        default=[],
        help="clips of real faces, or folders of them, for a quarter of the expressions; FOLDER remembers them",
    )
    parser.add_argument("--people", type=int, default=900, help="training people, default 900")
    parser.add_argument("--captured", type=int, default=360, help="of these, with pictures, default 360")
    parser.add_argument("--held-out", type=int, default=40, help="further people never trained on, default 40")
    parser.add_argument("--expressions", type=int, default=3, help="expressions of each, default 3 (the first at rest)")
    parser.add_argument("--views", type=int, default=4, help="pictures of each expression, default 4")
    parser.add_argument("--map-size", type=int, choices=[64, 128, 256], default=128, help="of the UV map, default 128")
    parser.add_argument("--image-size", type=options.size, default=256, help="pixels, default 256")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same people")
    parser.add_argument("--workers", type=int, help="processes of 1 GB each, default one a core, at most 16")


def run(args: argparse.Namespace) -> None:
    folder = check_output_folder(args.folder)
    from dgtalker.errors import UserError
    from dgtalker.head.template import HeadTemplate
    from dgtalker.people.cache_key import open_people
    from dgtalker.people.generation import list_wanted_people, make_people
    from dgtalker.people.recorded_expressions import load_recorded_expressions
    from dgtalker.people.source import SyntheticPeople
    from dgtalker.people.target_cache import PeopleConfig
    from dgtalker.resumable import stop_on_interrupt

    for name in ("expressions", "views", "workers"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}.")
    wanted = list_wanted_people(args.people, args.captured, args.held_out)
    makehuman = Path(args.makehuman) if args.makehuman else find_asset("data", "makehuman")
    if makehuman is None:
        raise UserError("Synthetic people need --makehuman, the folder with MakeHuman's skins, hair and eyes.")
    config = PeopleConfig(args.seed, args.map_size, args.image_size, args.expressions, args.views)
    template = HeadTemplate.load()
    source = SyntheticPeople(makehuman, args.map_size)
    with stop_on_interrupt() as stop:
        with Progress("performances") as progress:
            recorded = load_recorded_expressions(folder, template.expression_names, args.performances, progress, stop)
        cache = open_people(folder, source, config, template, recorded)
        with Progress("people") as progress:
            make_people(cache, wanted, args.workers, progress, stop)
    print(cache.folder)
