"""synthesize-performance CLIP... -o DIR"""

import argparse
from pathlib import Path

from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.errors import UserError
from dgtalker.files import check_output_folder

MOMENTS = 4

EXAMPLE = "dgtalker synthesize-performance films/ -o data/films --makehuman makehuman/"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="real videos, or folders of them, to take motion from")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="gets one NAME.mp4 and its truth a clip")
    parser.add_argument("--makehuman", required=True, metavar="DIR", help="MakeHuman's skins, hair, eyes, teeth ...")
    parser.add_argument("--seed", type=int, default=0, help="of the person: the same seed is the same person")
    parser.add_argument("--size", type=options.size, default=480, help="pixels, default 480")
    parser.add_argument(
        "--views",
        type=int,
        nargs="?",
        const=MOMENTS,
        default=0,
        metavar="MOMENTS",
        help=f"also picture so many moments of each film (default {MOMENTS}) from all sides, for evaluate --truth",
    )
    options.add_face_landmarker(parser)
    parser.add_argument("--resume", action="store_true", help="keep the videos that are there already")


def run(args: argparse.Namespace) -> None:
    if not 0 <= args.views <= 100:
        raise UserError(f"--views must lie between 0 and 100 moments, not {args.views}.")
    output = check_output_folder(args.output)
    import numpy as np

    from dgtalker.people.assets import PersonAssets
    from dgtalker.people.person import sample_person
    from dgtalker.people.talking_videos import capture_views, read_performance, synthesize_performance
    from dgtalker.video.landmarks import Landmarker, usage_reports_blocked
    from dgtalker.video.source import list_videos
    from dgtalker.video.true_views import views_path

    clips = list_videos(args.clips)
    with (
        usage_reports_blocked(),
        Landmarker(args.face_landmarker, max_faces=1) as landmarker,
        Progress("synthesize") as progress,
    ):
        person = sample_person(np.random.default_rng(args.seed), PersonAssets(args.makehuman))
        names = tuple(person.assets.template.expression_names)
        for done, clip in enumerate(clips):
            video = Path(output, f"{clip.stem}.mp4")
            kept = args.resume and video.with_suffix(".truth.safetensors").is_file()  # the truth is written last
            if not kept:
                views_path(video).unlink(missing_ok=True)  # of another film
                performance = read_performance(clip, names, landmarker)
                synthesize_performance(
                    person,
                    performance,
                    video,
                    size=args.size,
                    progress=lambda frame, frames, d=done, c=clip: progress(d + frame / frames, len(clips), c.stem),
                )
            if args.views and not (kept and views_path(video).is_file()):
                capture_views(person, video, args.views)
            progress(done + 1, len(clips), clip.stem)
