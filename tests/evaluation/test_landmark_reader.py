"""MediaPipe in worker processes, on one real frame."""

import numpy as np
import pytest

from dgtalker import metrics
from dgtalker.errors import UserError


@pytest.fixture(scope="module")
def frame(grid_clip):
    """A frame of a real talker, RGB uint8."""
    import imageio_ffmpeg

    reader = imageio_ffmpeg.read_frames(str(grid_clip))
    width, height = next(reader)["size"]
    picture = np.frombuffer(next(reader), np.uint8).reshape(height, width, 3)
    reader.close()
    return picture


def test_a_face_is_read_and_its_absence_is_nan(face_landmarker, frame):
    from dgtalker.evaluation.landmark_reader import LandmarkReader

    blank = np.full_like(frame, 255)
    with LandmarkReader(face_landmarker, processes=1) as read:
        points = read([frame, blank] + [frame] * 20)
    assert points.shape == (22, 478, 2) and np.isnan(points[1]).all() and np.isfinite(points[0]).all()
    np.testing.assert_array_equal(points[0], points[21])  # each frame on its own: no memory of the ones before
    assert 0 <= points[0].min() and points[0].max() < max(frame.shape)
    assert 0 <= metrics.aperture(points[0]) < 0.5 and -0.6 < metrics.eye_closure(points[0]) < -0.05
    rows, columns = metrics.mouth_box(points[0], min(frame.shape[:2]))
    assert rows.start > points[0][33, 1] and columns.start < points[0][13, 0] < columns.stop


def test_an_absent_model_is_one_sentence(tmp_path):
    pytest.importorskip("mediapipe")
    from dgtalker.evaluation.landmark_reader import LandmarkReader

    with pytest.raises(UserError):
        LandmarkReader(tmp_path / "nothing.task")
