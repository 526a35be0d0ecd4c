"""Expression settings, session files and reloads in the real page."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from fakes.speech import write_speech
from fakes.studio_page import generate, picture, set_slider, slider, upload

TIMEOUT = 60_000


def shot(page, name: str) -> None:
    """A picture of the page for whoever wants to look: $DGTALKER_SHOTS names the folder."""
    if folder := os.environ.get("DGTALKER_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def open_expression(page) -> None:
    page.click("#dg-expression button.label-wrap")
    page.wait_for_selector("#dg-blinks:visible")


def make_video(page) -> dict[str, list[str]]:
    """The coefficient table of a new video, by column."""
    mark_report(page)
    generate(page)
    page.wait_for_selector(".dg-status.done:not([data-seen])", timeout=TIMEOUT)
    page.wait_for_selector("#dg-generate:visible")
    with page.expect_download() as download:
        page.click("#dg-table")
    rows = list(csv.DictReader(download.value.path().read_text().splitlines()))
    return {name: [row[name] for row in rows] for name in rows[0]}


def save(page, folder: Path, name: str) -> Path:
    with page.expect_download() as download:
        page.click("#dg-save")
    assert download.value.suggested_filename == "fake-session.json"
    download.value.save_as(folder / name)
    return folder / name


def load(page, path: Path):
    """The message shown after loading."""
    mark_report(page)
    with page.expect_file_chooser() as chooser:
        page.click("#dg-load")
    chooser.value.set_files(str(path))
    return page.wait_for_selector(".dg-status:not([data-seen])").inner_text()


def mark_report(page) -> None:
    """So that an old message is not taken for the next one."""
    page.evaluate("document.querySelector('.dg-status')?.setAttribute('data-seen', '')")


def test_expression_settings_reach_the_video_and_not_the_lips(page, tmp_path):
    upload(page, write_speech(tmp_path / "speech.wav", 1.6))
    open_expression(page)
    shot(page, "expression")
    page.fill("#dg-blinks input", "0.4, 1.2")
    first = make_video(page)
    assert first["blink"][10] == first["blink"][30] == "1" and float(first["blink"][20]) < 0.1
    page.fill("#dg-blinks input", "none")
    page.fill("#dg-variant input", "3")
    second = make_video(page)
    assert set(second["blink"]) == {"0"} and second["exp1"] != first["exp1"]
    assert all(second[f"lip{n}"] == first[f"lip{n}"] for n in (1, 2, 3))
    page.fill("#dg-blinks input", "every now and then")
    generate(page)
    assert "not a time" in page.wait_for_selector(".dg-status.failed:not([data-seen])").inner_text()
    shot(page, "bad-blinks")


def test_a_session_comes_back_in_another_browser(page, open_studio, tmp_path):
    audio = write_speech(tmp_path / "speech.wav", 1.2)
    upload(page, audio)
    open_expression(page)
    page.fill("#dg-variant input", "2")
    page.fill("#dg-seed input", "9")
    page.click("#dg-camera label:has-text('By hand')")
    page.click("#dg-size label:has-text('384')")
    set_slider(page, "lip1", 1.5)
    set_slider(page, "blink", 0.3)
    page.click("[data-do=left]")
    made = make_video(page)
    saved = save(page, tmp_path, "session.json")
    values = json.loads(saved.read_text())
    assert values["curves"]["frames"] == 30 and values["camera"] == {"path": "still", "yaw": -40, "pitch": 0, "zoom": 1}
    assert "/" not in values["audio"]["name"] and str(tmp_path) not in saved.read_text()
    page.click("#dg-tabs [role=tab]:has-text('Live')")
    before = picture(page)

    other = open_studio()
    set_slider(other, "exp1", 2)
    message = load(other, saved)
    assert "speech.wav" in message and "again" in message
    shot(other, "loaded")
    assert picture(other) == before
    assert (slider(other, "lip1"), slider(other, "blink"), slider(other, "exp1")) == (1.5, 0.3, 0)
    assert other.locator("#dg-camera label.selected").inner_text() == "By hand"
    assert other.locator("#dg-size label.selected").inner_text() == "384 px"
    generate(other)
    assert "speech.wav" in other.wait_for_selector(".dg-status.failed:not([data-seen])").inner_text()
    other.wait_for_selector("#dg-generate:visible")
    again = save(other, tmp_path, "again.json")  # without the sound the curves are still there
    assert json.loads(again.read_text()) == values
    upload(other, audio)
    assert make_video(other) == made
    third = open_studio()
    assert slider(third, "lip1") == 0 and third.evaluate("window.dgtalker.state.yaw") == 0
    values = json.loads(save(third, tmp_path, "third.json").read_text())
    assert values["curves"] is values["audio"] is None and values["edits"] == {}  # nobody else's


def test_a_session_of_an_example_finds_its_sound(page, open_studio, tmp_path):
    page.click("#dg-examples :text('A woman reading')")
    page.wait_for_selector("#dg-audio input[type=file]", state="detached")
    saved = save(page, tmp_path, "session.json")
    assert json.loads(saved.read_text())["audio"]["name"] == "ljspeech-printing.flac"
    other = open_studio()
    assert load(other, saved) == "The session is loaded."
    other.wait_for_selector("#dg-audio input[type=file]", state="detached")


def test_a_loaded_session_switches_the_identity(page, tmp_path):
    set_slider(page, "lip2", -2)
    saved = save(page, tmp_path, "session.json")
    assert json.loads(saved.read_text())["curves"] is None
    page.click("[data-name=other]")
    page.wait_for_selector("#dg-lip4")
    assert load(page, saved) == "The session is loaded."
    page.wait_for_selector("#dg-exp3")
    assert slider(page, "lip2") == -2
    assert page.locator("[data-name=fake]").get_attribute("aria-checked") == "true"


def test_files_that_are_no_session_get_one_sentence(page, tmp_path):
    set_slider(page, "lip1", 1.25)
    good = save(page, tmp_path, "good.json").read_text()
    files = {
        "not a session": '{"a": 1}',
        "cut short": good[: len(good) // 2],
        "newer": good.replace('"version": 2', '"version": 9'),
        "no identity called": good.replace('"fake"', '"../../etc"'),
        "another version": good.replace(json.loads(good)["identity"]["sha256"], "0" * 64),
        "too large": " " * (33 << 20),
    }
    for word, text in files.items():
        path = tmp_path / "s.json"
        path.write_text(text)
        message = load(page, path)
        assert word in message and message.endswith(".") and len(message) < 160, message
    assert slider(page, "lip1") == 1.25


@pytest.mark.parametrize("name", ["fake", "other"])
def test_sliders_and_camera_survive_a_reload(page, name):
    if name != "fake":
        set_slider(page, "lip1", 1)
        page.click(f"[data-name={name}]")
        page.wait_for_selector("#dg-lip4")
    set_slider(page, "lip1", -1.5)
    set_slider(page, "blink", 0.5)
    page.click("[data-do=right]")
    before = picture(page)
    page.reload()
    page.wait_for_selector("canvas[data-drawn]")
    page.wait_for_selector("#dg-lip1")
    assert page.locator(f"[data-name={name}]").get_attribute("aria-checked") == "true"
    assert (slider(page, "lip1"), slider(page, "blink")) == (-1.5, 0.5) and picture(page) == before
    if name != "fake":
        page.click("[data-name=fake]")
        page.wait_for_selector("#dg-exp3")
        assert slider(page, "lip1") == 1
