"""talk IDENTITY AUDIO -o OUT.mp4"""

from dgtalker.commands import common


def configure(parser):
    parser.add_argument("identity", help="shipped name, folder or hub repository")
    parser.add_argument("audio", help="speech in any common format, rate and length")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.mp4")
    parser.add_argument("--size", type=common.size, default=256, help="pixels, default 256")
    parser.add_argument("--camera", choices=["front", "spiral"], default="front")
    parser.add_argument("--expression-from", metavar="AUDIO2", help="take the expression from another recording")
    parser.add_argument("--save-coefficients", metavar="C.csv", help="write the coefficient curves")
    parser.add_argument("--revision", help="of a hub repository")
    common.add_set_option(parser)


def run(args) -> None:
    audio = common.check_input_file(args.audio, "audio file")
    expression = args.expression_from and common.check_input_file(args.expression_from, "audio file")
    output = common.check_output_file(args.output, (".mp4",))
    table = args.save_coefficients and common.check_output_file(args.save_coefficients, (".csv",))
    from dgtalker.identity import Identity
    from dgtalker.performance import parse_edits
    from dgtalker.talk import talk

    edits = parse_edits(args.settings)
    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    with common.Progress("talk") as progress:
        talk(
            identity,
            audio,
            output,
            size=args.size,
            camera=args.camera,
            expression_from=expression or None,
            edits=edits,
            save_coefficients=table or None,
            progress=progress,
        )
