"""evaluate IDENTITY DATASET [--all] [--json] [--report FILE.html]"""

import argparse
from pathlib import Path

from dgtalker.commands import options
from dgtalker.commands.console import Progress, print_json
from dgtalker.files import check_output_file, check_output_folder

EXAMPLE = "dgtalker evaluate heads/anna data/anna-test --report anna.html"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_identity(parser)
    parser.add_argument("dataset", help="data set of held-out clips, made by preprocess")
    options.add_json(parser)
    parser.add_argument("--report", metavar="FILE.html", help="also write a page with figures, plots and frames")
    parser.add_argument("--all", action="store_true", help="every setting that the given folders allow")
    options.add_face_landmarker(parser)
    parser.add_argument("--clips", type=int, default=20, help="at most so many clips, default 20")
    parser.add_argument(
        "--refine-cameras",
        action="store_true",
        help="also report every figure after aligning each frame's camera on the upper face (the mouth is never used)",
    )
    parser.add_argument(
        "--truth",
        metavar="DIR",
        help="films of a synthetic person with their true pictures from aside (synthesize-performance --views)",
    )
    parser.add_argument(
        "--voices",
        nargs="+",
        metavar="DIR",
        default=[],
        help="recordings of other people, or folders of them; films show the true lips too",
    )
    parser.add_argument(
        "--baselines", metavar="DIR", help="variants of the identity's navigation that ablate wrote, measured likewise"
    )
    parser.add_argument(
        "--frames",
        metavar="DIR",
        help="also write sheets of real and rendered frames, and the lips at every phone of --voices",
    )


def run(args: argparse.Namespace) -> None:
    frames = args.frames and check_output_folder(args.frames)
    page = args.report and check_output_file(args.report, (".html", ".htm"))
    from dgtalker.evaluation import EvaluationConfig, evaluate
    from dgtalker.identity import Identity
    from dgtalker.report.figures import ReportFigures
    from dgtalker.video.dataset import Dataset

    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    dataset = Dataset.open(args.dataset)
    config = EvaluationConfig(
        clips=args.clips,
        face_landmarker=args.face_landmarker,
        refine_cameras=args.refine_cameras or args.all,
        truth=Path(args.truth) if args.truth else None,
        voices=tuple(map(Path, args.voices)),
        baselines=Path(args.baselines) if args.baselines else None,
        sheets=frames or None,
    )
    report_figures = ReportFigures()
    with Progress("evaluate") as progress:
        report = evaluate(identity, dataset, config, progress=progress, report_figures=report_figures)
    if page:
        from dgtalker.report.html import write_page

        write_page(page, report, report_figures, title=identity.title)
    if args.json:
        print_json(report)
        return
    for name, block in report.items():
        if isinstance(block, dict) and name not in ("baselines", "config", "hashes"):
            print(f"{name}: " + (", ".join(_figures(block)) or f"not measured, {block.get('reason')}"))
    for name, block in report["baselines"].items():
        if figures := _figures(block):
            print(f"baselines.{name}: " + ", ".join(figures))


def _figures(block: dict) -> list[str]:
    return [f"{name} {value:.3f}" for name, value in block.items() if isinstance(value, int | float)]
