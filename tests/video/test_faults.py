"""Each kind of frame that teaches nothing or the wrong thing is found, and honest frames are not."""

import numpy as np
import pytest

from dgtalker.video import faults

RNG = np.random.default_rng(0)


def make_scene(frames=100):
    """Thumbnails uint8 [T,18,32,3] of a picture that hardly changes."""
    scene = RNG.integers(30, 230, (18, 32, 3))
    return (scene + RNG.integers(-2, 3, (frames, 18, 32, 3))).astype(np.uint8)


def make_patches(frames=100):
    """Face patches: skin, darker eyes, and red lips that open and close."""
    patches = np.empty((frames, faults.PATCH_HEIGHT, faults.PATCH_WIDTH, 3))
    patches[:] = (200, 150, 125)
    patches[:, 8:10, 5:9] = patches[:, 8:10, 15:19] = (110, 90, 80)
    for t in range(frames):
        opened = int(2 + 2 * np.sin(t))
        patches[t, 20 : 22 + opened // 2, 9:15] = (180, 95, 95)
        patches[t, 21 : 21 + opened // 2, 10:14] = (60, 30, 30)
    return (patches + RNG.integers(-3, 4, patches.shape)).clip(0, 255).astype(np.uint8)


def fade(pictures, levels, color=0):
    weights = np.asarray(levels)[:, None, None, None]
    return (pictures * weights + color * (1 - weights)).round().astype(np.uint8)


LEVELS = np.clip(np.minimum(np.arange(100) / 15, (99 - np.arange(100)) / 20), 0, 1)


@pytest.mark.parametrize("color", [0, 255])
def test_fades_from_and_to_a_color(color):
    faded = faults.find_fades(fade(make_scene(), LEVELS, color), fade(make_patches(), LEVELS, color))
    assert (faded == (LEVELS < 0.96)).mean() > 0.98 and not faded[20:75].any()


def test_light_that_changes_is_no_fade():
    light = 0.8 + 0.2 * np.cos(np.arange(100) / 10)
    assert not faults.find_fades(fade(make_scene(), light), fade(make_patches(), light)).any()


def test_a_head_that_moves_is_no_fade():
    """The picture differs from the usual one, the face in its patch does not."""
    scene = make_scene()
    scene[40:60] = np.roll(scene[40:60], 9, axis=2)
    assert not faults.find_fades(scene, make_patches()).any()


def test_black():
    black = faults.find_black(fade(make_scene(), LEVELS))
    assert black[0] and black[-1] and not black[5:90].any()


def test_dissolve_is_found_and_a_cut_or_a_pan_is_not():
    a, b = make_scene(60), make_scene(60)
    weights = np.clip((np.arange(60) - 20) / 16, 0, 1)[:, None, None, None]
    ((start, stop),) = faults.find_dissolves((a * (1 - weights) + b * weights).astype(np.uint8))
    assert abs(start - 21) <= 2 and abs(stop - 36) <= 2
    assert faults.find_dissolves(np.concatenate([a[:30], b[:30]])) == []
    wide = RNG.integers(0, 255, (18, 200, 3))
    pan = np.stack([wide[:, t : t + 32] for t in range(60)]).astype(np.uint8)
    assert faults.find_dissolves(pan) == []


def test_frozen_picture_counts_only_while_somebody_speaks():
    scene, loudness = make_scene(), np.full(100, 0.1, np.float32)
    landmarks = RNG.uniform(0, 100, (1, 478, 2)) + RNG.normal(0, 0.3, (100, 478, 2))
    scene[40:70], landmarks[40:70] = scene[40], landmarks[40]
    frozen = faults.find_frozen(scene, landmarks, loudness)
    assert frozen[40:70].all() and frozen.sum() == 30
    loudness[38:72] = 0
    assert not faults.find_frozen(scene, landmarks, loudness).any()


def test_faces_cut_by_the_edge():
    landmarks = RNG.uniform(40, 160, (4, 478, 2))
    landmarks[1, :, 0] -= 60
    landmarks[2, :, 1] += 100
    landmarks[3] = np.nan
    assert faults.find_cut_faces(landmarks, 200, 200).tolist() == [False, True, True, False]


@pytest.mark.parametrize("color", [(225, 230, 235), (110, 160, 205), (25, 25, 30)])
@pytest.mark.parametrize("frames", [slice(40, 55), slice(0, 100)])
def test_masks_over_the_mouth(color, frames):
    patches = make_patches()
    patches[frames, 15:, 4:20] = color
    covered = faults.find_covered_mouths(patches)
    assert covered[frames].all() and covered.sum() == len(covered[frames])


def test_hand_and_microphone_before_the_mouth():
    hand, microphone = make_patches(), make_patches()
    hand[40:55, 17:28, 4:20] = (185, 138, 115)
    microphone[40:55, 18:28, 7:17] = (20, 20, 22)
    for patches in (hand, microphone):
        covered = faults.find_covered_mouths(patches)
        assert covered[40:55].all() and covered.sum() == 15


def test_a_talking_mouth_is_not_covered():
    assert not faults.find_covered_mouths(make_patches()).any()
    dark = fade(make_patches(), np.full(100, 0.45))
    assert not faults.find_covered_mouths(dark).any()


def test_sunglasses_and_darkness():
    patches = make_patches()
    assert not faults.find_sunglasses(patches).any() and not faults.find_dark(patches).any()
    patches[50:, 6:13, 3:11] = patches[50:, 6:13, 13:21] = 18
    assert faults.find_sunglasses(patches).tolist() == [False] * 50 + [True] * 50
    assert faults.find_dark(fade(make_patches(10), np.full(10, 0.1))).all()


def test_patch_shows_the_same_face_whatever_its_place_and_size():
    """A picture moved and scaled together with its landmarks gives the same patch."""
    import cv2

    frame = cv2.resize(RNG.integers(0, 255, (24, 24, 3)).astype(np.uint8), (240, 240), interpolation=cv2.INTER_CUBIC)
    landmarks = RNG.uniform(60, 180, (478, 2)).astype(np.float32)
    landmarks[[33, 263, 2, 10, 152]] = [(80, 90), (160, 90), (120, 140), (120, 50), (120, 190)]
    move = np.float32([[1.5, 0, 40], [0, 1.5, 20]])
    other = faults.face_patch(cv2.warpAffine(frame, move, (420, 420)), landmarks @ move[:, :2].T + move[:, 2])
    patch = faults.face_patch(frame, landmarks)
    assert patch.shape == (faults.PATCH_HEIGHT, faults.PATCH_WIDTH, 3)
    assert np.abs(patch.astype(int) - other)[4:-4, 4:-4].mean() < 8
