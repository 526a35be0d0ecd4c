"""evaluate-speech TRUNK SOURCE... [--json]"""

from dgtalker.commands import common


def configure(parser):
    parser.add_argument("trunk", help="shipped name, folder or hub repository")
    parser.add_argument("films", nargs="+", metavar="SOURCE", help="data sets, or folders of films, of people speaking")
    parser.add_argument("--face-landmarker", metavar="FILE", help="MediaPipe face_landmarker.task")
    parser.add_argument("--revision", help="of a hub repository")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args) -> None:
    from dgtalker.evaluation.speech import evaluate_speech
    from dgtalker.navigation.trunk import load_trunk

    trunk = load_trunk(args.trunk, args.revision)
    with common.Progress("evaluate-speech") as progress:
        figures = evaluate_speech(trunk, args.films, args.face_landmarker, progress)
    if args.json:
        common.print_json(figures)
        return
    for name, block in figures.items():
        values = (f"{key} {value:.3f}" for key, value in block.items() if isinstance(value, float))
        print(f"{name}: {block['clips']} clips, " + ", ".join(values))
