"""evaluate IDENTITY DATASET [--json]"""

from dgtalker.commands import common


def configure(parser):
    parser.add_argument("identity", help="shipped name, folder or hub repository")
    parser.add_argument("dataset", help="data set of held-out clips, made by preprocess")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--face-landmarker", metavar="FILE", help="MediaPipe face_landmarker.task")
    parser.add_argument("--clips", type=int, default=20, help="at most so many clips, default 20")
    parser.add_argument(
        "--refine-cameras",
        action="store_true",
        help="also report every figure after aligning each frame's camera on the upper face (the mouth is never used)",
    )
    parser.add_argument("--frames", metavar="DIR", help="also write sheets of real and rendered frames")
    parser.add_argument("--revision", help="of a hub repository")


def run(args) -> None:
    frames = args.frames and common.check_output_folder(args.frames)
    from dgtalker.evaluation import EvaluationConfig, evaluate
    from dgtalker.identity import Identity
    from dgtalker.video.dataset import Dataset

    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    dataset = Dataset.open(args.dataset)
    config = EvaluationConfig(
        clips=args.clips,
        face_landmarker=args.face_landmarker,
        refine_cameras=args.refine_cameras,
        sheets=frames or None,
    )
    with common.Progress("evaluate") as progress:
        report = evaluate(identity, dataset, config, progress=progress)
    if args.json:
        common.print_json(report)
        return
    for block in ("self_driven", "self_driven_refined", "leakage", "blink", "silence"):
        if block in report:
            print(f"{block}: " + ", ".join(_figures(report[block])))
    print("baselines.static: " + ", ".join(_figures(report["baselines"]["static"])))


def _figures(block: dict) -> list[str]:
    return [f"{name} {value:.3f}" for name, value in block.items() if isinstance(value, int | float)]
