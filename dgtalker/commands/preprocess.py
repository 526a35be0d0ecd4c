"""preprocess SOURCE... -o DATASET"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import Progress
from dgtalker.files import check_output_folder

EXAMPLE = "dgtalker preprocess films/ -o data/anna"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="videos of one person, or folders of them")
    parser.add_argument("-o", "--output", required=True, metavar="DATASET")
    options.add_face_landmarker(parser)
    parser.add_argument("--segmenter", metavar="FILE", help="MediaPipe selfie_segmenter.tflite")
    parser.add_argument(
        "--like", metavar="DATASET", help="take shape, crop and scales from this data set: for held-out clips"
    )
    parser.add_argument(
        "--size",
        type=int,
        choices=[256, 384, 512],
        help="side of the head crops in pixels; by default the largest that the videos can fill",
    )
    parser.add_argument(
        "--features", choices=["whisper-tiny.en", "log-mel"], default="whisper-tiny.en", help="what hears the sound"
    )
    parser.add_argument(
        "--sound-delay",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="move the sound of all videos back by this (negative: forward), where it does not fit the lips",
    )


def run(args: argparse.Namespace) -> None:
    output = check_output_folder(args.output)
    from dgtalker.video.left_out import Report
    from dgtalker.video.preprocess import PreprocessConfig, preprocess

    with Progress("preprocess") as progress:
        dataset = preprocess(
            args.sources,
            output,
            face_landmarker=args.face_landmarker,
            segmenter=args.segmenter,
            like=args.like,
            config=PreprocessConfig(size=args.size, feature_kind=args.features, sound_delay=args.sound_delay),
            progress=progress,
        )
    print(f"{args.output}: {len(dataset)} clips, {dataset.frames} frames")
    for line in Report.load(dataset.folder).lines:
        print(line)
