"""bench [--json] [--device cpu|cuda]"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import print_json

EXAMPLE = "dgtalker bench --json"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser)
    parser.add_argument("--identity", help="shipped name, folder or hub repository; default: the first shipped one")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda, which needs gsplat; default auto")
    parser.add_argument("--no-app", action="store_true", help="skip starting the app")


def run(args: argparse.Namespace) -> None:
    from dgtalker.bench import run_benchmark

    report = run_benchmark(args.identity, with_app=not args.no_app, device=args.device)
    if args.json:
        print_json(report)
        return
    machine = report["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, torch {machine['torch']}, {machine['device']}")
    for pixels, figures in report["render"].items():
        print(f"render {pixels}²: {figures['gaussians']} Gaussians in {figures['ms']:.1f} ms")
    for pixels, figures in report["train"].items():
        print(f"the same with gradients {pixels}²: {figures['gaussians']} Gaussians in {figures['ms']:.1f} ms")
    for pixels, figures in report["frame"].items():
        print(f"coefficients to pixels {pixels}²: {figures['fps']:.0f} frames/s")
    print(f"talk: {report['talk']['audio_s']:.1f} s of audio in {report['talk']['wall_s']:.1f} s")
    if report["app_start_s"] is not None:
        print(f"app start to first picture: {report['app_start_s']:.1f} s")
