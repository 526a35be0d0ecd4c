"""The player's page, opened from disk in headless Chromium: it plays, moves and says what is wrong."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from fakes.renderer_page import READ, decibels
from fakes.speech import RATE, syllables

from dgtalker.camera import orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.performance.curves import Performance
from dgtalker.performance.recording import Recording
from dgtalker.performance.session import Session
from dgtalker.render import render_frame
from dgtalker.web.player import write_player

SECONDS = 8.0
FRAMES = round(25 * SECONDS)
RECORD = """() => {
    const { view, audio } = dgtalker, set = view.set.bind(view);
    view.set = (settings) => {
        if (settings.exp) window.posed = { ...settings, seconds: audio.currentTime };
        set(settings);
    };
}"""


@pytest.fixture(scope="session")
def head(fake_identity_with_controls):
    identity = Identity.from_pretrained(fake_identity_with_controls)
    identity.config |= {
        "title": "Fake <b>person</b>",
        "attribution": "Nobody & co (https://example.org/a?b=1).\n\nMore.",
        "license": "cc0-1.0",
    }
    return identity


@pytest.fixture(scope="session")
def talk(head, tmp_path_factory) -> Performance:
    """Eight seconds of slow curves, and a sound of that length."""
    sound = tmp_path_factory.mktemp("sound") / "speech.wav"
    soundfile.write(sound, syllables(SECONDS), RATE)
    time = (np.arange(FRAMES) + 0.5) / 25
    a_exp = np.stack([np.sin(time / 2), 0 * time, 0.5 * np.cos(time)], axis=1).astype(np.float32)
    a_lip = np.stack([0.6 * np.sin(time), 0.3 * np.cos(time), 0 * time], axis=1).astype(np.float32)
    curves = Performance._of(head, a_exp, a_lip, np.zeros(FRAMES, np.float32))
    return replace(curves, sound=Recording.of(sound))


@pytest.fixture
def file(head, talk, tmp_path):
    return write_player(head, talk, tmp_path / "talk.html")


@pytest.fixture
def open_player(browser):
    """Call it with a file: the page that shows it, and the addresses that it asked for."""
    contexts = []

    def open_it(file, script: str = "", size: int = 420, **options):
        context = browser.new_context(viewport={"width": size, "height": 620}, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(180_000)
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(file.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()


def read_view(page) -> np.ndarray:
    picture = page.evaluate_handle("dgtalker.view").evaluate(READ)
    values = np.frombuffer(base64.b64decode(picture["data"]), np.uint8)
    return values.reshape(picture["height"], picture["width"], 4)[..., :3]


def expected_at(head, talk, seconds: float, size: int, **offsets) -> np.ndarray:
    """What the CPU draws of the curves at that moment."""
    edited = talk.edit(**offsets)
    moment = np.clip(seconds * 25 - 0.5, 0, FRAMES - 1)
    at = [
        np.stack([np.interp(moment, np.arange(FRAMES), column) for column in curves.T]).astype(np.float32)
        for curves in (edited.a_exp, edited.a_lip)
    ]
    return render_frame(head.frame(*at), orbit_camera(size=size))


def test_press_play_drag_a_slider_and_the_same_moments_look_different(head, talk, file, open_player):
    page = open_player(file)
    page.wait_for_selector(".live")
    page.click("#start")
    page.wait_for_function("() => dgtalker.audio.currentTime > 0.3")
    assert page.evaluate("() => document.querySelector('#player').classList.contains('playing')")
    page.click("#controls summary")
    page.locator("#slider-lip1").scroll_into_view_if_needed()
    page.evaluate(RECORD)
    box = page.locator("#slider-lip1").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 5, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    moved = page.evaluate("() => dgtalker.sliders.offsets.lip1")
    assert moved == pytest.approx(float(head.ranges[3, 1]))
    first = page.evaluate("() => dgtalker.audio.currentTime")
    page.evaluate("() => dgtalker.view.drawn")
    page.evaluate("() => new Promise((done) => dgtalker.view.addEventListener('drawn', done, { once: true }))")
    begin = page.evaluate("() => window.posed.seconds")
    picture = read_view(page)
    end, paused = page.evaluate("() => [window.posed.seconds, dgtalker.audio.paused]")
    assert begin > first and paused is False  # the clock runs on
    size, moments = picture.shape[0], np.linspace(begin, end, 9)  # the picture is of one of them
    with_it = max(decibels(picture, expected_at(head, talk, t, size, lip1=moved)) for t in moments)
    without = max(decibels(picture, expected_at(head, talk, t, size)) for t in moments)
    assert with_it > 38 and with_it > without + 8, (with_it, without)
    assert all(url.startswith(("file:", "blob:", "data:")) for url in page.requested)  # nothing is fetched


def test_a_moment_between_frames_is_that_of_the_curves(head, talk, file, open_player):
    page = open_player(file)
    page.wait_for_selector(".live")
    for seconds in (0.5, 3.27, 7.99):
        page.evaluate(
            """async (seconds) => {
                dgtalker.audio.currentTime = seconds;
                await new Promise((done) => dgtalker.audio.addEventListener("seeked", done, { once: true }));
                for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
            }""",
            seconds,
        )
        page.wait_for_timeout(400)  # at rest it is drawn in full size
        picture = read_view(page)
        assert decibels(picture, expected_at(head, talk, seconds, picture.shape[0])) >= 45, seconds


def test_keys_seek_loop_volume_and_speed(file, open_player):
    page = open_player(file)
    page.wait_for_selector(".live")
    page.focus("#canvas")
    page.keyboard.press("Space")
    page.wait_for_function("() => !dgtalker.audio.paused && dgtalker.audio.currentTime > 0.1")
    page.keyboard.press("Space")
    assert page.evaluate("() => dgtalker.audio.paused")
    page.fill("#seek", "4")
    assert page.evaluate("() => dgtalker.audio.currentTime") == pytest.approx(4, abs=0.05)
    assert page.inner_text("#time") == "0:04 / 0:08"
    page.click("#loop")
    page.fill("#volume", "0.25")
    page.select_option("#speed", "1.5")
    state = page.evaluate("() => { const a = dgtalker.audio; return [a.loop, a.volume, a.playbackRate]; }")
    assert state == [True, 0.25, 1.5] and page.get_attribute("#loop", "aria-pressed") == "true"


def test_holding_a_value_is_told_apart_from_adding_to_the_speech(head, file, open_player):
    page = open_player(file)
    page.wait_for_selector(".live")
    page.evaluate(RECORD)
    page.evaluate("() => { dgtalker.audio.currentTime = 1.5; dgtalker.sliders.set('lip1', 1); }")
    speech = 0.6 * np.sin(1.5)
    page.wait_for_function("(value) => window.posed && Math.abs(posed.lip[0] - value) < 0.01", arg=1 + speech)
    row = page.locator(".row", has=page.locator("#slider-lip1"))
    page.click("#controls summary")
    assert row.locator("button").inner_text() == "+1.00"
    page.check("[name=mode][value=hold]", force=True)
    page.wait_for_function("() => Math.abs(posed.lip[0] - 1) < 1e-5")
    assert row.locator("button").inner_text() == "= 1.00"
    other = page.locator(".row", has=page.locator("#slider-lip2")).locator("button")
    assert other.inner_text() == "speech"
    page.click("#reset")
    page.wait_for_function("(value) => Math.abs(posed.lip[0] - value) < 0.01", arg=speech)


def test_the_face_blinks_while_it_waits(file, browser):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(file.as_uri())
    page.wait_for_selector(".live")
    page.evaluate(RECORD)
    page.wait_for_function("() => window.posed && posed.exp[1] > 0.5")  # exp2 shuts the eyes
    assert page.evaluate("() => dgtalker.audio.currentTime") == 0
    context.close()


def test_the_page_says_what_it_is(head, file, open_player):
    page = open_player(file)
    assert page.inner_text("h1") == "Fake <b>person</b>"
    assert page.inner_text(".badge") == "Synthetic" and "never said this" in page.inner_text("footer")
    page.click("#about summary")
    assert "Nobody & co" in page.inner_text("#about") and "cc0-1.0" in page.inner_text("#about")
    assert page.get_attribute("#about a", "href") == "https://example.org/a?b=1"
    assert not page.locator("#controls").evaluate("(element) => element.open")


def test_in_a_sandboxed_frame(file, open_player):
    outer = file.with_name("outer.html")
    outer.write_text(f'<iframe sandbox="allow-scripts" src="{file.name}" width="300" height="400"></iframe>')
    page = open_player(outer)
    frame = page.frame_locator("iframe")
    frame.locator(".live").wait_for()
    frame.locator("#play").click()
    frame.locator(".playing").wait_for()


def test_without_webgl_the_still_picture_and_the_sound_stay(file, open_player):
    page = open_player(file, "HTMLCanvasElement.prototype.getContext = () => null;")
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#notice").startswith("This browser has no WebGL2")
    assert page.locator("#poster").is_visible() and page.locator(".live").count() == 0
    page.click("#play")
    page.wait_for_selector(".playing")


def test_a_damaged_page_keeps_its_still_picture(file, open_player):
    text = file.read_text()
    start = text.index('id="head-data">') + len('id="head-data">')
    file.write_text(text[: start + 4000] + text[start + 8000 :])
    page = open_player(file)
    page.wait_for_selector("#notice:not([hidden])")
    assert "damaged or cut short" in page.inner_text("#notice")
    assert page.locator("#poster").is_visible() and page.is_enabled("#play")


def test_a_lost_context_shows_the_still_picture_until_it_is_back(file, open_player):
    page = open_player(file)
    page.wait_for_selector(".live")
    page.evaluate(
        """() => {
            window.lose = dgtalker.view.canvas.getContext("webgl2").getExtension("WEBGL_lose_context");
            lose.loseContext();
        }"""
    )
    page.wait_for_selector("#player:not(.live)")
    assert "graphics card was lost" in page.inner_text("#notice") and page.locator("#poster").is_visible()
    page.evaluate("() => lose.restoreContext()")
    page.wait_for_selector(".live")
    assert page.locator("#notice").is_hidden()


# -- writing ----------------------------------------------------------------------------------------------------------


def test_the_file_is_the_same_every_time_and_names_no_path(head, talk, file, tmp_path):
    again = write_player(head, talk, tmp_path / "again.html")
    assert again.read_bytes() == file.read_bytes()
    assert str(talk.sound.source.parent) not in file.read_text()


def test_cameras_of_the_start(head, talk, tmp_path):
    def described(camera):
        text = write_player(head, talk, tmp_path / "talk.html", camera).read_text()
        values = json.loads(re.search(r'id="talk-data">(.*?)</script>', text)[1])
        return values["camera"], values["spiral"]

    assert described("front") == ({"yaw": 0, "pitch": 0, "zoom": 1}, False)
    assert described("spiral") == ({"yaw": 0, "pitch": 0, "zoom": 1}, True)
    assert described((20, -5)) == ({"yaw": 20, "pitch": -5, "zoom": 1}, False)
    assert described((20, -5, 1.5)) == ({"yaw": 20, "pitch": -5, "zoom": 1.5}, False)


def test_bad_input_is_one_sentence(head, talk, identity, tmp_path):
    page = tmp_path / "talk.html"
    with pytest.raises(UserError, match="must end in .html"):
        write_player(head, talk, tmp_path / "talk.mp4")
    with pytest.raises(UserError, match="no sound"):
        write_player(head, replace(talk, sound=None), page)
    for camera in ("sideways", (1,), (1, 2, 3, 4), None):
        with pytest.raises(UserError, match="A player's camera"):
            write_player(head, talk, page, camera)
    with pytest.raises(UserError, match="pitch"):
        write_player(head, talk, page, (0, 95))
    with pytest.raises(UserError, match="other|not those"):
        write_player(head, replace(talk, identity="other"), page)
    assert not page.exists()


def test_session_of_the_command_is_shown_with_its_edits(head, talk, tmp_path):
    from fakes.command_line import run_command

    session = Session(head.name, edits={"lip1": 1.0}, audio=None, curves=replace(talk, sound=None))
    session.save(tmp_path / "talk.json")
    arguments = [head.folder, talk.sound.source, "-o", tmp_path / "talk.html", "--session", tmp_path / "talk.json"]
    code, _, err = run_command("player", *arguments, "--set", "smile=0.5")
    assert code == 0, err
    text = (tmp_path / "talk.html").read_text()
    import gzip

    table = gzip.decompress(base64.b64decode(re.search(r'id="curves-data">(.*?)</script>', text)[1]))
    edited = talk.edit(lip1=1.0, smile=0.5)
    expected = np.concatenate([edited.a_exp, edited.a_lip, edited.blink[:, None], edited.control_curves], axis=1)
    np.testing.assert_array_equal(np.frombuffer(table, "<f4").reshape(FRAMES, -1), expected)
    other = tmp_path / "other.wav"
    soundfile.write(other, syllables(1.0), RATE)
    from dgtalker.performance.session import Sound

    replace(session, audio=Sound.of(talk.sound.source)).save(tmp_path / "talk.json")
    arguments[1] = other
    code, out, err = run_command("player", *arguments)
    assert code == 2 and "not the sound of the session" in err and "Traceback" not in err
