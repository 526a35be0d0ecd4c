"""The packaged head template: shapes, atlas, moving parts."""

import numpy as np
import pytest
import torch

from dgtalker.errors import UserError
from dgtalker.head.template import HeadTemplate, rasterise_uv
from dgtalker.people.rays import cast_rays
from dgtalker.people.template.uv_unwrap import flatten_patch


@pytest.fixture(scope="module")
def template():
    return HeadTemplate.load()


def move(template, part, **units):
    """Mean motion [3] of a part's vertices for some ARKit units."""
    e = torch.zeros(52)
    for name, value in units.items():
        e[template.expression_names.index(name)] = value
    delta = template.geometry(expression=e) - template.vertices
    return delta[template.part == template.part_index(part)].mean(0)


def test_fields(template):
    count = len(template.vertices)
    assert template.shape_basis.shape == (64, count, 3)
    assert template.expression_basis.shape == (52, count, 3)
    assert template.triangles.dtype == torch.int32 and int(template.triangles.max()) < count
    assert len(template.expression_names) == 52 == len(set(template.expression_names))
    assert set(template.part.unique().tolist()) == set(range(len(template.part_names)))


def test_head_lies_in_the_portrait_view(template):
    assert template.vertices[:, 1].abs().max() < 1.6  # the view is 3.2 dm high
    skin = template.vertices[template.part == 0]
    assert skin[:, 2].argmax() >= 0 and skin[skin[:, 2].argmax(), 0].abs() < 0.1  # the nose looks along +z
    left = template.vertices[template.part == template.part_index("eyeball_left")]
    assert left[:, 0].min() > 0


@pytest.mark.parametrize(("size", "least"), [(128, 14000), (256, 56000)])
def test_atlas_texels(template, size, least):
    atlas = template.atlas(size)
    assert least < len(atlas) <= size * size
    assert len(atlas) > 0.85 * size * size
    assert torch.allclose(atlas.texel_bary.sum(1), torch.ones(len(atlas)), atol=1e-5)
    assert atlas.texel_bary.min() >= 0
    uv = (template.uv[atlas.texel_triangle] * atlas.texel_bary[..., None]).sum(1) * size - 0.5
    assert (uv.flip(-1) - atlas.texel_rowcol).abs().max() < 0.05  # bary coordinates lead back to the texel's centre
    assert torch.equal(atlas.texel_part, template.part[template.triangles[atlas.texel_triangle, 0].long()])


def test_charts_do_not_fold(template):
    edge1, edge2 = template.uv[:, 1] - template.uv[:, 0], template.uv[:, 2] - template.uv[:, 0]
    area = (edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]).double()
    part = template.part[template.triangles.long()].amin(1)
    part[part <= 2] = 0  # skin, mouth cavity and sockets share a chart
    for index in part.unique():
        signs = torch.sign(area[part == index])
        assert (signs == signs[0]).all(), template.part_names[index]


def test_lips_and_lids_are_denser_than_the_skull(template):
    atlas = template.atlas(128)
    rest = (template.vertices[template.triangles[atlas.texel_triangle].long()] * atlas.texel_bary[..., None]).sum(1)
    skin = rest[atlas.texel_part == 0]
    mouth = ((skin - torch.tensor([0, -0.40, 0.95])).norm(dim=1) < 0.2).sum()
    skull = ((skin - torch.tensor([0, 0.5, -1.0])).norm(dim=1) < 0.2).sum()
    assert mouth > 4 * skull


def test_moving_parts(template):
    assert move(template, "teeth_lower", jawOpen=1.0)[1] < -0.1
    assert move(template, "tongue", jawOpen=1.0)[1] < -0.05
    assert move(template, "teeth_upper", jawOpen=1.0).norm() < 0.01
    assert move(template, "eyeball_left", jawOpen=1.0).norm() < 0.01
    # Looking left turns the front of the eyeball towards +x.
    e = torch.zeros(52)
    e[template.expression_names.index("eyeLookOutLeft")] = 1
    eye = template.part == template.part_index("eyeball_left")
    pupil = template.vertices[eye][:, 2].argmax()
    assert (template.geometry(expression=e) - template.vertices)[eye][pupil, 0] > 0.03
    assert move(template, "hair", jawOpen=1.0).norm() < 0.02


def test_geometry_is_batched_and_linear(template):
    shape, expression = torch.randn(2, 3, 64), torch.rand(2, 3, 52)
    out = template.geometry(shape, expression)
    assert out.shape == (2, 3, len(template.vertices), 3)
    assert torch.allclose(out[1, 2], template.geometry(shape[1, 2], expression[1, 2]), atol=1e-5)


def test_regions_have_a_dead_zone_over_the_nose(template):
    skin = template.part == 0
    vertices = template.vertices
    nose = skin & (vertices[:, 2] == vertices[skin][:, 2].max())
    assert template.upper_weight[nose].max() == 0 and template.lower_weight[nose].max() == 0
    assert (template.upper_weight * template.lower_weight).max() == 0
    assert template.lower_weight[template.part == template.part_index("teeth_lower")].min() > 0.9
    assert template.upper_weight[template.part == template.part_index("eyeball_left")].min() > 0.9


def test_landmarks(template):
    assert (template.landmark_triangle >= 0).all()
    points = template.landmarks(template.vertices)
    assert points.shape == (478, 3)
    right, left = points[33], points[263]  # outer corners of the eyes: MediaPipe's 33 is the subject's right
    assert right[0] < -0.3 and left[0] > 0.3 and abs(float(right[1] - left[1])) < 0.05
    assert points[1, 2] > 0.9  # tip of the nose
    assert points[13, 1] > points[14, 1] - 0.02  # upper inner lip above the lower one
    e = torch.zeros(52)
    e[template.expression_names.index("jawOpen")] = 0.6
    opened = template.landmarks(template.geometry(expression=e))
    assert opened[13, 1] - opened[14, 1] > 0.15  # and they part
    centre = template.vertices[template.part == template.part_index("eyeball_left")]
    assert (points[473] - centre[centre[:, 2].argmax()]).norm() < 0.08


def test_missing_template_is_told(tmp_path):
    with pytest.raises(UserError):
        HeadTemplate.load(tmp_path / "none.safetensors")


def test_package_size(template):
    from dgtalker.head.template import TEMPLATE_PATH

    assert TEMPLATE_PATH.stat().st_size < 8 * 2**20


def test_flatten_follows_density():
    n = 15
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    vertices = np.stack([x.ravel(), y.ravel(), 0.2 * np.sin(3 * x.ravel())], 1)
    a = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    triangles = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    middle = vertices[triangles].mean(1)
    dense = middle[:, 0] < 0.5
    uv = flatten_patch(vertices, triangles, [0, n - 1, n * n - 1, n * n - n], 1.0, np.where(dense, 4.0, 1.0))
    p = uv[triangles]
    e1, e2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]
    area = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    assert (area > 0).all()
    assert area[dense].sum() > 2 * area[~dense].sum()


def test_rays_hit_the_nearest_triangle():
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [0, 2, 0], [-1, -1, 1], [1, -1, 1], [0, 2, 1.0]])
    distance, face, bary = cast_rays(
        np.array([[0, 0, 3.0], [5, 0, 3]]),
        np.array([[0, 0, -1.0], [0, 0, -1]]),
        vertices,
        np.array([[0, 1, 2], [3, 4, 5]]),
        max_hits=2,
    )
    assert face.tolist() == [[1, 0], [-1, -1]]
    assert np.allclose(distance[0], [2, 3]) and np.isinf(distance[1]).all()
    assert np.allclose(bary[0, 0] @ vertices[3:], [0, 0, 1])


def test_rasterise_covers_a_square_once():
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], float)
    triangle, bary = rasterise_uv(uv, 16)
    assert (triangle >= 0).all() and set(triangle.ravel()) == {0, 1}
    assert np.allclose(bary.sum(-1), 1)
