"""End to end on one real clip. Needs the shared GRID data and MediaPipe's models."""

import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.video.clips import Video, analyse_videos, split_into_clips
from dgtalker.video.dataset import Dataset
from dgtalker.video.landmarks import find_model
from dgtalker.video.left_out import Report, count_left_out
from dgtalker.video.preprocess import PreprocessConfig, PreprocessStopped, preprocess
from dgtalker.video.source import probe_video
from dgtalker.video.worker_pool import InputProblems, ProgressCounter, WorkerPool

CONFIG = PreprocessConfig(feature_kind="log-mel", workers=1)


@pytest.fixture(scope="module")
def dataset(grid_clip, face_landmarker, tmp_path_factory):
    return preprocess([grid_clip], tmp_path_factory.mktemp("data"), face_landmarker, config=CONFIG)


def test_clip_is_complete_and_consistent(dataset):
    clip = dataset.clip(0)
    assert len(clip) == 75 and clip.features.shape == (150, 80) and clip.images.shape == (75, 256, 256, 3)
    assert clip.info.tracking_error < 1.6 and clip.info.jitter < 0.3
    images, alpha = clip.images.numpy(), clip.alpha.numpy()
    assert (images[alpha == 0] == 255).all()
    assert 0.2 < (alpha > 127).mean() < 0.6
    assert (alpha[:, -2:] < 8).all() and (alpha[:, :2] < 8).all()  # neck cut below, room above
    assert clip.audio_path.is_file()
    assert 0 <= clip.blink.min() and clip.blink.max() <= 1
    # The head's origin projects into the head, half-way between the temples.
    origin = clip.world_to_camera[:, :3, 3]
    pixels = (clip.intrinsics @ origin[..., None])[..., 0]
    x = (pixels[:, 0] / pixels[:, 2]).numpy()
    temples = clip.landmarks[:, [127, 356], 0].mean(1).numpy()
    assert np.abs(x - temples).max() < 15
    assert abs(float(origin[:, 2].median()) - 12) < 0.5


def test_second_run_keeps_clips_and_like_shares_the_shape(dataset, grid_clip, face_landmarker, tmp_path):
    path = dataset.clip(0).path
    before = path.stat().st_mtime_ns
    preprocess([grid_clip], dataset.folder, face_landmarker, config=CONFIG)
    assert path.stat().st_mtime_ns == before
    other = preprocess([grid_clip], tmp_path, face_landmarker, like=dataset.folder, config=CONFIG)
    assert other.info.shape == dataset.info.shape and other.info.focal == dataset.info.focal
    assert np.allclose(other.clip(0).intrinsics, dataset.clip(0).intrinsics, atol=0.05)
    assert isinstance(other, Dataset)


def test_stop_leaves_no_data_set(grid_clip, face_landmarker, tmp_path):
    with pytest.raises(PreprocessStopped):
        preprocess([grid_clip], tmp_path, face_landmarker, config=CONFIG, cancelled=lambda: True)
    with pytest.raises(UserError):
        Dataset.open(tmp_path)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="There is no model file"):
        find_model("face_landmarker.task", tmp_path / "absent.task")


def test_report_says_what_was_kept_and_left_out(dataset, tmp_path):
    assert Report.load(dataset.folder).lines == ["3.0 s are used."]
    parts = count_left_out("a.mp4", ["fade"] * 25 + [""] * 50 + ["person"] * 25)
    report = Report(2.0, tuple(parts), {"a.mp4": 0.2}, people=2)
    report.save(tmp_path)
    assert Report.load(tmp_path) == report
    assert report.lines[1:3] == [
        "Left out of a.mp4: 1.0 s, fade from or to an even colour (at 0.0 s).",
        "Left out of a.mp4: 1.0 s, another person (at 3.0 s).",
    ]
    with pytest.raises(UserError, match="cannot be read"):
        Report.load(tmp_path / "absent")


@pytest.fixture(scope="module")
def hard_films(shared, face_landmarker, tmp_path_factory):
    """Clips, kinds of what is left out, people and sentences of each film in hard_inputs."""
    folder = shared / "data/hard_inputs"
    if not folder.is_dir():
        pytest.skip("hard_inputs is not there")
    films = [Video(path, probe_video(path)) for path in sorted([*folder.glob("*.mp4"), *folder.glob("*.ts")])]
    problems, counter, found = InputProblems(), ProgressCounter(lambda *_: None, 1), {}
    with WorkerPool(1, lambda: False) as pool:
        cache = tmp_path_factory.mktemp("cache")
        analyses = analyse_videos(films, cache, face_landmarker, pool, counter, problems)
    for analysis in analyses:
        problems = InputProblems()
        clips, left_out, people = split_into_clips([analysis], CONFIG, problems)
        runs = [(c.start, len(c)) for c in clips]
        found[analysis.video.path.stem] = runs, {part.kind for part in left_out}, people, list(problems.found)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("film", "runs", "kinds", "people", "sentence"),
    [
        ("two_people", [(0, 65)], {"person"}, 2, "another person from 2.6 to 5.2 s"),
        ("fades", [(15, 36)], {"fade", "black"}, 1, "fades in"),
        ("close_up", [], {"edge", "none"}, 1, "edge of the picture"),
        ("silent_track", [], {"silent"}, 1, "silent"),
        ("video_starts_late", [(14, 64)], {"frozen"}, 1, "stands still"),
        ("hlg", [(0, 65)], set(), 1, None),
    ],
)
def test_hard_films_lose_what_teaches_the_wrong_thing(hard_films, film, runs, kinds, people, sentence):
    found_runs, found_kinds, found_people, sentences = hard_films[film]
    assert np.allclose(found_runs, runs, atol=1) and len(found_runs) == len(runs)
    assert found_kinds == kinds and found_people == people
    assert (sentence is None and not sentences) or sentence in sentences[0]
