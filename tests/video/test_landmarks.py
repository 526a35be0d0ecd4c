import os

import numpy as np

from dgtalker.video.landmarks import LANDMARKS, SCORE_NAMES, Face, FaceFollower, usage_reports_blocked


class FakeLandmarker:
    """Finds the squares in a picture: values 1, 2 ... are faces. In large pictures it misses those below a share."""

    def __init__(self, smallest: float):
        self.smallest, self.searched = smallest, []

    def detect(self, picture):
        self.searched.append(picture.shape[:2])
        faces = []
        for value in np.unique(picture[picture > 0]):
            rows, columns = np.nonzero(picture[..., 0] == value)
            low, high = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
            if (high - low).max() >= self.smallest * max(picture.shape[:2]):
                corners = np.linspace(low, high, LANDMARKS).astype(np.float32)
                faces.append(Face(corners, np.zeros(len(SCORE_NAMES), np.float32), np.eye(4, dtype=np.float32)))
        return sorted(faces, key=lambda face: -face.size)


def _picture(*squares) -> np.ndarray:
    """400 x 300 with squares (value, left, top, side)."""
    picture = np.zeros((400, 300, 3), np.uint8)
    for value, left, top, side in squares:
        picture[top : top + side, left : left + side] = value
    return picture


def test_a_face_is_followed_where_the_whole_picture_misses_it():
    model = FakeLandmarker(smallest=0.12)
    follower = FaceFollower(model)
    sides = [60, 50, 40, 40, 40, 40, 40, 40, 50, 60]  # 0.1 of the picture's height: missed when searched in the whole
    for t, side in enumerate(sides):
        faces = follower.detect(_picture((1, 100 + 5 * t, 150 - 3 * t, side)))
        assert len(faces) == 1
        assert np.allclose(faces[0].landmarks.min(0), [100 + 5 * t, 150 - 3 * t])
        assert faces[0].size == side
    assert len(FakeLandmarker(0.12).detect(_picture((1, 100, 150, 40)))) == 0


def test_a_face_that_jumps_is_found_again_and_one_that_leaves_is_not():
    follower = FaceFollower(FakeLandmarker(0.1))
    assert follower.detect(_picture((1, 20, 20, 60)))
    jumped = follower.detect(_picture((1, 200, 300, 60)))
    assert np.allclose(jumped[0].landmarks.min(0), [200, 300])
    assert follower.detect(_picture()) == []
    assert follower.detect(_picture((1, 20, 20, 60)))


def test_a_second_face_is_seen_at_every_search_and_remembered_between():
    follower = FaceFollower(FakeLandmarker(0.1))
    counts = [len(follower.detect(_picture((1, 20, 20, 80), (2, 200, 300, 60)))) for _ in range(12)]
    assert counts == [2] * 12
    counts = [len(follower.detect(_picture((1, 20, 20, 80)))) for _ in range(6)]
    assert counts[-1] == 1  # forgotten at the next search


def test_a_larger_face_is_followed_instead():
    follower = FaceFollower(FakeLandmarker(0.1))
    follower.detect(_picture((1, 20, 20, 60)))
    for _ in range(FaceFollower.SEARCH_EVERY):
        faces = follower.detect(_picture((1, 20, 20, 60), (2, 150, 250, 120)))
    assert [face.size for face in faces] == [120, 60]


def test_proxies_come_back_after_usage_reports_were_blocked(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.delenv("ALL_PROXY", raising=False)
    with usage_reports_blocked():
        assert os.environ["HTTPS_PROXY"] == os.environ["ALL_PROXY"] == "http://127.0.0.1:9"
    assert os.environ["HTTPS_PROXY"] == "http://proxy:3128" and "ALL_PROXY" not in os.environ
