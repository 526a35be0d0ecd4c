"""create-identity DATASET -o DIR"""

import argparse

from dgtalker.commands.console import Progress
from dgtalker.files import check_output_folder

EXAMPLE = "dgtalker create-identity data/anna -o heads/anna --title Anna"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="data set made by preprocess")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument(
        "--prior", metavar="NAME", help="shipped name, folder or hub repository; default: the shipped one"
    )
    parser.add_argument(
        "--backbone",
        "--trunk",
        metavar="NAME",
        help="speech backbone that the lips start from: shipped name, folder or hub repository, or none; default: the "
        "shipped one",
    )
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--resume", action="store_true", help="keep the finished stages of the last run")
    parser.add_argument("--name", default="", help="default: the folder's name")
    parser.add_argument("--title", default="", help="name for people")
    parser.add_argument("--source", default="", help="what the data set shows, for the model card")
    parser.add_argument("--attribution", default="", help="licence and credit of that material, for the model card")
    parser.add_argument("--license", default="", help="of the weights, by its Hugging Face name, such as cc-by-4.0")


def run(args: argparse.Namespace) -> None:
    output = check_output_folder(args.output)
    from dgtalker.training.identity.create import create_identity
    from dgtalker.training.identity.model_card import IdentityDetails

    given = {
        key: getattr(args, key) for key in ("name", "title", "source", "attribution", "license") if getattr(args, key)
    }
    with Progress("create-identity", f"A first preview will speak in {output}.work/preview.") as progress:
        identity = create_identity(
            args.dataset,
            output,
            prior=args.prior,
            preset=args.preset,
            resume=args.resume,
            progress=progress,
            details=IdentityDetails(**given),
            backbone=args.backbone,
        )
    print(f"{args.output}: {identity.name}, {identity.n_exp} expression and {identity.n_lip} lip coefficients")
