"""What the page shows of each block of the report: words, tables, matrices. Unknown blocks become tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dgtalker.report.html.plots import bar_plot
from dgtalker.report.html.text import escape, format_number

LEAKAGE_TARGET = 0.05
LEAKS = ("lip_to_upper", "exp_to_lower")
TEXTS = {  # block -> its title and what it measures
    "self_driven": (
        "Self-driven",
        "Held-out clips, driven by their own sound and blinks, rendered through the tracked cameras "
        "and compared with the real frames. “Refined” aligns each frame's camera on the upper face first; the mouth is "
        "never used. The static head never moves. The rim is what lies within 4 pixels (at 256) of the real head's "
        "outline. ST-LPIPS is a perceptual distance, 0 for the same picture; its values are not those of LPIPS. The "
        "slope is that of the rendered lip opening over the real one: below 1 the mouth opens too little. Closures and "
        "roundings are the shares of /p b m/ and /u o w/ that are seen on the lips.",
    ),
    "leakage": (
        "Leakage in pixels",
        "How much one standard deviation of a coefficient changes the half of the face that is not its own, divided by "
        "what it changes in its own. Zero is perfect; PSNR against real frames does not show it.",
    ),
    "leakage_landmarks": (
        "Leakage in landmarks",
        "The same, in how far landmarks move. By geometry they are attached to the head's splats. The detector finds "
        "them in rendered pictures with one model of the whole face: part of its leakage is its own.",
    ),
    "swap": (
        "Swap",
        "Expression of clip A with the lips of clip B through A's cameras: the upper half against A driven by itself, "
        "the mouth against B driven by itself. The joint baseline cannot separate the two: everything of B above, "
        "everything of A below.",
    ),
    "views": (
        "Side views against ground truth",
        "Driven by sound, from yaw -60 to 60 degrees, against true pictures of the filmed person. Nothing is "
        "fitted; “aligned” allows one similarity for all clips, found on landmarks other than the lips.",
    ),
    "unseen_audio": ("Other people's voices", "The same head driven by voices that it was not trained on."),
    "blink": ("Blink sweep", "The blink signal from 0 to 1: eyelids must follow, lips must not move."),
    "diversity": (
        "Diversity at fixed audio",
        "Variants of the performance for one and the same sound: the upper face must differ, the lips must not.",
    ),
    "silence": ("Silence", "Mouth motion without sound, against that in speech."),
    "clips": ("Clip by clip", "Self-driven figures of every clip."),
}
CARDS = (  # label, where it stands, unit, target, whether more is better
    ("PSNR", ("self_driven", "psnr"), "dB", 30.0, True),
    ("Mouth landmarks", ("self_driven", "lmd_px"), "px", 1.5, False),
    ("Lip opening against the real", ("self_driven", "aperture_r"), "r", 0.92, True),
    ("Lip opening, slope", ("self_driven", "aperture_slope"), "", 0.9, True),
    ("Closures of p, b, m met", ("self_driven", "closure_hit_rate"), "", 0.9, True),
    ("Leakage lips → upper", ("leakage", "lip_to_upper"), "", LEAKAGE_TARGET, False),
    ("Leakage expression → lower", ("leakage", "exp_to_lower"), "", LEAKAGE_TARGET, False),
    ("Eyelids follow blinks", ("blink", "spearman"), "ρ", 0.95, True),
    ("Mouth energy in silence", ("silence", "mouth_energy_ratio"), "", 0.03, False),
)
NAMES = {
    "psnr": "PSNR, dB",
    "psnr_inside": "PSNR inside, dB",
    "psnr_rim": "PSNR rim, dB",
    "rim_error": "error in the rim",
    "psnr_mouth": "PSNR mouth, dB",
    "st_lpips": "ST-LPIPS",
    "psnr_face": "PSNR face, dB",
    "psnr_upper": "PSNR upper half, dB",
    "ssim": "SSIM",
    "lmd_px": "mouth landmarks, px",
    "lmd_lower": "mouth landmarks, px",
    "aperture_r": "lip opening, r",
    "aperture_slope": "lip opening, slope",
    "aperture_slope_robust": "slope, robust",
    "aperture_closures": "lip opening at p, b, m",
    "aperture_rest": "at rest",
    "opening_at_rest": "at rest, closed 0, wide 1",
    "aperture_lag_frames": "lag, frames",
    "faces_found": "faces found",
    "closure_hit_rate": "closures met",
    "rounding_hit_rate": "roundings met",
    "lip_to_upper": "leakage lips → upper",
    "exp_to_lower": "leakage expression → lower",
}
PICTURES = ("psnr", "psnr_inside", "psnr_rim", "rim_error", "psnr_mouth", "ssim", "st_lpips")  # the others are of lips
ROWS = {
    "self_driven": "self-driven",
    "self_driven_refined": "self-driven, refined",
    "static_refined": "static, refined",
    "one_basis": "one basis",
    "no_mask": "no masks",
    "no_swap": "no swapping",
    "own_branch": "own-branch gradients",
}
HIDDEN = ("identity", "dataset", "clips_total", "frames", "baselines", "config", "hashes", "seconds", "clips")


def ordered_blocks(report: Mapping[str, Any]) -> list[str]:
    """Blocks in the order of the page: the known ones, then others, then the clips."""
    blocks = [key for key, value in report.items() if isinstance(value, Mapping) and key not in HIDDEN]
    blocks = [key for key in blocks if key != "self_driven_refined"]  # a row of self_driven's table
    known = [key for key in TEXTS if key in blocks]
    return known + [key for key in blocks if key not in TEXTS] + (["clips"] if report.get("clips") else [])


def section_texts(block: str) -> tuple[str, str]:
    """Title and words of a block."""
    return TEXTS.get(block) or (block.replace("_", " ").capitalize(), "")


def section_body(block: str, report: Mapping[str, Any]) -> str:
    """Tables of one block."""
    if block == "clips":
        return _fold("All clips", rows_table([dict(row) for row in report["clips"]]))
    value = report[block]
    if value.get("reason"):
        return f'<p class="missing">Not measured: {escape(value["reason"])}.</p>'
    if block == "self_driven":
        return _self_driven(report)
    if block == "leakage":
        return f'<div class="matrices">{matrix_table(value["matrix"], value["unit"])}</div>' + _coefficients(value)
    if block == "leakage_landmarks":
        found = [matrix_table(value["matrix"], f"{value['unit']}, by {value['by']}")]
        if value.get("detector"):
            detector = value["detector"]
            found.append(matrix_table(detector["matrix"], f"{detector['unit']}, by detector"))
        return f'<div class="matrices">{"".join(found)}</div>' + _coefficients(value)
    if block == "swap":
        return block_table({"expression of A, lips of B": value} | dict(value["baselines"]))
    if block == "views":
        rows = {"driven by sound": value} | dict(value["baselines"])
        aligned = value.get("aligned")
        rows |= {"driven, aligned": aligned} if aligned else {}
        body = block_table({name: {k: row[k] for k in ("psnr", "psnr_face", "lmd_px")} for name, row in rows.items()})
        if aligned:
            found = ", ".join(f"{escape(k)} {format_number(v)}" for k, v in aligned["similarity"].items())
            body += f'<p class="words">The similarity: {found}.</p>'
        rows = [{"": f"{row['yaw']:+g}°"} | {k: v for k, v in row.items() if k != "yaw"} for row in value["by_yaw"]]
        return body + _fold("By yaw", rows_table(rows))
    return generic_block(value)


def _self_driven(report: Mapping[str, Any]) -> str:
    rows = {"self_driven": report["self_driven"]}
    if "self_driven_refined" in report:
        rows["self_driven_refined"] = report["self_driven_refined"]
    baselines = {k: v for k, v in (report.get("baselines") or {}).items() if not v.get("reason")}
    named = {ROWS.get(k, k): v for k, v in (rows | baselines).items()}
    body = block_table({name: {k: row.get(k) for k in PICTURES} for name, row in named.items()})
    if note := report["self_driven"].get("st_lpips_note"):
        body += f'<p class="missing">ST-LPIPS not measured: {escape(note)}.</p>'
    body += block_table({name: {k: v for k, v in row.items() if k not in PICTURES} for name, row in named.items()})
    variants = {ROWS.get(k, k): v["leakage"] for k, v in baselines.items() if "leakage" in v}
    if variants and "leakage" in report:
        body += block_table({"self-driven": {k: report["leakage"].get(k) for k in LEAKS}} | variants)
    return body + _phones(report["self_driven"].get("phones") or {})


def _phones(phones: Mapping[str, Any]) -> str:
    if not phones.get("closures"):
        note = phones.get("note")
        return f'<p class="missing">Phones not measured: {escape(note)}.</p>' if note else ""
    rows = {"real video": phones["true_lips"], "rendered, at random times": phones["random_times"]}
    said = f"{phones['closures']} times /p b m/ and {phones['roundings']} times /u o w/ are spoken; to compare with:"
    return f'<p class="words">{escape(said)}</p>{block_table(rows)}'


def _coefficients(value: Mapping[str, Any]) -> str:
    ratios = {name: row["ratio"] for name, row in value.get("coefficients", {}).items()}
    groups = [{n: v for n, v in ratios.items() if n.startswith(kind)} for kind in ("exp", "lip")]
    titles = ("Expression coefficients, leakage to the lower face", "Lip coefficients, leakage to the upper face")
    bars = [bar_plot(title, group, LEAKAGE_TARGET) for title, group in zip(titles, groups, strict=True) if group]
    return _fold("Coefficient by coefficient", f'<div class="plots">{"".join(bars)}</div>')


def card_grid(report: Mapping[str, Any]) -> str:
    """Headline metrics with their targets."""
    cards = []
    for label, (block, key), unit, target, more in CARDS:
        value = (report.get(block) or {}).get(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            continue
        reached = value >= target if more else value <= target
        state, word = ("met", "target met") if reached else ("missed", "target missed")
        sign = "≥" if more else "≤"
        cards.append(
            f'<div class="card {state}"><p>{escape(label)}</p><b>{format_number(value)}</b> <i>{escape(unit)}</i>'
            f'<p class="goal">{word}: {sign} {target:g}</p></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def matrix_table(matrix: Mapping[str, Any], unit: str) -> str:
    """A 2x2 leakage matrix: ratios, and the changes behind them."""
    heads = "".join(f"<th>{escape(name)} face</th>" for name in matrix["columns"])
    body = ""
    for i, (name, ratios, changes) in enumerate(zip(matrix["rows"], matrix["ratio"], matrix["change"], strict=True)):
        cells = ""
        for j, (ratio, change) in enumerate(zip(ratios, changes, strict=True)):
            heat = min(ratio / (6 * LEAKAGE_TARGET), 1.0) if math.isfinite(ratio) else 0.0
            kind = "own" if i == j else "other"
            cells += (
                f'<td class="{kind}" style="--heat:{100 * heat:.0f}%"><b>{format_number(float(ratio))}</b>'
                f"<small>{format_number(float(change))}</small></td>"
            )
        body += f"<tr><th>{escape(name)}</th>{cells}</tr>"
    return (
        f'<table class="matrix"><caption>{escape(unit)}</caption><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def block_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A row per block, a column per number that any of them has."""
    columns = [
        k
        for k in dict.fromkeys(k for row in rows.values() for k in row)
        if any(_plain(r.get(k)) for r in rows.values())
    ]
    return rows_table([{"": name} | {k: row.get(k) for k in columns} for name, row in rows.items()])


def rows_table(rows: list[dict[str, Any]]) -> str:
    """A list of like dictionaries as a table; nested values are left to the JSON."""
    if not rows:
        return ""
    columns = [k for k in dict.fromkeys(k for row in rows for k in row) if not any(_nested(row.get(k)) for row in rows)]
    heads = "".join(f"<th>{escape(NAMES.get(k, k.replace('_', ' ')))}</th>" for k in columns)
    body = "".join(
        "<tr>" + "".join(_cell(row.get(k), first=n == 0) for n, k in enumerate(columns)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def generic_block(value: Mapping[str, Any]) -> str:
    """An unknown block: its numbers as a table, inner blocks as rows of another or as sections, lists folded."""
    plain = {k: v for k, v in value.items() if not _nested(v)}
    body = rows_table([plain]) if plain else ""
    inner = {k.replace("_", " "): v for k, v in value.items() if isinstance(v, Mapping) and v}
    rows = {name: block for name, block in inner.items() if any(_plain(x) for x in block.values())}
    body += block_table(rows) if rows else ""
    for name, block in inner.items():
        deeper = {k: v for k, v in block.items() if isinstance(v, Mapping)}
        if deeper:
            body += f"<h3>{escape(name)}</h3>{generic_block(deeper)}"
    for key, items in value.items():
        if isinstance(items, list) and items and all(isinstance(item, Mapping) for item in items):
            body += _fold(key.replace("_", " ").capitalize(), rows_table([dict(item) for item in items]))
    return body


def _cell(value: Any, first: bool) -> str:
    return (
        f"<th>{format_number(value)}</th>" if first and isinstance(value, str) else f"<td>{format_number(value)}</td>"
    )


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _plain(value: Any) -> bool:
    return isinstance(value, int | float)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)
