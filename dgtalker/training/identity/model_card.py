"""What an identity folder tells people: who is shown and by whose permission, model card and preview picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.report.cards.coefficients import replace_coefficients_section
from dgtalker.training.stage import default_render

PREVIEW_SIZE = 384
PREVIEW_NOTE = "A preview, made before training was over: the finished head looks and speaks better."


@dataclass(frozen=True)
class IdentityDetails:
    """Who is shown and by whose permission; goes into config.json and the model card."""

    name: str = ""  # default: the output folder's name
    title: str = ""  # name for people
    source: str = "a video supplied by the user"  # what the identity was trained on
    attribution: str = ""  # licence and credit of that material
    license: str = ""  # of the weights, by its Hugging Face name, such as cc-by-4.0

    preview: bool = False  # made before training was over

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9.-]*", self.license):
            raise UserError(f"'{self.license}' is no name of a licence; Hugging Face's are like cc-by-4.0.")


def render_preview(identity: Identity, render: Callable = default_render, size: int = PREVIEW_SIZE) -> np.ndarray:
    """uint8 [size, size, 3]: the canonical head, turned a little."""
    splats = identity.gaussians(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    image, _ = render(splats, Camera.stack([orbit_camera(yaw=15, pitch=3, size=size)]).to(identity.device))
    return (image[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def face_controls_section(identity: Identity) -> list[str]:
    """Lines about the face controls; [] for an identity without."""
    rows = [
        f"| {c.name} | {c.label} | {c.region} | {c.own:.2f} | {'' if c.leakage is None else format(c.leakage, '.3f')} |"
        for c in identity.controls
        if c.own is not None
    ]
    if not rows:
        return []
    return [
        "## Face controls",
        "",
        "What the prior knows about every face, from 0 (off) to 1. Change: of the picture's own half of the face at 1, "
        "mean grey levels; leakage: the other half's change divided by that.",
        "",
        "| control | for people | half | change | leakage |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def write_model_card(identity: Identity) -> str:
    """README.md of the identity folder."""
    config, training = identity.config, identity.config["training"]
    baked = training["baked"]
    lines = [
        "---",
        *([f"license: {config['license']}"] if config.get("license") else []),
        "library_name: dgtalker",
        "tags: [gaussian-splatting, talking-head]",
        "---",
        f"# {identity.title}",
        "",
        "A personalised Gaussian head for DGTalker: anchor, orthogonal blendshapes, encoders and a baked head.",
        "",
        *([PREVIEW_NOTE, ""] if config.get("preview") else []),
        f"* Trained on {config['source']}: {training['frames']} frames in {training['clips']} clips, 25 a second.",
        f"* {identity.n_exp} expression and {identity.n_lip} lip coefficients; 1 is one training standard deviation, "
        "0 the canonical expression.",
        f"* Audio features: {identity.feature_kind}.",
        f"* {baked['splats']} splats. Baked head against the generator: {baked['held_out_psnr']} dB on held-out codes, "
        f"{baked['sweep_psnr']} dB with single coefficients at +-3 (worst {baked['sweep_psnr_min']} dB).",
        f"* Prior: sha256 {config['parents']['prior'][:16]}.",
        *([f"* Speech backbone: sha256 {backbone[:16]}."] if (backbone := config["parents"].get("speech")) else []),
        "",
        *face_controls_section(identity),
        "## Use",
        "",
        "For speech videos of a person who agreed to it, or of a person who does not exist. Say that the result is "
        "synthetic wherever it is shown.",
    ]
    if config["attribution"]:
        lines += ["", "## Attribution", "", config["attribution"]]
    return replace_coefficients_section("\n".join(lines) + "\n", identity)
