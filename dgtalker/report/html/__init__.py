"""The report as one page: tables, plots and frames in a single HTML file that loads nothing from the network.

All text is escaped; pictures are data URLs; plots are inline SVG.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dgtalker.errors import UserError
from dgtalker.report.figures import ReportFigures
from dgtalker.report.html.plots import line_plot, strip_figure
from dgtalker.report.html.sections import card_grid, ordered_blocks, section_body, section_texts
from dgtalker.report.html.text import escape, raw_json

STYLE = Path(__file__).with_name("page.css")


def write_page(path: str | Path, report: Mapping[str, Any], report_figures: ReportFigures, title: str = "") -> Path:
    """Write the page of an `evaluate` report; unknown blocks become plain tables.

    Raises UserError if the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_page(report, report_figures, title), encoding="utf-8")
    except OSError as error:
        raise UserError(f"The page {path} cannot be written: {error.strerror or error}.") from error
    return path


def render_page(report: Mapping[str, Any], report_figures: ReportFigures, title: str = "") -> str:
    """The page's HTML."""
    name = title or str(report.get("identity", "identity"))
    sections = [_section(block, report, report_figures) for block in ordered_blocks(report)]
    links = "".join(
        f'<a href="#{escape(block)}">{escape(section_texts(block)[0])}</a>' for block in ordered_blocks(report)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(name)}: evaluation</title>
<style>{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<main>
<header>
<p class="over">DGTalker evaluation</p>
<h1>{escape(name)}</h1>
<p class="lead">{_lead(report)}</p>
</header>
{card_grid(report)}
<nav>{links}</nav>
{"".join(sections)}
<details class="raw"><summary>The whole report as JSON</summary><pre>{raw_json(report)}</pre></details>
</main>
</body>
</html>
"""


def _lead(report: Mapping[str, Any]) -> str:
    clips = len(report.get("clips") or ())
    text = f"{clips} of {report.get('clips_total', clips)} held-out clips of {report.get('dataset', 'a data set')}"
    text += f", {report.get('frames', 0)} frames"
    hashes = report.get("hashes") or {}
    marks = ", ".join(f"{key} {str(value)[:12]}" for key, value in hashes.items())
    return f"{escape(text)}.<br><span class='hash'>{escape(marks)}</span>"


def _section(block: str, report: Mapping[str, Any], report_figures: ReportFigures) -> str:
    title, words = section_texts(block)
    plots = "".join(line_plot(curves) for curves in report_figures.curves.get(block, ()))
    strips = "".join(strip_figure(strip) for strip in report_figures.strips.get(block, ()))
    return (
        f'<section id="{escape(block)}"><h2>{escape(title)}</h2><p class="words">{escape(words)}</p>'
        f'{section_body(block, report)}<div class="plots">{plots}</div>{strips}</section>'
    )
