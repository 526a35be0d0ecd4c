"""End to end on one real clip. Needs the shared GRID data and MediaPipe's models."""

import os
from pathlib import Path

import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.head.template import TEMPLATE_PATH
from dgtalker.video.dataset import Dataset
from dgtalker.video.landmarks import find_model
from dgtalker.video.preprocess import PreprocessConfig, PreprocessStopped, preprocess

SHARED = Path(os.environ.get("DGTALKER_SHARED", Path(__file__).resolve().parents[2] / ".." / "shared"))
CLIPS = sorted((SHARED / "data" / "grid_s1" / "test").glob("*.mpg"))[:1]
MODEL = SHARED / "models" / "face_landmarker.task"
needs_data = pytest.mark.skipif(
    not (CLIPS and MODEL.is_file() and TEMPLATE_PATH.is_file()), reason="no GRID clips, models or head template"
)
CONFIG = PreprocessConfig(feature_kind="log-mel", workers=1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    pytest.importorskip("mediapipe")
    return preprocess(CLIPS, tmp_path_factory.mktemp("data"), MODEL, config=CONFIG)


@needs_data
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


@needs_data
def test_second_run_keeps_clips_and_like_shares_the_shape(dataset, tmp_path):
    path = dataset.clip(0).path
    before = path.stat().st_mtime_ns
    preprocess(CLIPS, dataset.folder, MODEL, config=CONFIG)
    assert path.stat().st_mtime_ns == before
    other = preprocess(CLIPS, tmp_path, MODEL, like=dataset.folder, config=CONFIG)
    assert other.info.shape == dataset.info.shape and other.info.focal == dataset.info.focal
    assert np.allclose(other.clip(0).intrinsics, dataset.clip(0).intrinsics, atol=0.05)
    assert isinstance(other, Dataset)


@needs_data
def test_stop_leaves_no_data_set(tmp_path):
    with pytest.raises(PreprocessStopped):
        preprocess(CLIPS, tmp_path, MODEL, config=CONFIG, cancelled=lambda: True)
    with pytest.raises(UserError):
        Dataset.open(tmp_path)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(UserError, match="There is no model file"):
        find_model("face_landmarker.task", tmp_path / "absent.task")
