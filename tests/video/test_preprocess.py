"""End to end on one real clip. Needs the shared GRID data and MediaPipe's models."""

import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.video.dataset import Dataset
from dgtalker.video.landmarks import find_model
from dgtalker.video.preprocess import PreprocessConfig, PreprocessStopped, preprocess

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
