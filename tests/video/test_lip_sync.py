"""The offset of sound that does not fit the lips is found, and sound that fits is left alone."""

import numpy as np
import pytest

from dgtalker.errors import UserError
from dgtalker.video.lip_sync import find_sound_offset, measure_sound_offset

RNG = np.random.default_rng(0)


def make_speech(frames=200):
    """A curve [T] of syllables of various lengths."""
    return np.convolve(RNG.normal(0, 1, frames + 8), np.hanning(7), "same")[4:-4]


@pytest.mark.parametrize("shift", [-20, -5, 0, 4, 13])
def test_shift_is_found_in_noise(shift):
    heard = make_speech()
    seen = np.roll(heard, shift) + RNG.normal(0, 0.8, 200)
    assert find_sound_offset(heard, seen, [(0, 200)]) == shift / 25


def test_frames_outside_the_runs_do_not_count():
    heard = make_speech()
    seen = np.roll(heard, 8)
    seen[60:90] = np.nan
    assert find_sound_offset(heard, seen, [(0, 60), (90, 200)]) == 8 / 25


def test_nobody_can_tell():
    heard, other = make_speech(), make_speech()
    assert find_sound_offset(heard, other, [(0, 200)]) == 0  # of another film
    assert find_sound_offset(heard, np.zeros(200), [(0, 200)]) == 0  # a mouth that stays closed
    assert find_sound_offset(heard, np.roll(heard, 8), [(0, 40)]) == 0  # too short
    assert find_sound_offset(heard, np.roll(heard, 2), [(0, 200)]) == 0  # nobody notices


def test_real_film_fits_and_its_moved_sound_is_found(grid_clip, face_landmarker):
    from dgtalker.audio.whisper_weights import find_whisper
    from dgtalker.video.landmarks import Landmarker
    from dgtalker.video.source import probe_video, read_frames

    try:
        weights = find_whisper(None)
    except UserError:
        pytest.skip("the Whisper weights are not there")
    with Landmarker(face_landmarker) as model:
        faces = [model.detect(frame)[0] for frame in read_frames(grid_clip, probe_video(grid_clip))]
    landmarks = np.stack([face.landmarks for face in faces])
    runs = [(0, len(landmarks))]
    assert measure_sound_offset(grid_clip, 0.0, landmarks, runs, weights) == 0
    assert measure_sound_offset(grid_clip, 0.4, landmarks, runs, weights) == pytest.approx(-0.4, abs=0.05)
