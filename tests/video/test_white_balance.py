"""Clips of one person filmed under different white balances come out in one colour."""

import subprocess

import numpy as np

from dgtalker.video.preprocess import PreprocessConfig, preprocess
from dgtalker.video.white_balance import SKIN_PATCHES, skin_patch_color, white_balance_gains


def test_color_is_read_off_the_patches_alone():
    landmarks = np.full((478, 2), -9.0)
    corners = [np.array([[x, y], [x + 9, y], [x + 9, y + 9], [x, y + 9], [x, y + 4]]) for x, y in ((5, 5), (40, 40))]
    for patch, place in zip(SKIN_PATCHES, [*corners, corners[0][:4]], strict=True):
        landmarks[list(patch)] = place
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[5:15, 5:15] = frame[40:50, 40:50] = (200, 100, 50)
    assert np.allclose(skin_patch_color(frame, landmarks) * 255, (200, 100, 50))


def test_gains_reach_the_wanted_color_and_leave_the_unknown_alone():
    colors = np.array([[0.5, 0.4, 0.2], [np.nan] * 3, [0.01, 0.4, 0.4]])
    found = white_balance_gains(colors, [0.6, 0.4, 0.3])
    assert np.allclose(colors[0] * found[0], [0.6, 0.4, 0.3])
    assert (found[1] == 1).all() and found[2, 0] == 2.0  # never more than a camera's setting could be
    assert (white_balance_gains(colors, []) == 1).all()


def test_a_tinted_clip_comes_out_like_the_others(grid_clip, face_landmarker, tmp_path):
    from imageio_ffmpeg import get_ffmpeg_exe

    tint = "format=rgb24,colorchannelmixer=rr=1.15:gg=0.95:bb=0.65"
    command = [get_ffmpeg_exe(), "-v", "error", "-i", grid_clip, "-t", "1.2", "-q:v", "2"]
    subprocess.run([*command, tmp_path / "usual.avi"], check=True)
    subprocess.run([*command, "-vf", tint, tmp_path / "tinted.avi"], check=True)
    config = PreprocessConfig(feature_kind="log-mel", workers=1)
    usual = preprocess([tmp_path / "usual.avi"], tmp_path / "train", face_landmarker, config=config)
    other = preprocess([tmp_path / "tinted.avi"], tmp_path / "test", face_landmarker, like=usual.folder, config=config)
    gain = other.clip(0).info.gain
    assert gain[0] < 0.95 and gain[2] > 1.3
    assert np.allclose(usual.clip(0).info.gain, 1, atol=1e-3)
    means = []
    for clip in (usual.clip(0), other.clip(0)):
        head = clip.alpha[0].numpy() > 250
        means.append(clip.images[0].numpy()[head].mean(0))
    assert np.abs(means[0] - means[1]).max() < 8  # of 255; unbalanced, blue alone is more than 30 apart
