"""The browser's renderer in headless Chromium against the CPU backend, and what it does when something goes wrong."""

import gzip
import struct

import numpy as np
import pytest
from fakes.renderer_page import decibels, give_pack, read_picture, show_head

from dgtalker.camera import orbit_camera
from dgtalker.identity import Identity, list_identities
from dgtalker.performance.curves import Performance
from dgtalker.render import render_frame
from dgtalker.web.pack import write_pack

LEAST = 45.0  # dB
CAMERAS = [(0, 0, 1.0), (25, 10, 1.0), (-40, -15, 1.4), (60, 20, 0.8), (8, -4, 2.5)]  # yaw, pitch, zoom
SET = "async ([i, settings]) => { views[i].set(settings); await views[i].drawn; }"


@pytest.fixture
def controlled(fake_identity_with_controls):
    return Identity.from_pretrained(fake_identity_with_controls)


def expected_picture(identity, a, camera, size, controls=None, background=(1.0, 1.0, 1.0)):
    a = np.asarray(a, np.float32)
    splats = identity.frame(a[: identity.n_exp], a[identity.n_exp :], controls)
    yaw, pitch, zoom = camera
    return render_frame(splats, orbit_camera(yaw, pitch, size, zoom), background)


def show_codes(page, identity, a, camera, **more):
    a, (yaw, pitch, zoom) = np.asarray(a, float).tolist(), camera
    settings = {"exp": a[: identity.n_exp], "lip": a[identity.n_exp :]}
    page.evaluate(SET, [0, {**settings, "camera": {"yaw": yaw, "pitch": pitch, "zoom": zoom}, **more}])


def codes_of(identity) -> list[np.ndarray]:
    rng, count = np.random.default_rng(0), identity.n_exp + identity.n_lip
    extremes = [np.full(count, 3.0), np.full(count, -3.0)]
    return [np.zeros(count), *extremes, rng.uniform(-3, 3, count), rng.normal(size=count)]


@pytest.mark.slow
@pytest.mark.parametrize("name", list_identities())
def test_shipped_heads_look_as_on_the_cpu(open_page, name):
    identity = Identity.from_pretrained(name)
    page = open_page(size=128)
    show_head(page, write_pack(identity))
    for a, camera in zip(codes_of(identity), CAMERAS, strict=True):
        show_codes(page, identity, a, camera)
        found = decibels(read_picture(page), expected_picture(identity, a, camera, 128))
        assert found >= LEAST, (camera, found)
    moved = np.full(len(identity.controls), 1.0, np.float32)
    if len(moved):
        page.evaluate(SET, [0, {"controls": moved.tolist()}])
        assert decibels(read_picture(page), expected_picture(identity, a, camera, 128, moved)) >= LEAST


def test_coefficients_controls_background_and_camera_look_as_on_the_cpu(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    rest = read_picture(page)
    assert decibels(rest, expected_picture(controlled, np.zeros(6), CAMERAS[0], 96)) >= LEAST
    a, controls = [1.0, -2.0, 3.0, 3.0, -3.0, 0.5], np.array([0.8, 0.3, 0.6, 1.0], np.float32)
    show_codes(page, controlled, a, CAMERAS[2], controls=controls.tolist(), background=[0.1, 0.3, 0.2])
    expected = expected_picture(controlled, a, CAMERAS[2], 96, controls, (0.1, 0.3, 0.2))
    assert decibels(read_picture(page), expected) >= LEAST
    without = expected_picture(controlled, a, CAMERAS[2], 96, None, (0.1, 0.3, 0.2))
    assert decibels(without, expected) < LEAST - 5  # the measure sees the controls


def test_bounds_of_amplitudes_and_scales_hold(open_page, controlled):
    import torch

    codes = torch.eye(6) * 0.5
    controlled.head.set_bounds(torch.cat([codes, -codes]), margin=0.1)
    page = open_page()
    show_head(page, write_pack(controlled))
    a = np.array([0.0, 0.0, 0.0, 3.0, 3.0, 3.0])
    show_codes(page, controlled, a, CAMERAS[0])
    picture, expected = read_picture(page), expected_picture(controlled, a, CAMERAS[0], 96)
    assert decibels(picture, expected) >= LEAST
    controlled.head.bounds_means.copy_(torch.tensor([-torch.inf, torch.inf])[:, None].expand(2, 6))
    assert decibels(picture, expected_picture(controlled, a, CAMERAS[0], 96)) < LEAST - 5


def test_settings_by_name_are_clamped_as_in_python(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    rng = np.random.default_rng(1)
    names = [*controlled.exp_names, *controlled.lip_names]
    for _ in range(20):
        settings = {name: float(rng.uniform(-6, 6)) for name in names if rng.uniform() < 0.6}
        settings |= {name: float(rng.uniform(-1, 1)) for name in ["blink", *controlled.control_names]}
        pose = page.evaluate("(settings) => head.pose(settings)", settings)
        a_exp, a_lip = controlled.coefficients(settings)
        blink = np.clip(settings["blink"], 0, 1)
        values = np.array([[settings[name] for name in controlled.control_names]], np.float32)
        controls = controlled.shown_controls(values, np.array([blink], np.float32))[0]
        np.testing.assert_allclose(pose["exp"], a_exp, atol=1e-5)
        np.testing.assert_allclose(pose["lip"], a_lip, atol=1e-5)
        np.testing.assert_allclose(pose["controls"], controls, atol=1e-5)


def test_offsets_on_curves_are_those_of_performance_edit(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    rng = np.random.default_rng(2)
    frames = 24
    blink = rng.uniform(0, 1, frames).astype(np.float32)
    a_exp = rng.normal(0, 2, (frames, 3)).astype(np.float32) + controlled.blink_coefficients(blink)
    a_lip = rng.normal(0, 3, (frames, 3)).astype(np.float32)
    curves = Performance._of(controlled, a_exp.astype(np.float32), a_lip, blink)
    for offsets in ({}, {"lip1": 1.5, "exp2": -2.0}, {"blink": 0.5, "smile": 0.7, "wink_left": 0.4, "lip3": -9.0}):
        edited = curves.edit(**offsets)
        for i in range(frames):
            moment = {"exp": a_exp[i].tolist(), "lip": a_lip[i].tolist(), "blink": float(blink[i])}
            pose = page.evaluate("([moment, offsets]) => head.edit(moment, offsets)", [moment, offsets])
            np.testing.assert_allclose(pose["exp"], edited.a_exp[i], atol=1e-4)
            np.testing.assert_allclose(pose["lip"], edited.a_lip[i], atol=1e-4)
            np.testing.assert_allclose(pose["controls"], edited.shown_controls[i], atol=1e-4)


def test_held_values_replace_those_of_the_curves(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    blink = 0.5
    added = controlled.blink_coefficients(blink)
    moment = {"exp": (np.array([1.0, 2.0, 0.0]) + added).tolist(), "lip": [1.0, -1.0, 0.5], "blink": blink}
    held = {"lip1": -9, "exp1": 0.25, "blink": 0}
    pose = page.evaluate("([moment, held]) => head.edit(moment, {}, held)", [moment, held])
    np.testing.assert_allclose(pose["lip"], [controlled.ranges[3, 0], -1.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(pose["exp"], [0.25, 2.0, 0.0], atol=1e-5)  # the eyes open, the rest stays


def test_two_viewports_show_one_head_in_two_ways(open_page, controlled):
    page = open_page(canvases=2)
    show_head(page, write_pack(controlled), views=2)
    codes = ([0, 0, 0, 3.0, 0, 0], [2.0, 2.0, 0, 0, 0, 0])
    for i, (a, camera) in enumerate(zip(codes, CAMERAS[1:3], strict=True)):
        yaw, pitch, zoom = camera
        settings = {"exp": a[:3], "lip": a[3:], "camera": {"yaw": yaw, "pitch": pitch, "zoom": zoom}}
        page.evaluate("([i, settings]) => views[i].set(settings)", [i, settings])
    for i, (a, camera) in enumerate(zip(codes, CAMERAS[1:3], strict=True)):
        assert decibels(read_picture(page, i), expected_picture(controlled, a, camera, 96)) >= LEAST
    page.evaluate("() => { views[0].close(); views[0] = new Viewport(view0, head); }")
    page.evaluate(SET, [1, {"lip": [0, 0, 0], "exp": [0, 0, 0]}])
    assert decibels(read_picture(page, 1), expected_picture(controlled, np.zeros(6), CAMERAS[2], 96)) >= LEAST
    assert decibels(read_picture(page, 0), expected_picture(controlled, np.zeros(6), CAMERAS[0], 96)) >= LEAST


def test_the_last_of_many_settings_is_shown(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    page.evaluate("() => views[0].drawn")
    page.evaluate("() => { for (let i = 0; i <= 300; i++) views[0].set({ lip: [i / 100, 0, 0] }); }")
    a = [0, 0, 0, 3.0, 0, 0]
    assert decibels(read_picture(page), expected_picture(controlled, a, CAMERAS[0], 96)) >= LEAST
    assert page.evaluate("() => views[0].timings.frames") < 100


def test_pixels_follow_the_display_and_the_layout(open_page, controlled):
    page = open_page(size=60, device_scale_factor=2)
    show_head(page, write_pack(controlled))
    picture = read_picture(page)
    assert picture.shape == (120, 120, 3)
    assert decibels(picture, expected_picture(controlled, np.zeros(6), CAMERAS[0], 120)) >= LEAST
    page.evaluate("() => { view0.style.width = '70px'; view0.style.height = '50px'; }")
    page.wait_for_function("() => view0.width === 140 && view0.height === 100")
    wide = read_picture(page)
    square = expected_picture(controlled, np.zeros(6), CAMERAS[0], 100)
    assert wide.shape == (100, 140, 3) and decibels(wide[:, 20:120], square) >= LEAST


def test_a_lost_context_comes_back_with_the_same_picture(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    a = [0, 1.0, 0, 2.0, 0, 0]
    show_codes(page, controlled, a, CAMERAS[1])
    before = read_picture(page)
    events = page.evaluate(
        """async () => {
            const heard = [], view = views[0], gl = view0.getContext("webgl2").getExtension("WEBGL_lose_context");
            const event = (name) => new Promise((done) => view.addEventListener(name, () => done(heard.push(name))));
            const lost = event("lost"), restored = event("restored");
            gl.loseContext();
            await lost;
            view.set({ lip: [2, 0, 0] }); // what is set meanwhile counts
            setTimeout(() => gl.restoreContext(), 50);
            await restored;
            return heard;
        }"""
    )
    assert events == ["lost", "restored"]
    np.testing.assert_array_equal(read_picture(page), before)


def test_orbit_by_pointer_wheel_and_keys(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    page.evaluate("() => { view0.tabIndex = window.orbits = 0; views[0].addEventListener('orbit', () => orbits++); }")
    page.mouse.move(48, 48)
    page.mouse.down()
    page.mouse.move(24, 60, steps=3)
    page.mouse.up()
    yaw, pitch = page.evaluate("() => [views[0].camera.yaw, views[0].camera.pitch]")
    assert yaw == pytest.approx(24 * 200 / 96) and pitch == pytest.approx(12 * 200 / 96)
    page.mouse.wheel(0, -200)
    page.wait_for_function("() => views[0].camera.zoom > 1.2")
    page.focus("#view0")
    page.keyboard.press("Home")
    assert page.evaluate("() => views[0].camera") == {"yaw": 0, "pitch": 0, "zoom": 1, "target": [0, 0, 0]}
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => [views[0].camera.yaw, orbits >= 5]") == [5, True]
    assert decibels(read_picture(page), expected_picture(controlled, np.zeros(6), (5, 0, 1.0), 96)) >= LEAST


def test_a_page_that_may_not_start_workers_draws_all_the_same(open_page, controlled):
    page = open_page()
    page.evaluate("() => { window.Worker = class { constructor() { throw new Error('not here'); } }; }")
    show_head(page, write_pack(controlled))
    assert decibels(read_picture(page), expected_picture(controlled, np.zeros(6), CAMERAS[0], 96)) >= LEAST


def test_a_pack_may_come_as_gzip(open_page, controlled):
    page = open_page()
    show_head(page, gzip.compress(write_pack(controlled)))
    assert page.evaluate("() => head.name") == controlled.name


def load_problem(page, pack: bytes) -> str:
    give_pack(page, pack)
    return page.evaluate("() => Head.load(pack).then(() => '', (error) => error.message)")


def test_bad_packs_are_one_sentence(open_page, controlled):
    page, pack = open_page(), write_pack(controlled)
    flipped = bytearray(pack)
    flipped[len(pack) // 2] ^= 1
    newer = pack[:8] + struct.pack("<I", 99) + pack[12:]
    cases = {
        "damaged or cut short": [bytes(flipped), pack[:-1], pack[:60], gzip.compress(pack)[:-40]],
        "cut short": [b"", pack[:20]],
        "not a head's pack": [b"x" * 100],
        "newer format (99": [newer],
    }
    for words, packs in cases.items():
        for bad in packs:
            problem = load_problem(page, bad)
            assert words in problem and problem.endswith(".") and problem.count(". ") == 0, problem
    assert load_problem(page, pack) == ""  # and the page goes on


def test_settings_that_do_not_fit_are_refused(open_page, controlled):
    page = open_page()
    show_head(page, write_pack(controlled))
    refused = "(settings) => { try { views[0].set(settings); return ''; } catch (error) { return error.message; } }"
    assert "takes 3 values of lip" in page.evaluate(refused, {"lip": [1, 2]})
    assert "not a finite number" in page.evaluate(refused, {"exp": [1, None, float("nan")]})
    assert "pitch between" in page.evaluate(refused, {"camera": {"pitch": 90}})
    assert decibels(read_picture(page), expected_picture(controlled, np.zeros(6), CAMERAS[0], 96)) >= LEAST


def test_without_webgl_there_is_one_sentence(open_page, controlled):
    page = open_page()
    give_pack(page, write_pack(controlled))
    problem = page.evaluate(
        """async () => {
            HTMLCanvasElement.prototype.getContext = () => null;
            const head = await Head.load(pack);
            try { new Viewport(view0, head); return ""; } catch (error) { return error.message; }
        }"""
    )
    assert problem.startswith("This browser has no WebGL2")
