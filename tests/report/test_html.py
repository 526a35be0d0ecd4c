"""The page of a report: everything in one file, everything escaped, nothing asked of the network."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.report.figures import Curves, ReportFigures, Strip
from dgtalker.report.html import render_page, write_page
from dgtalker.report.html.plots import bar_plot, line_plot, round_ticks, split_at_nan, tick_label
from dgtalker.report.html.text import format_number

EVIL = "<script>alert('x')</script>\"&"
MATRIX = {
    "rows": ["expression", "lips"],
    "columns": ["upper", "lower"],
    "change": [[2.0, 0.4], [0.1, 1.0]],
    "ratio": [[1.0, 0.2], [0.1, 1.0]],
}


def report(name="Somebody"):
    leak = {
        "lip_to_upper": 0.1, "exp_to_lower": 0.2, "matrix": MATRIX, "unit": "grey levels", "by": "geometry",
        "coefficients": {"exp1": {"own": 1.0, "ratio": 0.2}, "lip1": {"own": 1.0, "ratio": float("nan")}},
    }  # fmt: skip
    return {
        "identity": name,
        "dataset": name,
        "clips_total": 2,
        "frames": 1234,
        "self_driven": {"psnr": 31.234, "lmd_px": 2.0, "aperture_r": float("nan")},
        "baselines": {"static": {"psnr": 20.0, "lmd_px": 3.0, "aperture_r": 0.0}},
        "leakage": leak,
        "leakage_landmarks": leak | {"detector": leak},
        "swap": {"psnr_upper": 50.0, "lmd_lower": 0.1, "baselines": {"static": {"psnr_upper": 30.0, "lmd_lower": 1.0}}},
        "views": {"psnr": None, "lmd_px": None, "by_yaw": None, "reason": f"no truth {name}"},
        "something_new": {"figure": 0.5, "of": {"a": {"r": 0.25}}, "rows": [{"voice": name, "r": 0.125}]},
        "clips": [{"name": name, "psnr": 31.0}],
        "hashes": {"identity": "0123456789abcdef"},
    }


def report_figures(name="Somebody"):
    shown = ReportFigures()
    face = np.full((16, 16, 3), 200, np.uint8)
    shown.add("self_driven", Strip(name, {name: [face] * 3}, (name, "b", "c")))
    shown.add("blink", Strip("unseen block", {"": [face]}))
    lines = {name: np.array([1.0, np.nan, 2.0, 3.0]), "other": np.zeros(4)}
    shown.add("self_driven", Curves(name, name, name, np.arange(4.0), lines))
    return shown


class Reader(HTMLParser):
    """Collects tags, attributes and whether all that was opened is closed."""

    void = ("meta", "img", "br", "line", "polyline", "circle", "rect")

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "action", "srcset")]
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


def test_page_is_well_formed_and_self_contained():
    text = render_page(report(), report_figures(), "Somebody")
    reader = Reader(text)
    assert reader.open == [] and "script" not in reader.tags and "link" not in reader.tags
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in reader.links)
    assert not re.search(r"https?://|url\(|@import", text)


def test_all_text_is_escaped():
    text = render_page(report(EVIL), report_figures(EVIL), EVIL)
    assert "script" not in Reader(text).tags and EVIL not in text and "<script>" not in text
    assert text.count("&lt;script&gt;") > 8


def test_figures_and_targets_are_on_the_page():
    text = render_page(report(), report_figures())
    assert "31.23" in text and "target met: ≥ 30" in text and "target missed: ≤ 1.5" in text
    assert "Not measured: no truth Somebody." in text
    assert text.count('class="matrix"') == 3 and "1234 frames" in text


def test_blocks_it_never_heard_of_are_tables():
    text = render_page(report(), report_figures())
    assert 'id="something_new"' in text and "Something new" in text and "0.125" in text and "0.250" in text


def test_missing_numbers_are_dashes():
    assert format_number(float("nan")) == format_number(None) == "–"
    assert (
        format_number(0.0) == "0.000"
        and format_number(1e-5) == "1.0e-05"
        and format_number(12.345) == "12.35"
        and format_number(3) == "3"
    )


def test_lines_break_where_nothing_was_seen():
    x = np.arange(5.0)
    assert [len(run) for run in split_at_nan(x, np.array([1, np.nan, 2, 3, np.nan]))] == [1, 2]
    svg = line_plot(Curves("t", "x", "y", x, {"a": np.array([1, np.nan, 2, 3, 4])}))
    assert svg.count("<polyline") == 2 and "nan" not in svg
    assert line_plot(Curves("t", "x", "y", x, {"a": np.full(5, np.nan)})) == ""
    assert line_plot(Curves("t", "x", "y", x[:1], {"a": np.ones(1)})).count("<circle") == 1


def test_bars_show_what_is_over_the_mark():
    svg = bar_plot("t", {"a": 0.01, "b": 0.3, "c": float("nan")}, mark=0.05)
    assert svg.count('class="bar over"') == 1 and svg.count("<rect") == 3 and svg.count('class="mark"') == 1
    assert bar_plot("t", {"a": float("nan")}) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-60, 60), (27.1, 28.3), (0, 0), (1e-4, 3e-4), (5, 5)])
def test_ticks_are_few_round_and_enclose(low, high):
    found = round_ticks(low, high, 5)
    assert 2 <= len(found) <= 9 and found[0] <= low and found[-1] >= high
    assert all(len(tick_label(t)) <= 8 for t in found)


def test_page_is_written_or_refused_in_words(tmp_path):
    path = write_page(tmp_path / "new" / "page.html", report(), report_figures())
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_page(tmp_path / "file" / "page.html", report(), report_figures())


def test_self_driven_shows_phones_and_the_variants_that_were_measured():
    told = report()
    told["self_driven"]["phones"] = {"closures": 0, "note": f"no words {EVIL}"}
    assert "Phones not measured: no words &lt;script" in render_page(told, report_figures())
    told["self_driven"] |= {"closure_hit_rate": 0.8125, "phones": {
        "closures": 16, "roundings": 3, "true_lips": {"closure_hit_rate": 0.9375},
        "random_times": {"closure_hit_rate": 0.25}, "note": None,
    }}  # fmt: skip
    told["baselines"] |= {
        "no_swap": {"psnr": 33.25, "leakage": {"lip_to_upper": 0.6875, "exp_to_lower": 0.5, "matrix": MATRIX}},
        "one_basis": {"reason": "not trained"},
    }
    text = render_page(told, report_figures())
    for figure_ in ("0.812", "0.938", "16 times", "no swapping", "33.25", "0.688"):
        assert figure_ in text
    assert "<th>one basis</th>" not in text


def test_pictures_and_lips_have_a_table_each_and_what_is_missing_is_said():
    told = report()
    told["self_driven"] |= {"psnr_rim": 24.125, "aperture_slope": 0.75, "st_lpips": None, "st_lpips_note": f"no {EVIL}"}
    text = render_page(told, report_figures())
    section = text[text.index('<section id="self_driven"') : text.index('<section id="leakage"')]
    pictures, lips = section.split("<table>")[1:3]
    assert "24.12" in pictures and "0.750" in lips and "24.12" not in lips and "0.750" not in pictures
    assert "ST-LPIPS not measured: no &lt;script" in section and "target missed: ≥ 0.9" in text
