"""evaluate-speech BACKBONE SOURCE... [--json]"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import Progress, print_json

EXAMPLE = "dgtalker evaluate-speech heads/backbone data/anna-test"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backbone", metavar="BACKBONE", help="shipped name, folder or hub repository")
    parser.add_argument("films", nargs="+", metavar="SOURCE", help="data sets, or folders of films, of people speaking")
    options.add_face_landmarker(parser)
    parser.add_argument("--revision", help="of a hub repository")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    from dgtalker.evaluation.speech_backbone import evaluate_speech
    from dgtalker.navigation.speech_backbone import load_backbone

    backbone = load_backbone(args.backbone, args.revision)
    with Progress("evaluate-speech") as progress:
        figures = evaluate_speech(backbone, args.films, args.face_landmarker, progress)
    if args.json:
        print_json(figures)
        return
    for name, block in figures.items():
        values = (f"{key} {value:.3f}" for key, value in block.items() if isinstance(value, float))
        print(f"{name}: {block['clips']} clips, " + ", ".join(values))
