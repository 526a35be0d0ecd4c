"""Reduced frames show the same scene in smaller pictures."""

import torch
from fakes.identity_data import SIZE, tiny_generator, write_fake_dataset

from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.video.dataset import Dataset


def test_reduced_frames_show_the_same_in_fewer_pixels(tmp_path):
    frames = DatasetFrames(Dataset.open(write_fake_dataset(tmp_path, tiny_generator(), clips=1, frames=12)))
    small = frames.reduced(SIZE // 2)
    assert (small.size, small.reduction, len(small)) == (SIZE // 2, 2, len(frames))
    assert frames.reduced(SIZE).size == frames.size == SIZE  # nothing below the size that was asked for
    picture, reduced = (f.read_images("images", [3])[0] for f in (frames, small))
    torch.testing.assert_close(reduced[5, 7], picture[10:12, 14:16].mean((0, 1)))
    assert small.read_images("alpha", [3]).shape == (1, SIZE // 2, SIZE // 2, 1)
    point = torch.tensor([0.1, -0.2, 0.8, 1.0])
    pixels = []
    for f in (frames, small):
        camera = f.cameras([3])
        assert (camera.width, camera.height) == (f.size, f.size)
        x, y, z = camera.intrinsics[0] @ (camera.world_to_camera[0] @ point)[:3]
        pixels.append(torch.stack([x / z, y / z]))
    torch.testing.assert_close(pixels[0], 2 * pixels[1])
    torch.testing.assert_close(small.aperture(), frames.aperture())
