"""train-speech -o DIR --clips SOURCE... [--speech FOLDER...] [--voices FOLDER] [--held-out SOURCE...]"""

import argparse
from dataclasses import replace
from pathlib import Path

from dgtalker.commands import options
from dgtalker.commands.console import Progress, print_json
from dgtalker.files import check_output_folder

EXAMPLE = "dgtalker train-speech -o heads/backbone --clips data/anna data/ben"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument(
        "--clips", nargs="+", required=True, metavar="SOURCE", help="films of people speaking: data sets, or folders"
    )
    parser.add_argument(
        "--speech",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="recordings without a picture and their English transcripts (metadata.csv, transcripts.txt, NAME.txt), or "
        "NAME.phones with a line 'LABEL START END' a phone",
    )
    parser.add_argument("--voices", metavar="FOLDER", help="made-up voices; flite makes those that are not there")
    parser.add_argument(
        "--held-out", nargs="+", default=[], metavar="SOURCE", help="films to measure on, never to train on"
    )
    parser.add_argument("--features", default="whisper-tiny.en", metavar="KIND", help="whisper-tiny.en or log-mel")
    parser.add_argument(
        "--changes", type=int, metavar="N", help="times that a film is heard with another voice and room"
    )
    parser.add_argument("--steps", type=int, metavar="N")
    parser.add_argument("--max-minutes", type=options.number, help="of the regression itself")
    parser.add_argument("--source", default="", help="what it was trained on, for the model card")
    parser.add_argument("--attribution", default="", help="licence and credit of that material, for the model card")
    parser.add_argument(
        "--work", metavar="FOLDER", help="where phones and features are kept between runs; default: DIR.work"
    )
    options.add_face_landmarker(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON document")


def run(args: argparse.Namespace) -> None:
    output = check_output_folder(args.output)
    if args.work:
        check_output_folder(args.work)
    from dgtalker.errors import UserError
    from dgtalker.evaluation.speech_backbone import evaluate_speech
    from dgtalker.report.cards.speech import speech_card
    from dgtalker.resumable import RunLog
    from dgtalker.training.speech.train import SpeechConfig, save_backbone, train_speech
    from dgtalker.training.stage import Stage

    config = SpeechConfig(feature_kind=args.features, seed=args.seed)
    for option, name, least in (("changes", "augmentations", 0), ("steps", "steps", 1)):
        if (value := getattr(args, option)) is not None:
            if value < least:
                raise UserError(f"--{option} must be at least {least}, not {value}.")
            config = replace(config, **{name: value})
    if args.max_minutes is not None:
        config = replace(config, minutes=options.check_minutes(args.max_minutes))
    work = Path(args.work) if args.work else output.resolve().with_name(output.resolve().name + ".work")
    with Progress("train-speech") as progress:
        backbone, trained_on = train_speech(
            args.clips,
            args.speech,
            args.voices,
            config,
            work,
            args.face_landmarker,
            Stage("train-speech", RunLog(work / "log.jsonl"), progress),
        )
        figures = evaluate_speech(backbone, args.held_out, args.face_landmarker)
    trained_on |= {"source": args.source, "attribution": args.attribution}
    save_backbone(
        backbone, output, trained_on, figures, speech_card(output.resolve().name, backbone, trained_on, figures)
    )
    if args.json:
        print_json(figures)
        return
    print(f"{args.output}: {trained_on['examples']} examples of {trained_on['films']} films and "
          f"{trained_on['recordings']} other recordings")  # fmt: skip
    for name, block in figures.items():
        print(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in block.items() if k.endswith("_r") and k != "clips_r"))
