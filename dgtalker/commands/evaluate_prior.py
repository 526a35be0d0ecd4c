"""evaluate-prior PRIOR [--json]"""

import argparse
from pathlib import Path

from dgtalker.assets import find_asset
from dgtalker.commands import options
from dgtalker.commands.console import Progress, print_json
from dgtalker.files import check_output_folder

EXAMPLE = "dgtalker evaluate-prior heads/prior"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prior", help="shipped name, folder or hub repository")
    options.add_makehuman(parser)
    parser.add_argument("--people", type=int, default=40, help="held-out people, default 40")
    parser.add_argument("-o", "--output", metavar="DIR", help="of report.json and report.jpg; default: the prior's")
    parser.add_argument("--work", metavar="DIR", help="of results by person, from which a stopped run goes on")
    parser.add_argument("--seed", type=int, default=0, help="of the people")
    parser.add_argument("--workers", type=int, default=2, help="processes, default 2")
    parser.add_argument("--json", action="store_true", help="print the report")


def run(args: argparse.Namespace) -> None:
    output = Path(check_output_folder(args.output)) if args.output else None
    from dgtalker.evaluation.prior import PriorReportConfig, evaluate_prior

    config = PriorReportConfig(
        prior=args.prior,
        makehuman=Path(args.makehuman) if args.makehuman else find_asset("data", "makehuman"),
        output=output,
        work=Path(args.work) if args.work else None,
        people=args.people,
        seed=args.seed,
        workers=args.workers,
    )
    with Progress("evaluate-prior") as progress:
        report = evaluate_prior(config, progress=progress)
    if args.json:
        print_json(report)
        return
    for stage in ("inversion", "tuned"):
        block = report[stage]
        print(
            f"{stage}: PSNR {block['psnr']:.2f} dB at unseen views ({block['psnr_seven_views']:.2f} at the seven of the"
            f" target), SSIM {block['ssim']:.3f}"
        )
    face = report["geometry_mm"]["inversion"].get("face", {})
    if face:
        print(f"geometry of the face: mean {face['mean']:.2f} mm, 90 % within {face['p90']:.2f} mm")
    if report["fairness"]["worst_group"]:
        print(f"worst skin group: {report['fairness']['worst_group']}, {report['fairness']['gap_db']:.2f} dB behind")
