"""The model card's section about coefficients: a table and the contact sheet."""

from __future__ import annotations

import re

from dgtalker.identity import COEFFICIENT_SHEET_FILE, Identity

HEADING = "## Coefficients"


def coefficients_section(identity: Identity) -> str:
    """Markdown; empty for an identity without descriptions."""
    rows = identity.descriptions
    if not rows:
        return ""
    lines = [
        HEADING,
        "",
        "In training standard deviations; positive opens the mouth, or raises brows and lids. Names come from the "
        "splats' motion: match is the share of it that the name explains. Purity is the share of the picture's change "
        "that stays in the coefficient's own half of the face; range the middle 99 % over the "
        f"{identity.config['coefficients'].get('range_from')}; motion the mean over the visible face, in millimetres "
        "for one standard deviation.",
        "",
        "| coefficient | what it does | match | purity | range | motion |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        purity = "" if row["purity"] is None else f"{row['purity']:.2f}"
        lines.append(
            f"| {name} | {row['name']} | {row['match']:.2f} | {purity} | {row['low']:.1f} to {row['high']:.1f} "
            f"| {row['motion_mm']:.2f} |"
        )
    return "\n".join([*lines, "", f"![every coefficient from -3 to 3]({COEFFICIENT_SHEET_FILE})", ""])


def replace_coefficients_section(card: str, identity: Identity) -> str:
    """Replace the card's section, or insert it before "## Use" or at the end; the rest stays as it is."""
    section = coefficients_section(identity)
    rest = re.sub(rf"(?ms)^{HEADING}\n.*?(?=^## |\Z)", "", card)
    if not section:
        return rest
    place = re.search(r"(?m)^## Use$", rest)
    if place:
        return f"{rest[: place.start()]}{section}\n{rest[place.start() :]}"
    return f"{rest.rstrip()}\n\n{section}"
