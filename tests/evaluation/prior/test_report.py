import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fakes.people import SIZE, TEMPLATE, FakePeople, GeneratedPeople

from dgtalker import resumable
from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.evaluation.prior import PriorReportConfig, evaluate_prior, report, summary
from dgtalker.evaluation.prior.close_ups import crop_boxes
from dgtalker.evaluation.prior.expressiveness import measure_face_units
from dgtalker.evaluation.prior.fitting import FittingConfig, SmoothField, invert_pictures, tune_splats
from dgtalker.evaluation.prior.geometry import geometry_error
from dgtalker.evaluation.prior.held_out import ALL_VIEWS, FIT_VIEWS, SEVEN_VIEWS, UNSEEN_VIEWS, demographic_groups
from dgtalker.evaluation.prior.initialization import RidgeEncoder
from dgtalker.evaluation.prior.person import psnr_inside
from dgtalker.evaluation.prior.smoothness import measure_interpolation
from dgtalker.head.generator import Generator, GeneratorConfig
from dgtalker.head.template import HeadTemplate
from dgtalker.metrics.image_loss import tensor_psnr
from dgtalker.people.target_cache import PeopleCache, PeopleConfig
from dgtalker.render import render
from dgtalker.report.cards.prior import write_card
from dgtalker.report.contact_sheets.prior import pick_best_to_worst
from dgtalker.training.prior.linear_path import fit_linear_path
from dgtalker.video.masks import project

QUICK = FittingConfig(samples=12, invert_steps=8, tune_steps=4)


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(
        map_size=SIZE, channels=(8, 8, 4), appearance_dim=4, hair_dim=2, mapping_hidden=8, z_dim=60
    )
    made = Generator(config, TEMPLATE)
    cache = PeopleCache(tmp_path_factory.mktemp("people"), FakePeople(), PeopleConfig(map_size=SIZE))
    fit_linear_path(made, [cache.texels(i) for i in range(12)], torch.rand(50, 52) * 0.5)
    with torch.no_grad():
        made.mapping.linear.weight.normal_(0, 60**-0.5)
        made.mapping.linear.bias.copy_(made.w_mean)
    return made.requires_grad_(False).eval()


@pytest.fixture
def prior(generator, tmp_path):
    folder = tmp_path / "prior"
    generator.save_pretrained(folder, training={"people": 12, "captured": 3})
    return folder


def settings(prior, **changes):
    return PriorReportConfig(**(dict(prior=prior, people=2, size=32, fitting=QUICK, walks=1) | changes))


def run(generator, prior, **changes):
    return evaluate_prior(settings(prior, **changes), source=GeneratedPeople(generator), template=TEMPLATE)


# ---- the whole report ----


def test_report_and_card(prior, generator):
    found = run(generator, prior)
    written = json.loads((prior / "report.json").read_text())
    for stage in ("inversion", "tuned"):
        block = written[stage]
        assert block["psnr"] > written["baselines"]["mean_head"]["psnr"]
        assert 0 < block["ssim"] <= 1 and block["by_group"]["tone"]
        assert {"-60", "0", "90"} <= block["by_yaw"].keys() and block["by_yaw"]["45"]["fitted"]
        assert block["psnr"] == pytest.approx(np.mean([block["by_yaw"][f"{yaw:g}"]["psnr"] for yaw, _ in UNSEEN_VIEWS]))
        assert written["geometry_mm"][stage]["face"]["p90"] >= 0
    assert written["fit_views"] == [list(view) for view in FIT_VIEWS]
    assert len(written["face_units"]["units"]) == 52 and written["interpolation"]["walks"] == 1
    assert written["people"] == found["people"] == 2 and written["fairness"]["worst_group"] is None  # too few
    assert (prior / "report.jpg").stat().st_size > 100
    card = (prior / "README.md").read_text()
    assert "evaluate-prior" in card and "report.jpg" in card and "nan" not in card
    # The card of other weights does not show this report.
    other = Generator(generator.config, TEMPLATE)
    other.save_pretrained(prior)
    write_card(prior, other, {"people": 1, "captured": 1})
    assert "evaluate-prior" not in (prior / "README.md").read_text()


def test_a_stopped_run_goes_on(prior, generator):
    asked = 0

    def cancelled():
        nonlocal asked
        asked += 1
        return asked > QUICK.samples + QUICK.invert_steps + QUICK.tune_steps + 3  # within the second person

    with pytest.raises(resumable.TrainingStopped, match="same command"):
        evaluate_prior(settings(prior), cancelled=cancelled, source=GeneratedPeople(generator), template=TEMPLATE)
    assert not (prior / "report.json").exists()
    (first,) = (prior / "report-work").glob("*/person-*.safetensors")
    before = first.stat().st_mtime_ns
    resumed = run(generator, prior)
    assert first.stat().st_mtime_ns == before
    shutil.rmtree(prior / "report-work")
    whole = run(generator, prior)
    assert resumed["tuned"]["psnr"] == pytest.approx(whole["tuned"]["psnr"], abs=0.05)
    first.parent.mkdir(parents=True, exist_ok=True)
    first.write_bytes(b"nonsense")  # a damaged result is made again
    assert run(generator, prior)["tuned"]["psnr"] == pytest.approx(whole["tuned"]["psnr"], abs=0.05)


def test_output_elsewhere_leaves_the_prior_alone(prior, generator, tmp_path):
    run(generator, prior, output=tmp_path / "out", work=tmp_path / "work")
    assert sorted(p.name for p in prior.iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "out" / "report.json").is_file() and list((tmp_path / "work").glob("*/person-*"))


def test_bad_input_is_one_sentence(prior, generator, tmp_path):
    with pytest.raises(UserError, match="no prior 'nobody'"):
        run(generator, "nobody")
    with pytest.raises(UserError, match="at least one person"):
        run(generator, prior, people=0)
    with pytest.raises(UserError, match="--makehuman"):
        evaluate_prior(settings(prior), template=TEMPLATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        run(generator, prior, output=tmp_path / "file" / "x")


# ---- its parts ----


def test_views_do_not_overlap():
    assert not set(FIT_VIEWS) & set(UNSEEN_VIEWS + SEVEN_VIEWS)
    assert len(set(ALL_VIEWS)) == len(ALL_VIEWS) and {abs(yaw) for yaw, _ in SEVEN_VIEWS} <= {0, 20, 40, 60}


def test_inversion_and_tuning_come_near(generator):
    cameras = Camera.stack([orbit_camera(yaw, 0, 48) for yaw in (-45, 10, 45)])
    draw = torch.Generator().manual_seed(3)
    w = generator.w_mean + generator.w_std * torch.randn(generator.w_dim, generator=draw)
    truth = generator(w[None])[0]
    pictures = render(truth, cameras)[0].clamp(0, 1)
    config = FittingConfig(samples=30, invert_steps=40, tune_steps=15)
    guess = RidgeEncoder.fit(generator, FIT_VIEWS, 48, config.samples, 0)
    found = invert_pictures(generator, pictures, cameras, config, guess)

    def score(splats):
        return tensor_psnr(render(splats, cameras)[0], pictures)

    first = generator.w_mean + generator.w_std * guess(generator, pictures, cameras)
    assert score(generator(first[None])[0]) > score(generator(generator.w_mean[None])[0])
    assert score(generator(found[None])[0]) > score(generator(first[None])[0]) + 1
    # A person whose colour w cannot hold: tuning finds it, also from a side that it never saw.
    truth.colors = truth.colors * torch.tensor([0.6, 1.0, 1.2])
    pictures = render(truth, cameras)[0].clamp(0, 1)
    inverted = generator(found[None])[0]
    tuned = tune_splats(generator, found, pictures, cameras, config, SmoothField(generator, config))
    assert score(tuned) > score(inverted) + 1
    side = Camera.stack([orbit_camera(-70, 0, 48)])
    wanted = render(truth, side)[0].clamp(0, 1)
    assert tensor_psnr(render(tuned, side)[0], wanted) > tensor_psnr(render(inverted, side)[0], wanted) + 1


def test_smooth_change(generator):
    smooth = SmoothField(generator, QUICK)
    ones = torch.ones(len(generator.texel_part), 2)
    assert torch.allclose(smooth(ones, 0 * ones), ones, atol=1e-4)
    assert torch.allclose(smooth(0 * ones, ones), QUICK.fine * ones, atol=1e-4)
    values = torch.randn(2, *ones.shape, requires_grad=True)
    probe, other = torch.randn_like(ones), torch.randn(2, *ones.shape)
    (smooth(*values) * probe).sum().backward()
    assert torch.allclose((values.grad * other).sum(), (smooth(*other) * probe).sum(), rtol=1e-3, atol=1e-3)
    assert smooth(other[0], 0 * ones).std() < 0.5 * smooth(0 * ones, other[0] / QUICK.fine).std()


def test_psnr_inside_leaves_the_outline_out():
    truth = np.full((64, 64, 3), 255, np.uint8)
    truth[16:48, 16:48] = 60
    shifted, paler = np.roll(truth, 1, 1), truth.copy()
    paler[30:34, 30:34] = 90
    assert psnr_inside(shifted, truth) == 100 and psnr_inside(paler, truth) < 40
    assert np.isnan(psnr_inside(truth, np.full_like(truth, 255)))


def test_changes_are_as_wide_on_a_finer_map():
    template = HeadTemplate.load()

    def spread(size: int) -> float:
        channels = (4,) * (size // 64 + 3)
        generator = Generator(GeneratorConfig(map_size=size, basis_size=64, channels=channels), template)
        smooth = SmoothField(generator, QUICK)
        one = torch.zeros(smooth.texels, 1)
        one[smooth.texels // 3] = 1
        changed = smooth(one, 0 * one)[:, 0]
        place = generator.surface.positions(generator.rest_vertices[None])[0]
        centre = (changed[:, None] * place).sum(0) / changed.sum()
        return float(((place - centre).square().sum(1) * changed).sum() / changed.sum()) ** 0.5

    assert spread(128) == pytest.approx(spread(64), rel=0.1)


def test_crops_hold_the_eyes_and_the_mouth():
    template = HeadTemplate.load()
    generator = Generator(GeneratorConfig(map_size=64, basis_size=64, channels=(4,) * 4), template)
    positions = generator.surface.positions(generator.rest_vertices[None])[0]
    camera = orbit_camera(0, 0, 512)
    boxes = crop_boxes(generator, positions, camera)
    marks = project(
        template.landmarks(template.vertices).numpy(), camera.world_to_camera.numpy(), camera.intrinsics.numpy()
    )
    for name, inside, outside in (("eyes", (33, 133, 263, 362), (13, 61)), ("mouth", (13, 14, 61, 291), (33, 152))):
        rows, columns = boxes[name]
        for number in inside + outside:
            x, y, _ = marks[number]
            within = rows.start < y < rows.stop and columns.start < x < columns.stop
            assert within == (number in inside), (name, number)


def test_geometry_error_is_in_millimetres(generator):
    splats = generator(generator.w_mean[None])[0]
    error = geometry_error(generator, splats, splats.means + torch.tensor([0.03, 0.04, 0.0]))
    for region in ("face", "rest"):
        if region in error:
            assert error[region]["mean"] == pytest.approx(5.0, abs=1e-3)
            assert 0 < error[region]["along_normal"] <= error[region]["mean"]


def test_face_units_are_reached_by_the_linear_path(generator):
    found = measure_face_units(generator)
    assert found["mean"]["vertex_share"] > 0.95 and found["worst"]["splat_share"] <= found["mean"]["splat_share"]
    assert found["mean"]["vertex_mm"] < 1


def test_walk_measures_jumps(generator, monkeypatch):
    from dgtalker.evaluation.prior import smoothness

    w = generator.w_mean + 0.3 * generator.w_std
    even = measure_interpolation(generator, generator.w_mean, w, 32)
    assert 1 <= even["largest_step"] < 1.5 and even["path"] >= 0.99 and even["curvature"] < 0.5
    pictures = iter([torch.zeros(1, 8, 8, 3)] * 5 + [torch.ones(1, 8, 8, 3)] * 5)
    monkeypatch.setattr(smoothness, "render", lambda *_: (next(pictures), None))
    jump = measure_interpolation(generator, generator.w_mean, w, 32)
    assert jump["largest_step"] == pytest.approx(9) and jump["curvature"] > 3 and jump["path"] == pytest.approx(1)


def test_worst_group():
    groups = {"light": {"psnr": 30.0, "n": 5}, "dark": {"psnr": 27.5, "n": 5}, "mixed": {"psnr": 20.0, "n": 1}}
    found = summary.compare_groups({"psnr": 28.0, "by_group": {"tone": groups}})
    assert found["worst_group"] == "dark" and found["gap_db"] == 2.5 and found["behind_mean_db"] == 0.5
    lonely = summary.compare_groups({"psnr": 28.0, "by_group": {"tone": {"light": groups["light"]}}})
    assert lonely["worst_group"] is None and report.json_safe(lonely)["gap_db"] is None


def test_groups_of_a_person():
    names = ["young_darkskinned_female", "old_lightskinned_male"]
    person = SimpleNamespace(
        assets=SimpleNamespace(skin_names=names), skin=(0, 1), skin_mix=0.2, hair=None,
        shape=SimpleNamespace(gender=0.2, age=0.6),
    )  # fmt: skip
    found = demographic_groups(person)
    assert found["tone_and_sex"] == "dark female" and found["age"] == "middle-aged" and found["hair"] == "none"
    person.skin_mix = 0.5
    assert demographic_groups(person)["tone"] == "mixed"


def test_sheet_shows_best_and_worst():
    assert pick_best_to_worst([3.0, 1.0, 2.0], 3) == [0, 2, 1] and pick_best_to_worst([1.0], 5) == [0]
    chosen = pick_best_to_worst(list(range(10)), 5)
    assert chosen[0] == 9 and chosen[-1] == 0
