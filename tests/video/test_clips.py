import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.video.clips import PreprocessConfig, find_usable_runs
from dgtalker.video.source import list_videos, probe_video


def seen(frames=100, size=120.0):
    """Landmarks, second faces and thumbnails of a quiet shot."""
    rng = np.random.default_rng(0)
    landmarks = np.tile(rng.uniform(0, size, (1, 478, 2)), (frames, 1, 1)).astype(np.float32)
    landmarks += rng.normal(0, 0.2, landmarks.shape)
    thumbnails = np.tile(rng.integers(0, 200, (1, 18, 32, 3)), (frames, 1, 1, 1))
    thumbnails = (thumbnails + rng.integers(0, 4, thumbnails.shape)).astype(np.uint8)
    return landmarks, np.zeros(frames, np.float32), thumbnails


def runs(landmarks, second, thumbnails):
    messages = []
    found = find_usable_runs(
        landmarks, second, thumbnails, "a.mp4", PreprocessConfig(), lambda e: messages.append(str(e))
    )
    return found, messages


def test_quiet_shot_is_one_run():
    assert runs(*seen()) == ([(0, 100)], [])


def test_cut_in_the_picture_splits():
    landmarks, second, thumbnails = seen()
    thumbnails[40:] = 255 - thumbnails[40:]
    assert runs(landmarks, second, thumbnails) == ([(0, 40), (40, 100)], [])


def test_jump_cut_splits_though_the_background_stays():
    landmarks, second, thumbnails = seen()
    landmarks[60:] += 30
    assert runs(landmarks, second, thumbnails)[0] == [(0, 60), (60, 100)]


def test_fast_motion_is_no_cut():
    landmarks, second, thumbnails = seen()
    landmarks += 20 * np.sin(np.arange(100) / 2)[:, None, None]
    assert runs(landmarks, second, thumbnails)[0] == [(0, 100)]


def test_short_gap_is_bridged_and_long_gap_splits():
    landmarks, second, thumbnails = seen()
    landmarks[50:53] = np.nan
    assert runs(landmarks, second, thumbnails)[0] == [(0, 100)]
    landmarks[50:60] = np.nan
    found, messages = runs(landmarks, second, thumbnails)
    assert found == [(0, 50), (60, 100)]
    assert messages == ["No face was found in a.mp4 at 2.0 s; use video in which one large face is always visible."]


def test_two_faces_now_and_then_spoil_the_shot():
    landmarks, second, thumbnails = seen()
    second[::3] = 0.9
    found, messages = runs(landmarks, second, thumbnails)
    assert found == [] and messages == ["There are two faces in a.mp4 at 0.0 s; use video of one person alone."]


def test_small_face():
    found, messages = runs(*seen(size=40.0))
    assert found == [] and "too small (40 pixels)" in messages[0]


def test_no_frame_without_a_face_in_all():
    landmarks, second, thumbnails = seen()
    landmarks[:] = np.nan
    found, messages = runs(landmarks, second, thumbnails)
    assert found == [] and len(messages) == 1 and "No face" in messages[0]


def test_bad_paths(tmp_path):
    with pytest.raises(UserError, match="no file or folder"):
        list_videos(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no video"):
        list_videos(tmp_path)
    (tmp_path / "a.mp4").write_text("not a video")
    assert list_videos(tmp_path) == [tmp_path / "a.mp4"]
    with pytest.raises(UserError, match="is a text"):
        probe_video(tmp_path / "a.mp4")
