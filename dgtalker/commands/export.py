"""export IDENTITY -o HEAD.ply"""

from dgtalker.commands import common


def configure(parser):
    parser.add_argument("identity", help="shipped name, folder or hub repository")
    parser.add_argument("-o", "--output", required=True, metavar="HEAD.ply")
    parser.add_argument("--revision", help="of a hub repository")
    common.add_set_option(parser)


def run(args) -> None:
    output = common.check_output_file(args.output, (".ply",))
    from dgtalker.identity import Identity
    from dgtalker.performance.curves import check_edits, parse_edits

    settings = parse_edits(args.settings)
    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    check_edits(settings, identity.exp_names + identity.lip_names)
    identity.frame(*identity.coefficients(settings)).save_ply(output)
