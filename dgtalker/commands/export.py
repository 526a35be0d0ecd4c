"""export IDENTITY -o HEAD.ply"""

from dgtalker.commands import options
from dgtalker.files import check_output_file


def configure(parser):
    options.add_identity(parser)
    parser.add_argument("-o", "--output", required=True, metavar="HEAD.ply")
    options.add_set(parser)


def run(args) -> None:
    output = check_output_file(args.output, (".ply",))
    from dgtalker.identity import Identity
    from dgtalker.performance.curves import check_edits, parse_edits

    settings = parse_edits(args.settings)
    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    check_edits(settings, identity.exp_names + identity.lip_names)
    identity.frame(*identity.coefficients(settings)).save_ply(output)
