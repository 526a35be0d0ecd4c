"""doctor [--json]"""

import argparse

from dgtalker.commands import options
from dgtalker.commands.console import print_json

EXAMPLE = "dgtalker doctor"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from dgtalker.doctor import check_installation

    report = check_installation()
    if args.json:
        print_json(report)
    else:
        width = max(len(name) for name in report["checks"])
        for name, check in report["checks"].items():
            print(f"{check['status']:>8}  {name:<{width}}  {check['detail']}")
        print("\nReady." if report["ok"] else "\nNot ready: see the lines marked missing.")
    return 0 if report["ok"] else 1
