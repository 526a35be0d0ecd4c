"""Views from aside: true pictures of a head that is moved, turned and scaled against the identity's own coordinates."""

import numpy as np
import pytest
import torch
from fakes.held_out import make_dataset
from scipy.spatial.transform import Rotation

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.evaluation import side_views
from dgtalker.evaluation.attached_landmarks import project
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.video.true_views import TrueViews, views_path

YAWS = np.array([-40.0, 0.0, 40.0])
TRUE = side_views.Similarity(
    1.1, Rotation.from_euler("xyz", [3, -4, 2], degrees=True).as_matrix(), np.array([0.1, -0.05, 0.08])
)


@pytest.fixture
def scene(identity, tmp_path):
    """A held-out clip, and true views of its film: the identity's own pictures in other coordinates."""
    dataset = make_dataset(tmp_path / "set", identity, clips=1)
    cameras = Camera.stack([orbit_camera(yaw, size=64) for yaw in YAWS])
    seen = {}  # a picture's hash -> the 3D head it shows, as the detector will read it
    clips = list(dataset)
    context = EvaluationContext(
        identity, clips, {}, lambda pictures: np.array([seen[hash(p.tobytes())] for p in pictures])
    )
    context.coefficients.update(
        {clip.name: identity.encode(clip.features.float().numpy(), clip.blink.numpy()) for clip in clips}
    )
    points = np.random.default_rng(0).normal(0, 0.5, (478, 3))

    def note(picture, camera):
        seen[hash(picture.tobytes())] = project(points, camera)[0]
        return picture

    frames = np.array([2, 9])
    a_exp, a_lip = context.coefficients["clip0"]
    inner = TRUE.move_camera(cameras)
    pictures = [
        [note(render_coefficients(identity, a_exp[t], a_lip[t], inner[i]), inner[i]) for i in range(3)] for t in frames
    ]
    for code in [(a_exp[t], a_lip[t]) for t in frames] + [context.rest]:
        for batch in (cameras, inner):
            for i in range(3):
                note(render_coefficients(identity, *code, batch[i]), batch[i])
    truth = tmp_path / "films"
    truth.mkdir()
    TrueViews(np.array(pictures), frames, YAWS, cameras).save(views_path(truth / "made.mp4"))
    return context, truth


def test_similarity_is_recovered_from_points():
    points = np.random.default_rng(1).normal(size=(30, 3))
    found = side_views.fit_similarity(points, TRUE.scale * points @ TRUE.rotation.T + TRUE.shift)
    assert found.scale == pytest.approx(TRUE.scale)
    assert np.allclose(found.rotation, TRUE.rotation) and np.allclose(found.shift, TRUE.shift)
    assert found.figures()["millimetres"] == pytest.approx(100 * np.linalg.norm(TRUE.shift))


def test_points_on_a_line_fix_no_similarity():
    line = np.arange(5.0)[:, None] * np.array([[1.0, 2.0, 3.0]])
    assert side_views.fit_similarity(line, line) is None


def test_points_are_found_again_from_their_pixels():
    points = np.random.default_rng(2).normal(0, 0.5, (12, 3))
    cameras = Camera.stack([orbit_camera(yaw, 5.0) for yaw in YAWS])
    pixels = np.stack([project(points, cameras[i])[0] for i in range(3)])
    assert np.allclose(side_views.triangulate(pixels, cameras), points, atol=1e-5)


def test_moved_cameras_show_the_moved_head():
    points = np.random.default_rng(3).normal(0, 0.5, (5, 3))
    outer = orbit_camera(20.0, size=256)
    there = project(TRUE.scale * points @ TRUE.rotation.T + TRUE.shift, outer)[0]
    assert np.allclose(project(points, TRUE.move_camera(outer))[0], there, atol=1e-2)


def test_a_true_head_in_other_coordinates_is_aligned_and_scores_well(scene):
    context, truth = scene
    aligned = side_views.align_landmarks(*_read(context, truth))
    assert aligned.scale == pytest.approx(TRUE.scale, rel=1e-3) and np.allclose(aligned.shift, TRUE.shift, atol=1e-3)


def _read(context, truth):
    moments = side_views.find_moments(context, truth)
    assert [moment.clip for moment in moments] == ["clip0", "clip0"]
    made = [context.read_landmarks(side_views._draw(context, moment, moment.code)) for moment in moments]
    return moments, made, [context.read_landmarks(moment.pictures) for moment in moments]


def test_figures_by_yaw(scene, monkeypatch):
    context, truth = scene
    monkeypatch.setattr(side_views, "align_landmarks", lambda *_: TRUE)
    found = side_views.measure_views(context, truth)
    aligned, static = found["aligned"], found["baselines"]["static"]
    assert aligned["psnr"] == aligned["psnr_face"] == 100 and aligned["lmd_px"] == 0
    assert [row["yaw"] for row in found["by_yaw"]] == list(YAWS)
    assert all(row["faces_found"] == 1 for row in found["by_yaw"])
    assert found["moments"] == 2 and found["clips"] == 1
    assert found["psnr"] < 40 and found["psnr_face"] < 40 and found["lmd_px"] > 1
    assert static["psnr"] < 40 and "similarity" in aligned
    assert context.report_figures.curves["views"] and context.report_figures.strips["views"]


def test_films_without_views_are_said_to_have_none(scene, tmp_path):
    found = side_views.measure_views(scene[0], tmp_path)
    assert found["psnr"] is None and "synthesize-performance --views" in found["reason"]


@pytest.mark.parametrize(
    ("source", "film"),
    [("a.mp4", ("a.mp4", 0)), ("my film at home.mp4", ("my film at home.mp4", 0)), ("a.mp4 at 2.40 s", ("a.mp4", 60))],
)
def test_a_clip_knows_its_film(source, film):
    assert side_views.parse_source(source) == film


def test_damaged_views_are_refused(tmp_path):
    path = views_path(tmp_path / "film.mp4")
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        TrueViews.load(path)
    views = TrueViews(np.zeros((1, 2, 8, 8, 3), np.uint8), np.zeros(1), np.zeros(3), _two_cameras())
    with pytest.raises(UserError, match="do not fit"):
        TrueViews.load(views.save(path))


def _two_cameras():
    return Camera(torch.eye(4).repeat(2, 1, 1), torch.eye(3).repeat(2, 1, 1), 8, 8)
