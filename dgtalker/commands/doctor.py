"""doctor [--json]"""

from dgtalker.commands import options
from dgtalker.commands.console import print_json


def configure(parser):
    options.add_json(parser)


def run(args) -> int:
    from dgtalker.doctor import examine

    report = examine()
    if args.json:
        print_json(report)
    else:
        width = max(len(name) for name in report["checks"])
        for name, check in report["checks"].items():
            print(f"{check['status']:>8}  {name:<{width}}  {check['detail']}")
        print("\nReady." if report["ok"] else "\nNot ready: see the lines marked missing.")
    return 0 if report["ok"] else 1
