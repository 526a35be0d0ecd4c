"""Coefficients are ordered, signed, named and pictured; rendered speech does not change."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes.identity import make_fake_identity

from dgtalker.camera import orbit_camera
from dgtalker.coefficients import describe as module
from dgtalker.coefficients.axes import find_named_axes
from dgtalker.coefficients.describe import describe_coefficients, describe_identity_folder, number_repeated
from dgtalker.coefficients.motions import MotionFields, assign_motions, named_motions
from dgtalker.coefficients.texel_matching import match_texels
from dgtalker.errors import UserError
from dgtalker.head.baked import BakedHead
from dgtalker.head.template import HeadTemplate
from dgtalker.identity import COEFFICIENT_SHEET_FILE, Identity
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.render import render_frame
from dgtalker.report.cards.coefficients import HEADING, replace_coefficients_section

# Motions of the synthetic person's coefficients before they are described, in this order.
EXP = (
    {"eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.2},
    {"browInnerUp": -0.5, "browOuterUpLeft": -0.5, "browOuterUpRight": -0.5},
)
LIP = ({"mouthLeft": 0.1, "mouthRight": -0.1}, {"mouthFunnel": 0.2, "mouthPucker": 0.2}, {"jawOpen": -0.3})


def kept_texels(seed: int) -> torch.Tensor:
    """Texels [N] of the 64² map that the synthetic head is made of: no hair, and some skin was never seen."""
    template, random = HeadTemplate.load(), torch.Generator().manual_seed(seed)
    part = template.atlas(64).texel_part
    dropped = (part == template.part_index("skin")) & (torch.rand(len(part), generator=random) < 0.03)
    return ((part != template.part_index("hair")) & ~dropped).nonzero()[:, 0]


def head_on_template(seed: int = 0) -> BakedHead:
    """A head on the template's map, not the template's own, whose directions are ARKit units."""
    template, random = HeadTemplate.load(), torch.Generator().manual_seed(seed)
    atlas, kept = template.atlas(64), kept_texels(seed)
    corners, bary = template.triangles[atlas.texel_triangle[kept]].long(), atlas.texel_bary[kept]

    def interpolate(values):
        return torch.einsum("mi,...mic->...mc", bary, values.float()[..., corners, :])

    units = dict(zip(template.expression_names, template.expression_basis, strict=True))
    directions = [sum(units[name] * amount for name, amount in recipe.items()) for recipe in (*EXP, *LIP)]
    count, size = len(kept), len(directions)
    head = BakedHead(count, size, {"means": size, "log_scales": 1, "axis_angles": 1, "logit_opacities": 1, "colors": 2})
    shape = 0.5 * torch.randn(len(template.shape_basis), generator=random)  # not the template's own head
    head.mean_means.copy_(interpolate(template.geometry(shape)))
    head.basis_means.copy_(interpolate(torch.stack(directions)))
    head.weights_means[:size].copy_(torch.eye(size))
    head.weights_means[size:].normal_(0, 0.02, generator=random)  # a little of the quadratic terms
    head.mean_log_scales.fill_(float(np.log(0.04)))
    head.mean_logit_opacities.fill_(3.0)
    head.mean_colors.copy_(0.5 + 0.3 * torch.sin(9 * head.mean_means))
    head.basis_colors.normal_(0, 0.01, generator=random)
    head.weights_colors.normal_(0, 0.1, generator=random)
    weights = interpolate(torch.stack([template.upper_weight, template.lower_weight], dim=-1)).half().float()
    head.upper_weight.copy_(weights[:, 0])
    head.lower_weight.copy_(weights[:, 1])
    head.part.copy_(atlas.texel_part[kept])
    return head


def make_identity(seed: int = 0) -> Identity:
    """An identity on that head whose encoders have random weights, and units and limits of their own."""
    torch.manual_seed(seed)
    navigation = Navigation(NavigationConfig(latent=16, feature_dim=80, n_exp=len(EXP), n_lip=len(LIP), hidden=16))
    size = len(EXP) + len(LIP)
    with torch.no_grad():
        navigation.expression_encoder.blink.linear.normal_()
        navigation.expression_encoder.blink.quadratic.normal_()
        for encoder in (navigation.expression_encoder, navigation.lip_encoder):
            encoder.audio.attention.weight.normal_(0, 0.5)  # channels are mixed here
    navigation.set_units(
        torch.rand(size) * 0.2 + 0.05, torch.stack([-torch.rand(size) - 0.5, torch.rand(size) + 1], -1)
    )
    return Identity("synthetic", navigation, head_on_template(seed), {"title": "No One", "feature_kind": "log-mel"})


def training_samples() -> np.ndarray:
    """Made-up training coefficients [T, K]: independent, as wide as the units say, mostly positive."""
    return np.random.default_rng(5).normal(0.5, 1, (400, len(EXP) + len(LIP))).clip(-1, 2.5)


@pytest.fixture(scope="module")
def described():
    identity = make_identity()
    strip = describe_coefficients(identity, training_samples())
    return identity, strip


def test_splats_are_matched_to_texels_though_some_were_dropped():
    head, template = head_on_template(), HeadTemplate.load()
    texels = match_texels(head, template)
    assert texels.atlas.size == 64
    everywhere = replace(texels, texels=torch.arange(len(texels.atlas))).interpolate(template.vertices)
    off = (everywhere[texels.texels] - everywhere[kept_texels(0)[texels.splats]]).norm(dim=-1)
    assert (off == 0).float().mean() > 0.8
    assert off.quantile(0.98) < 0.15  # dm: a texel or two
    head.upper_weight.copy_(torch.rand(head.count))
    assert match_texels(head, template) is None


def test_the_jaw_comes_first_is_named_and_opens(described):
    identity, _ = described
    rows = identity.descriptions
    assert rows["lip1"]["name"] == "jaw opening" and rows["lip1"]["match"] > 0.9
    assert rows["lip1"]["opens_mm"] > 1
    assert rows["exp1"]["name"] == "brows up" and rows["exp1"]["opens_mm"] > 0
    assert rows["exp2"]["name"] == "eyes opening"  # it was a blink: positive opens
    assert {rows[n]["name"] for n in ("lip2", "lip3")} <= {"rounding", "spreading", "mouth to the left"}
    assert identity.labels["lip1"] == "lip 1 · jaw opening"
    moved = identity.frame(np.zeros(2), np.array([1.0, 0, 0])).means - identity.head.mean_means
    lower = identity.head.lower_weight[:, None]
    assert float((moved * lower)[:, 1].sum()) < 0  # the chin goes down
    for group in (("exp1", "exp2"), ("lip1", "lip2", "lip3")):
        motion = [rows[name]["motion_mm"] for name in group]
        assert motion == sorted(motion, reverse=True)
    assert min(rows["exp1"]["purity"], rows["lip1"]["purity"]) > 0.7


def mixed_identity() -> Identity:
    """The same, with the axes of each branch mixed by a rotation, so that no coefficient is one motion."""
    identity, random = make_identity(), torch.Generator().manual_seed(4)
    scales = identity.navigation.blendshapes.scales.double()
    rotations = [torch.linalg.qr(torch.randn(k, k, generator=random).double()).Q for k in (len(EXP), len(LIP))]
    std = torch.full((5,), float(scales.mean())).double()
    identity.rotate_coefficients(*rotations, std, torch.tensor([-40.0, 40.0]).repeat(5, 1))
    return identity


def test_mixed_axes_are_turned_back_until_each_is_one_motion():
    identity = mixed_identity()
    describe_coefficients(identity, np.random.default_rng(1).normal(0.5, 1, (400, 5)))
    rows = identity.descriptions
    names = {group: {rows[f"{group}{k + 1}"]["name"] for k in range(n)} for group, n in (("exp", 2), ("lip", 3))}
    assert names["exp"] == {"brows up", "eyes opening"}
    assert "jaw opening" in names["lip"] and names["lip"] & {"mouth to the left", "mouth to the right"}
    assert names["lip"] & {"rounding", "spreading"}
    assert np.mean([row["match"] for row in rows.values()]) > 0.8
    assert len({row["name"] for row in rows.values()}) == 5


def test_a_rotation_gives_every_latent_and_splat_as_before():
    plain, turned = make_identity(), mixed_identity()
    scales, unit = (i.navigation.blendshapes.scales for i in (plain, turned))
    b, c = (torch.cat(i.navigation.blendshapes(), dim=1) for i in (plain, turned))
    a = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    again = a @ torch.linalg.lstsq(c, b).solution.T
    torch.testing.assert_close(again @ c.T, a @ b.T, atol=1e-5, rtol=1e-4)
    assert (again - a * scales / unit).abs().max() > 0.1  # they are other coefficients
    for name, value in plain.head.attributes(a).items():
        torch.testing.assert_close(turned.head.attributes(again)[name], value, atol=1e-5, rtol=1e-4)


def test_a_performance_looks_the_same_before_and_after():
    before, after = make_identity(), make_identity()
    for identity in (before, after):
        identity.navigation.limits.copy_(torch.tensor([-1e3, 1e3]).repeat(5, 1))  # turned limits are other ones
    features, blink = np.random.default_rng(0).normal(size=(40, 80)), np.linspace(0, 1, 20)
    curves = before.encode(features, blink)
    describe_coefficients(after, np.concatenate(curves, axis=1))
    again = after.encode(features, blink)
    assert np.abs(again[0] - curves[0]).max() > 0.1 and np.abs(again[1] - curves[1]).max() > 0.1  # other numbers
    camera = orbit_camera(yaw=15, size=96)
    for t in range(0, 20, 3):
        one, two = before.frame(curves[0][t], curves[1][t]), after.frame(again[0][t], again[1][t])
        torch.testing.assert_close(one.means, two.means, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.colors, two.colors, atol=1e-4, rtol=0)
        assert np.abs(render_frame(one, camera).astype(int) - render_frame(two, camera)).max() <= 1
    w = [i.navigation.latent(*map(torch.from_numpy, c)) for i, c in ((before, curves), (after, again))]
    torch.testing.assert_close(*w, atol=1e-4, rtol=1e-3)


def test_permuting_there_and_back_changes_no_bit():
    identity = make_identity()
    kept = {key: value.clone() for key, value in identity.head.state_dict().items()}
    order, signs = torch.tensor([1, 0, 4, 2, 3]), torch.tensor([-1.0, 1, 1, -1, -1])
    limits = identity.limits.copy()
    identity.permute_coefficients(order, signs)
    np.testing.assert_allclose(identity.limits[0], -limits[1][::-1])
    back = order.argsort()
    identity.permute_coefficients(back, signs[back])
    assert all(torch.equal(kept[key], value) for key, value in identity.head.state_dict().items())
    np.testing.assert_allclose(identity.limits, limits)
    with pytest.raises(AssertionError, match="branch"):
        identity.permute_coefficients(torch.tensor([2, 1, 0, 3, 4]), torch.ones(5))


def test_describing_twice_changes_nothing(described):
    identity, strip = described
    weights, record = identity.head.weights_means.clone(), json.dumps(identity.config["coefficients"])
    bounds = identity.head.bounds_means.clone()
    assert describe_coefficients(identity) == strip  # ranges are those of the training, as stored
    assert torch.equal(weights, identity.head.weights_means) and torch.equal(bounds, identity.head.bounds_means)
    assert json.dumps(identity.config["coefficients"]) == record


def test_ranges_and_means_are_those_of_the_samples_and_zero_is_in_every_slider(described):
    identity = described[0]
    rows = identity.descriptions
    assert identity.config["coefficients"]["range_from"] == "training clips"
    for name, (low, high) in zip((*identity.exp_names, *identity.lip_names), identity.ranges, strict=True):
        row = rows[name]
        assert row["low"] < row["mean"] < row["high"]
        assert low == pytest.approx(min(-3, row["low"])) and high == pytest.approx(max(3, row["high"]))
    assert module.find_ranges(make_identity(), None)[2] == "training extremes"


def test_speech_stays_inside_the_bounds_and_extremes_do_not(described):
    identity, size = described[0], len(EXP) + len(LIP)
    head, free = identity.head, head_on_template()
    assert head.bounded and not free.bounded
    free.load_state_dict({k: v for k, v in head.state_dict().items() if not k.startswith(("bounds", "longest"))})
    speech = torch.from_numpy(training_samples()[:8]).float() / 2
    torch.testing.assert_close(head(speech).means, free(speech).means)
    wild = 20 * torch.ones(size)
    assert (head(wild).means - head.mean_means).norm(dim=-1).max() < (free(wild).means - head.mean_means).norm(
        dim=-1
    ).max() / 4
    torch.testing.assert_close(head.frame(wild.numpy()).means, head(wild).means, atol=1e-4, rtol=1e-4)


def test_a_slider_that_does_not_show_is_folded_away_and_pictures_stay():
    identity = make_identity()
    identity.head.weights_means[0] *= 0.002  # exp1, of three expression coefficients, moves next to nothing
    identity.head.weights_means[len(EXP) + 2] *= 0.002  # and so does lip3
    identity.head.weights_means[len(EXP) + len(LIP) :] = 0
    identity.head.weights_colors.zero_()
    samples = module.CoefficientSamples(training_samples(), "training clips")
    plain = identity.head.frame(samples.values[3].astype(np.float32) * [1, 1, 1, 1, 0])
    kept = module.fold_faint_coefficients(identity, samples)
    assert (identity.n_exp, identity.n_lip) == (2, 2)  # the expression keeps two
    assert kept.values.shape == (400, 4) and identity.navigation.unit.shape == (4,)
    torch.testing.assert_close(identity.head.frame(kept.values[3].astype(np.float32)).means, plain.means)
    features = np.random.default_rng(0).normal(size=(40, 80))
    assert [a.shape for a in identity.encode(features)] == [(20, 2), (20, 2)]


def test_the_strip_has_a_row_for_every_coefficient(described):
    import io

    from PIL import Image

    identity, strip = described
    sheet, place = np.asarray(Image.open(io.BytesIO(strip)).convert("L"), int), identity.config["coefficients"]["strip"]
    cell, left, top = place["cell"], place["left"], place["top"]
    assert sheet.shape == (top + 5 * cell, left + 7 * cell) and len(strip) < 200_000
    for k in range(5):
        cells = [sheet[top + k * cell :][:cell, left + c * cell :][:, :cell] for c in range(7)]
        change = [np.abs(cells[c] - cells[3]).mean() for c in (6, 5)]
        assert change[0] > change[1] > 0.1  # further out, more of it


def test_names_are_given_together_and_none_twice():
    template = HeadTemplate.load()
    motions = named_motions(template)
    assert len({name for pair in motions.names for name in pair}) == 2 * len({pair for pair in motions.names})
    units = dict(zip(template.expression_names, template.expression_basis, strict=True))
    fields = MotionFields(motions.names, motions.fields, torch.ones(len(template.vertices)))
    wanted = torch.nn.functional.normalize(fields.flatten(fields.fields), dim=1)

    def name(*displacements):
        moved = torch.nn.functional.normalize(fields.flatten(torch.stack(displacements)), dim=1)
        chosen, scores = assign_motions(moved @ wanted.T, fields)
        return [motions.names[i][0] for i in chosen], scores

    found, scores = name(units["mouthSmileLeft"], units["jawOpen"] + 0.2 * units["cheekPuff"], units["jawOpen"])
    assert found[0] == "smile (left)" and scores[0] > 0.99
    assert found[2] == "jaw opening" and found[1] != "jaw opening"
    noise = torch.randn(len(template.vertices), 3, generator=torch.Generator().manual_seed(0))
    assert float(name(noise)[1]) < module.MIN_MATCH
    assert number_repeated(["mixed", "smile", "mixed"]) == ["mixed", "smile", "mixed (2)"]


def test_the_search_finds_a_hidden_rotation():
    template = HeadTemplate.load()
    motions = named_motions(template)
    fields = MotionFields(motions.names, motions.fields, template.lower_weight.float())
    names = [pair[0] for pair in motions.names]
    truth = torch.stack([motions.fields[names.index(n)] for n in ("jaw opening", "smile", "mouth to the left")])
    hidden = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2))).Q
    found = find_named_axes(torch.einsum("ij,jnc->inc", hidden, truth), fields)
    assert found.better and found.after > 0.99 > 0.9 > found.before
    turned = (hidden.double().T @ found.rotation).abs()
    torch.testing.assert_close(turned.max(dim=0).values, torch.ones(3).double(), atol=0.02, rtol=0)


def test_a_head_of_another_template_is_described_without_names(tmp_path):
    folder = make_fake_identity(tmp_path / "fake")
    identity = describe_identity_folder(folder)
    again = Identity.from_pretrained(folder)
    assert (
        again.coefficient_sheet_path == folder / COEFFICIENT_SHEET_FILE
        and again.config["coefficients"]["named_from"] == "none"
    )
    assert [row["name"][:5] for row in again.descriptions.values()] == ["mixed"] * 6
    assert again.labels == identity.labels and len(set(again.labels.values())) == 6
    assert again.exp_names == ["exp1", "exp2", "exp3"]  # what files and commands use stays


def test_the_folder_is_rewritten_as_a_whole(tmp_path, monkeypatch):
    folder = make_identity().save_pretrained(
        tmp_path / "someone", np.zeros((8, 8, 3), np.uint8), "# No One\n\n## Use\n\nx\n"
    )
    (folder / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    load = Identity.from_pretrained
    monkeypatch.setattr(Identity, "from_pretrained", lambda f, *a, **k: fail(f) if "new" in str(f) else load(f))

    def fail(folder):
        raise UserError("cannot be loaded")

    with pytest.raises(UserError, match="loaded"):
        describe_identity_folder(folder)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()} and list(tmp_path.iterdir()) == [folder]
    monkeypatch.undo()
    describe_identity_folder(folder)
    assert list(tmp_path.iterdir()) == [folder]
    assert {p.name for p in folder.iterdir()} == {*before, COEFFICIENT_SHEET_FILE} and (
        folder / "notes.txt"
    ).read_text() == "mine"
    card = (folder / "README.md").read_text()
    assert card.count(HEADING) == 1 and card.index(HEADING) < card.index("## Use") and "jaw opening" in card
    assert replace_coefficients_section(card, Identity.from_pretrained(folder)) == card


def test_identities_without_or_with_a_damaged_record_fall_back_to_numbers(tmp_path):
    folder = make_fake_identity(tmp_path / "fake")
    config = json.loads((folder / "config.json").read_text())
    for record in (
        None,
        7,
        {"exp": [], "lip": []},
        {"exp": [{}] * 3, "lip": [{}] * 3},
        {"exp": [1] * 3, "lip": [1] * 3},
        {"exp": 1},
    ):
        (folder / "config.json").write_text(json.dumps(config | {"coefficients": record}))
        identity = Identity.from_pretrained(folder)
        assert identity.descriptions == {} and identity.coefficient_sheet_path is None
        assert identity.labels["exp2"] == "exp 2" and identity.labels["lip3"] == "lip 3"


def test_the_command(tmp_path, capsys):
    from dgtalker import cli

    folder = make_fake_identity(tmp_path / "fake")
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert cli.main(["describe-identity", str(folder)]) == 0
    assert "lip 1 · mixed" in capsys.readouterr().out
    assert cli.main(["describe-identity", str(copy), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["lip"]) == 3
    assert cli.main(["describe-identity", "owner/somebody"]) == 2
    assert "owner/somebody" in capsys.readouterr().err
