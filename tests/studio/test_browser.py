"""The app as its users meet it: every test drives the real page in Chromium against a running app.py."""

from __future__ import annotations

import json
import re
import urllib.request

import numpy as np
import pytest
import soundfile
from fakes.speech import RATE, write_speech
from fakes.studio_page import generate, picture, set_slider, slider, upload

SERVER_FUNCTIONS = re.compile("component_server")


def test_opens_with_a_picture_and_asks_no_other_host(app, browser):
    context = browser.new_context()
    page = context.new_page()
    foreign, errors = [], []
    page.on("request", lambda r: None if r.url.startswith((app, "data:", "blob:")) else foreign.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(app)
    page.wait_for_selector("canvas[data-drawn]", timeout=20_000)
    assert "fake" in page.locator("#dg-viewport canvas").get_attribute("aria-label")
    pixels = page.evaluate("[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 300, 300).data]")
    assert min(pixels) < 200  # a head, not a blank page
    assert page.locator("#dg-sliders input[type=range]").count() == 3 + 3 + 1
    assert "CPU" in page.locator(".readout").inner_text() or "GPU" in page.locator(".readout").inner_text()
    assert foreign == [] and errors == []
    context.close()


def test_orbit_by_mouse_wheel_and_keyboard(page):
    front = picture(page)
    box = page.locator("#dg-viewport canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y + 20, steps=6)
    page.mouse.up()
    assert page.evaluate("window.dgtalker.state.yaw") > 20  # dragging to the left brings the camera to the right
    turned = picture(page)
    assert turned != front
    page.keyboard.press("Home")
    assert picture(page) == front
    page.locator("#dg-viewport canvas").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("window.dgtalker.state.yaw") == 5
    by_key = picture(page)
    assert by_key not in (front, turned)
    page.mouse.wheel(0, -300)
    assert picture(page) != by_key


def test_sliders_change_the_picture_and_resets_restore_it(page):
    rest = picture(page)
    set_slider(page, "lip1", 2.5)
    opened = picture(page)
    assert opened != rest
    page.locator("#dg-lip1").dblclick(force=True)
    assert slider(page, "lip1") == 0 and picture(page) == rest
    set_slider(page, "lip1", 2.5)
    set_slider(page, "exp1", -2)
    set_slider(page, "blink", 1)
    page.click("text=Reset upper face")
    assert (slider(page, "exp1"), slider(page, "blink"), slider(page, "lip1")) == (0, 0, 2.5)
    assert picture(page) == opened
    set_slider(page, "exp2", 1)
    page.click("text=Reset all")
    assert slider(page, "exp2") == slider(page, "lip1") == 0 and picture(page) == rest
    set_slider(page, "blink", 1)
    assert picture(page) != rest


def test_arrow_keys_move_a_slider_off_zero_and_back(page):
    rest = picture(page)
    page.locator("#dg-lip1").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert slider(page, "lip1") == pytest.approx(0.3) and picture(page) != rest
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert slider(page, "lip1") == 0 and picture(page) == rest
    page.locator("#dg-blink").focus()
    page.keyboard.press("ArrowLeft")
    assert slider(page, "blink") == 0  # it ends there


def test_dragging_a_slider_keeps_pictures_coming(page):
    picture(page)
    box = page.locator("#dg-lip1").bounding_box()
    before = int(page.locator("canvas").get_attribute("data-drawn"))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(box["x"] + box["width"] * (0.5 + 0.4 * np.sin(step / 6)), box["y"] + box["height"] / 2)
        page.wait_for_timeout(16)
    page.mouse.up()
    latencies = page.evaluate("document.querySelector('canvas').dgtalkerLatencies")
    drawn = int(page.locator("canvas").get_attribute("data-drawn")) - before
    print(f"{drawn} pictures, p95 {np.percentile(latencies, 95):.0f} ms")
    assert drawn > 10
    assert np.median(latencies) < 250  # far above the target of 60 ms: this machine may be busy
    value = slider(page, "lip1")  # the last value won
    shown = picture(page)
    page.click("text=Reset all")
    set_slider(page, "lip1", value)
    assert picture(page) == shown


def test_switching_identity_changes_the_sliders_and_keeps_each_ones_values(page):
    set_slider(page, "lip2", 1.5)
    page.click("[data-name=other]")
    page.wait_for_selector("#dg-lip4")
    assert page.locator("#dg-sliders input[type=range]").count() == 2 + 4 + 1
    assert slider(page, "lip2") == 0
    page.click("[data-name=fake]")
    page.wait_for_selector("#dg-exp3")
    assert slider(page, "lip2") == 1.5
    page.click("[data-name=zz-damaged]")
    page.wait_for_selector(".overlay.error")
    assert page.locator(".overlay-text").inner_text().count(".") >= 1
    assert slider(page, "lip2") == 1.5  # still there, and still the one shown as chosen
    assert page.locator("[data-name=fake]").get_attribute("aria-checked") == "true"


def test_sliders_say_what_they_do_and_pictures_show_it(page):
    assert page.locator("label[for=dg-lip2]").inner_text() == "Lip 2"  # the first identity was never described
    assert not page.locator(".sheet").is_visible()
    page.click("[data-name=named]")
    page.wait_for_selector("label[for=dg-lip2]:has-text('rounding')")
    assert page.locator("label[for=dg-lip2]").inner_text() == "Lip 2 · rounding"
    assert "61%" in page.locator("label[for=dg-lip2]").get_attribute("title")
    edges = page.locator("#dg-lip2").evaluate(
        "e => ['--low', '--high'].map((k) => parseFloat(e.style.getPropertyValue(k)))"
    )
    assert [round(edge) for edge in edges] == [25, 92]  # -1.5 and 2.5 of -3 .. 3
    assert page.locator(".sheet .strip").count() == 0  # fetched when looked at
    rest = picture(page)
    page.click(".sheet summary")
    page.wait_for_selector(".sheet .strip")
    assert page.locator(".sheet .strip").count() == 3 + 3
    strip = page.locator(".sheet .strip[data-name=lip2]")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert abs(box["width"] / box["height"] - 7) < 0.2
    page.mouse.click(box["x"] + box["width"] * 6.5 / 7, box["y"] + box["height"] / 2)  # the last picture
    assert slider(page, "lip2") == 3 and picture(page) != rest
    page.click("[data-name=fake]")
    page.wait_for_selector("label[for=dg-lip2]:not(:has-text('rounding'))")
    assert not page.locator(".sheet").is_visible()


def test_face_controls_are_a_group_of_their_own_and_survive_a_reload(page):
    assert not page.locator("section[data-group=face]").is_visible()  # the first identity has none
    page.click("[data-name=named]")
    page.wait_for_selector("label[for=dg-smile]:has-text('Smile')")
    assert page.locator("section[data-group=face] input").count() == 4 and slider(page, "smile") == 0
    rest = picture(page)
    set_slider(page, "smile", 0.8)
    smiling = picture(page)
    assert smiling != rest and page.evaluate("window.dgtalker.view().face") == [0.8, 0, 0, 0]
    set_slider(page, "lip1", 2)
    page.click("text=Reset lips")
    assert slider(page, "smile") == 0.8 and picture(page) == smiling
    page.wait_for_timeout(200)
    page.reload()
    page.wait_for_selector("#dg-smile")
    assert slider(page, "smile") == 0.8
    page.click("text=Reset face")
    assert slider(page, "smile") == 0 and picture(page) == rest


def test_upload_generate_play_and_download(page, tmp_path):
    upload(page, write_speech(tmp_path / "speech.wav", 1.2))
    set_slider(page, "lip1", 1)
    generate(page)
    page.wait_for_selector(".dg-status.done", timeout=40_000)
    page.wait_for_function("document.querySelector('#dg-video video')?.readyState >= 2")
    video = page.evaluate(
        "(() => { const v = document.querySelector('#dg-video video');"
        " return { seconds: v.duration, width: v.videoWidth, error: v.error }; })()"
    )
    assert video["error"] is None and video["width"] == 256 and abs(video["seconds"] - 1.2) <= 0.05
    with page.expect_download() as download:
        page.click("#dg-table")
    lines = download.value.path().read_text().splitlines()
    assert "lip1" in lines[0] and len(lines) == 1 + 30
    assert page.locator("#dg-generate").is_visible() and not page.locator("#dg-cancel").is_visible()
    set_slider(page, "lip1", 2)  # touching a slider brings the live view back
    page.wait_for_function("document.querySelector('#dg-viewport canvas').offsetParent !== null")


def make_bad(kind: str, folder):
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "silent":
        soundfile.write(path, np.zeros(RATE), RATE)
    elif kind == "corrupt":
        path.write_bytes(b"RIFF" + bytes(range(256)) * 20)
    elif kind == "long":
        soundfile.write(path, np.full(40 * 8000, 0.1), 8000)
    return path


def test_bad_audio_gets_one_sentence_and_loses_nothing(page, tmp_path):
    set_slider(page, "lip1", 1.25)
    words = {"none": "no audio", "empty": "empty", "silent": "silent", "corrupt": "can be read", "long": "limit"}
    for kind, word in words.items():
        if kind != "none":
            upload(page, make_bad(kind, tmp_path))
        generate(page)
        message = page.wait_for_selector(f".dg-status.failed:has-text('{word}')").inner_text()
        assert message.endswith(".") and len(message) < 160 and "Traceback" not in message, message
        page.wait_for_selector("#dg-generate:visible")
        if kind != "none":
            page.click("#dg-audio [aria-label='Clear']")
            page.wait_for_selector("#dg-audio input[type=file]", state="attached")
    assert slider(page, "lip1") == 1.25


def test_cancel_stops_the_job_and_another_one_can_follow(page, tmp_path):
    upload(page, write_speech(tmp_path / "speech.wav", 29))
    generate(page)
    page.wait_for_selector("#dg-cancel:visible")
    page.wait_for_selector(".dg-status.working")
    page.locator("#dg-cancel").dispatch_event("click")  # at once: the page may still be settling under a real pointer
    page.wait_for_selector(".dg-status.cancelled", timeout=15_000)
    page.wait_for_selector("#dg-generate:visible")
    page.wait_for_timeout(500)
    assert page.locator(".dg-status.cancelled").count() == 1  # no late report of the stopped job
    for _ in range(2):  # a job that is not even begun when the next one follows
        generate(page)
        page.wait_for_selector("#dg-cancel:visible")
        page.locator("#dg-cancel").dispatch_event("click")
        page.wait_for_selector("#dg-generate:visible")
    page.click("#dg-audio [aria-label='Clear']")
    page.wait_for_selector("#dg-audio input[type=file]", state="attached")
    upload(page, write_speech(tmp_path / "short.wav", 0.5))
    generate(page)
    page.wait_for_selector(".dg-status.done")
    page.wait_for_timeout(500)
    assert page.locator(".dg-status.done").count() == 1 and page.locator("#dg-generate:visible").count() == 1


def test_two_users_do_not_share_anything(open_studio):
    first, second = open_studio(), open_studio()
    rest = picture(second)
    set_slider(first, "lip1", 3)
    first.click("[data-do=left]")
    assert picture(first) != rest
    assert slider(second, "lip1") == 0
    second.click("[data-do=in]")
    second.click("[data-do=front]")
    assert picture(second) == rest
    third = open_studio()
    assert slider(third, "lip1") == 0 and picture(third) == rest


def test_a_lost_connection_is_said_and_mended(page):
    picture(page)
    page.route(SERVER_FUNCTIONS, lambda route: route.abort())
    set_slider(page, "lip1", 2)
    page.wait_for_selector(".overlay.error:has-text('connection was lost')")
    page.unroute(SERVER_FUNCTIONS)
    page.wait_for_selector(".overlay.hidden", state="attached", timeout=10_000)


def test_exports(page):
    for action, suffix, magic in (("snapshot", ".png", b"\x89PNG"), ("export", ".ply", b"ply\n")):
        with page.expect_download() as download:
            page.click(f"[data-do={action}]")
        assert download.value.suggested_filename.endswith(suffix)
        assert download.value.path().read_bytes().startswith(magic)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"blink": None}, "blink"),
        ({"lip": [0, "1", 0]}, "lip2"),
        ({"size": "large"}, "size"),
        ({"exp": [0] * 99}, "sliders"),
        ({"identity": "../../etc"}, "identity"),
        ({"identity": None}, "identity"),
    ],
)
def test_the_server_answers_nonsense_with_a_sentence(app, change, word):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    config = json.load(opener.open(app + "config", timeout=20))
    viewport = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "dg-viewport")
    body = {"data": {"identity": "fake"} | change, "component_id": viewport, "fn_name": "frame", "session_hash": "x"}
    request = urllib.request.Request(
        app + "gradio_api/component_server/", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    problem = json.load(opener.open(request, timeout=20))["problem"]
    assert word in problem and problem.endswith(".")
