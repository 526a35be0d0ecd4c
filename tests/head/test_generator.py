import json

import pytest
import torch
from fakes.template import fake_template

from dgtalker import pretrained
from dgtalker.camera import orbit_camera
from dgtalker.errors import UserError
from dgtalker.head.generator import Generator, GeneratorConfig, MappingNetwork
from dgtalker.head.rotations import (
    axis_angle_to_quaternion,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_axis_angle,
)
from dgtalker.head.uv_pyramid import UVPyramid
from dgtalker.render import render

TINY = GeneratorConfig(map_size=32, channels=(8, 8, 4), appearance_dim=4, hair_dim=3, z_dim=10, mapping_hidden=8)


@pytest.fixture(scope="module")
def template():
    return fake_template()


@pytest.fixture
def generator(template):
    torch.manual_seed(0)
    return Generator(TINY, template)


def quaternion_to_matrix(q):
    w, x, y, z = q.unbind(-1)
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def test_rotations_agree_with_each_other():
    torch.manual_seed(0)
    turn = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1) * torch.linspace(0.01, 3.0, 200)[:, None]
    q = axis_angle_to_quaternion(turn)
    assert torch.allclose(quaternion_to_axis_angle(q), turn, atol=1e-4)
    for exact in (False, True):
        back = matrix_to_quaternion(quaternion_to_matrix(q), exact)
        assert torch.allclose((back * q).sum(-1).abs(), torch.ones(200), atol=1e-4)
    p = axis_angle_to_quaternion(torch.randn(200, 3))
    product = quaternion_to_matrix(quaternion_multiply(p, q))
    assert torch.allclose(product, quaternion_to_matrix(p) @ quaternion_to_matrix(q), atol=1e-5)


def test_exact_quaternions_of_half_turns():
    m = torch.stack([torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1])])
    assert torch.allclose(quaternion_to_matrix(matrix_to_quaternion(m, exact=True)), m, atol=1e-6)


def test_untrained_splats_lie_on_the_template(generator, template):
    shape, scores = torch.randn(2, 5), torch.rand(2, 52)
    w = generator.w_from_geometry(shape, scores)
    gaussians = generator(w)
    expected = template.vertices + torch.tensordot(shape, template.shape_basis, 1)
    expected = expected + torch.tensordot(scores, template.expression_basis, 1)
    atlas = template.atlas(32)
    corners = expected[:, template.triangles[atlas.texel_triangle].long()]
    assert torch.allclose(gaussians.means, (corners * atlas.texel_bary[..., None]).sum(2), atol=1e-4)
    back = generator.geometry_from_w(w)
    assert torch.allclose(back[0], shape) and torch.allclose(back[1], scores, atol=1e-6)


def test_splats_turn_and_stretch_with_the_surface(generator):
    """Rotate and enlarge the whole head: splats must follow exactly."""
    surface, rest = generator.surface, generator.rest_vertices[None]
    turn = axis_angle_to_quaternion(torch.tensor([0.4, -0.9, 0.3]))
    moved = 1.3 * rest @ quaternion_to_matrix(turn).T
    frames, turned, stretch = surface.frames(moved)
    whole = quaternion_multiply(generator.rest_quats, turned[0])
    expected = quaternion_multiply(turn.expand_as(whole), generator.rest_quats)
    assert torch.allclose((whole * expected).sum(-1).abs(), torch.ones(len(whole)), atol=1e-4)
    assert torch.allclose(stretch, torch.full_like(stretch, torch.tensor(1.3).log().item()), atol=1e-3)
    assert torch.allclose(frames.mT @ frames, torch.eye(3).expand_as(frames), atol=1e-4)


def test_normals_are_thin_and_the_ball_has_no_holes(generator):
    gaussians = generator(generator.w_mean[None])[0]
    assert (gaussians.scales.argmin(-1) == 2).all()
    assert torch.allclose(gaussians.quats.norm(dim=-1), torch.ones(len(gaussians.means)), atol=1e-4)
    for yaw in (0.0, 45.0):
        alpha = render(gaussians, orbit_camera(yaw, 0, 64), backend="reference")[1][0, :, :, 0]
        rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        inside = (rows - 31.5).hypot(columns - 31.5) < 16  # the ball has a radius of 20 pixels
        assert alpha[inside].min() > 0.9


def test_gradients_reach_w_and_all_parameters(generator):
    torch.nn.init.normal_(generator.synthesis.to_maps.weight, std=0.01)
    torch.nn.init.normal_(generator.color_basis, std=0.1)
    torch.nn.init.normal_(generator.hair_basis, std=0.1)
    w = (generator.w_mean + 0.3 * torch.randn(2, generator.w_dim)).requires_grad_()
    g = generator(w)
    torch.manual_seed(1)
    sum((v * torch.randn_like(v)).sum() for v in (g.means, g.quats, g.scales, g.opacities, g.colors)).backward()
    assert torch.isfinite(w.grad).all()
    for name, part in generator.slices.items():
        assert w.grad[:, part].abs().sum() > 0, name
    silent = [n for n, p in generator.named_parameters() if not n.startswith("mapping") and p.grad is None]
    assert silent == []


def test_attributes_blend_to_the_same_splats(generator):
    w = generator.w_mean + torch.randn(3, generator.w_dim)
    attributes = generator.attributes(w)
    again, direct = Generator.gaussians_from_attributes(attributes), generator(w)
    assert torch.equal(again.means, direct.means) and torch.equal(again.quats, direct.quats)
    assert attributes["axis_angles"].shape == direct.means.shape


def test_truncation_and_mapping_shapes(generator):
    w = generator.mapping(torch.randn(4, 10))
    assert w.shape == (4, generator.w_dim)
    mean, hair = generator.truncate(w, 0.0), generator.slices["hair"]
    assert torch.equal(mean[:, hair], w[:, hair])  # the mean of all hair styles is none
    mean[:, hair] = generator.w_mean[hair]
    assert torch.allclose(mean, generator.w_mean.expand_as(w))
    assert torch.allclose(generator.truncate(w, 1.0), w, atol=1e-6)
    people = generator.sample(3, seed=1)
    assert torch.equal(people, generator.sample(3, seed=1)) and not torch.equal(people, generator.sample(3, seed=2))
    assert people[:, generator.slices["expression"]].abs().max() == 0


def test_choices_of_z_are_made_like_one_hot_factors():
    mapping = MappingNetwork(6, 4, 8, [(1, 5, 8.0)])
    z = torch.tensor([[0.5, 1.2, -0.3, 0.2, 0.1, -2.0]])
    one_hot = (torch.tensor([1.0, 0, 0, 0]) - 0.25) / (0.25 * 0.75) ** 0.5
    chosen = mapping.apply_choices(z)
    assert torch.allclose(chosen[0, 1:5], one_hot, atol=0.01)
    assert chosen[0, 0] == 0.5 and chosen[0, 5] == -2.0
    assert torch.allclose(mapping.apply_choices(chosen)[0, 1:5], one_hot, atol=1e-4)  # training people's factors stay


def test_wrong_w_is_refused(generator):
    with pytest.raises(ValueError, match="must be"):
        generator(torch.zeros(generator.w_dim))


def test_bad_configs():
    with pytest.raises(UserError, match="levels"):
        GeneratorConfig(map_size=256)
    with pytest.raises(UserError, match="no generator preset 'huge'"):
        GeneratorConfig.preset("huge")


def test_checkpoint_round_trip_and_names(generator, template, tmp_path, monkeypatch):
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    torch.nn.init.normal_(generator.color_basis)
    generator.save_pretrained(tmp_path / "priors" / "tiny", note="hello")
    assert pretrained.list_checkpoints("prior") == ["tiny"]
    loaded = Generator.from_pretrained("tiny", template=template)
    assert loaded.config == generator.config
    w = torch.randn(1, generator.w_dim)
    assert torch.allclose(loaded(w).colors, generator(w).colors, atol=0.02)  # fp16
    assert json.loads((tmp_path / "priors/tiny/config.json").read_text())["note"] == "hello"
    with pytest.raises(UserError, match="no prior 'nobody'.*tiny"):
        Generator.from_pretrained("nobody", template=template)
    with pytest.raises(UserError, match="another head template"):
        Generator.from_pretrained("tiny", template=fake_template(seed=1))


@pytest.mark.parametrize("damage", ["truncate", "swap", "no weights", "config", "kind", "version"])
def test_damaged_checkpoints(generator, template, tmp_path, damage):
    folder = generator.save_pretrained(tmp_path / "p")
    weights, config = folder / "model.safetensors", folder / "config.json"
    values = json.loads(config.read_text())
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "swap":
        weights.write_bytes(weights.read_bytes()[:-2] + b"\0\1")
    elif damage == "no weights":
        weights.unlink()
    elif damage == "config":
        config.write_text("{")
    elif damage == "kind":
        config.write_text(json.dumps(values | {"kind": "identity"}))
    else:
        config.write_text(json.dumps(values | {"format_version": 99}))
    with pytest.raises(UserError):
        Generator.from_pretrained(folder, template=template)


def test_packaged_template_fits():
    """The shipped template and the two presets' maps: counts that the design names."""
    from dgtalker.head.template import HeadTemplate

    generator = Generator(GeneratorConfig(appearance_dim=2, hair_dim=2), HeadTemplate.load())
    assert 14_000 < len(generator.texel_part) < 17_000
    assert len(generator.hair_texels) > 1000
    with torch.no_grad():
        gaussians = generator(generator.w_mean + 0.5 * torch.randn(1, generator.w_dim))[0]
    assert torch.isfinite(gaussians.means).all() and gaussians.means.abs().max() < 3


def test_bases_on_a_coarser_map_are_refined():
    from dgtalker.head.template import HeadTemplate

    template = HeadTemplate.load()
    coarse = UVPyramid(template, 64, 128)
    atlas, fine = template.atlas(64), template.atlas(128)
    # Anything linear in the map stays as it is, but for texels at a chart's edge.
    ramp = (atlas.texel_rowcol.float() + 0.5) / 64
    refined = coarse.upsample(ramp)
    wanted = (fine.texel_rowcol.float() + 0.5) / 128
    assert ((refined - wanted).abs().max(1).values < 1e-5).float().mean() > 0.8
    assert (refined - wanted).abs().max() < 2 / 64
    back = coarse.downsample(refined)
    assert (back - ramp).abs().max() < 1.5 / 64
    hair = list(template.part_names).index("hair")
    values = torch.randn(2, coarse.coarse_count("hair"), 3)
    everywhere = torch.zeros(2, len(atlas), 3)
    everywhere[:, atlas.texel_part == hair] = values
    assert torch.allclose(coarse.upsample(values, "hair"), coarse.upsample(everywhere)[:, fine.texel_part == hair])
