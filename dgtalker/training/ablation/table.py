"""The table of an ablation, one row per variant, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgtalker.training.ablation.variants import Variant
    from dgtalker.video.dataset import Clip, Dataset

COLUMNS = (  # heading, keys of the figure in a row, decimals
    ("PSNR, dB", ("psnr",), 2),
    ("mouth, dB", ("psnr_mouth",), 2),
    ("lips, px", ("lmd_px",), 2),
    ("opening, r", ("aperture_r",), 3),
    ("closures", ("closure_hit_rate",), 2),
    ("swap: upper, dB", ("swap", "psnr_upper"), 1),
    ("swap: lips, px", ("swap", "lmd_lower"), 2),
)
LEAKAGE_COLUMNS = (  # heading, keys of the leakage in a row; both ratios share a cell
    ("leakage", ("leakage",)),
    ("in landmarks", ("leakage_landmarks",)),
    ("as trained", ("trained", "leakage")),
)
LEGEND = (
    "Leakage: lips to upper face / expression to lower face, change there over change in their own half; as trained: "
    "before leakage removal, through the generator. Swap: expression of one clip with the lips of another, each half "
    "against the clip it came from; lips and landmarks in pixels at 256."
)


def make_table(
    records: Mapping[Variant, Mapping], dataset: Dataset, test: Dataset, clips: Sequence[Clip], seed: int
) -> dict:
    """The table as JSON: {dataset, test, clips, frames, seed, rows: [{name, says, settings, seconds, figures ...}]}.

    records: those of finished variants.
    """
    return {
        "dataset": dataset.folder.name,
        "test": test.folder.name,
        "clips": len(clips),
        "frames": sum(len(clip) for clip in clips),
        "seed": seed,
        "rows": [
            {
                "name": variant.name,
                "says": variant.says,
                **record["figures"],
                "settings": record["settings"],
                "seconds": record["seconds"],
            }
            for variant, record in records.items()
        ],
    }


def format_markdown(table: Mapping[str, Any]) -> str:
    """The table in Markdown, followed by what each variant changes."""
    heads = ["variant", *(head for head, _, _ in COLUMNS), *(head for head, _ in LEAKAGE_COLUMNS)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in table["rows"]:
        cells = [_format_number(_look_up(row, place), digits) for _, place, digits in COLUMNS]
        for _, place in LEAKAGE_COLUMNS:
            leak = _look_up(row, place) or {}
            cells.append(" / ".join(_format_number(leak.get(key), 2) for key in ("lip_to_upper", "exp_to_lower")))
        lines.append("| " + " | ".join([f"`{row['name']}`", *cells]) + " |")
    descriptions = [f"* `{row['name']}`: {row['says']}" for row in table["rows"]]
    measured = (
        f"{table['clips']} held-out clips of {table['test']} ({table['frames']} frames), trained on "
        f"{table['dataset']}, seed {table['seed']}."
    )
    return "\n".join([*lines, "", f"{measured} {LEGEND}", "", *descriptions, ""])


def _look_up(row: Mapping[str, Any], place: Sequence[str]) -> Any:
    value: Any = row
    for key in place:
        value = (value or {}).get(key)
    return value


def _format_number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) and math.isfinite(value) else "–"
