"""render IDENTITY -o OUT.png"""

from dgtalker.commands import options
from dgtalker.files import check_output_file


def configure(parser):
    options.add_identity(parser)
    parser.add_argument("-o", "--output", required=True, metavar="OUT.png")
    parser.add_argument("--size", type=options.size, default=256, help="pixels, default 256")
    parser.add_argument("--yaw", type=options.number, default=0.0, help="degrees; > 0: from the head's left")
    parser.add_argument("--pitch", type=options.number, default=0.0, help="degrees; > 0 raises the camera")
    parser.add_argument("--zoom", type=options.number, default=1.0)
    options.add_set(parser)


def run(args) -> None:
    output = check_output_file(args.output, (".png", ".jpg", ".jpeg", ".webp"))
    from PIL import Image

    from dgtalker.camera import orbit_camera
    from dgtalker.identity import Identity
    from dgtalker.performance.curves import check_edits, parse_edits
    from dgtalker.render import render_frame

    camera = orbit_camera(args.yaw, args.pitch, args.size, zoom=args.zoom)
    settings = parse_edits(args.settings)
    identity = Identity.from_pretrained(args.identity, revision=args.revision)
    check_edits(settings, identity.exp_names + identity.lip_names)
    gaussians = identity.frame(*identity.coefficients(settings))
    Image.fromarray(render_frame(gaussians, camera)).save(output)
