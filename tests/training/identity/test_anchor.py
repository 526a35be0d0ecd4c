"""Refinement of the anchor finds the person's colours on all frames, and does not change the expression."""

import torch
from fakes.identity_data import tiny_generator, write_fake_dataset

from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.render import render
from dgtalker.training.identity.anchor import AnchorConfig, refine_anchor
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.video.dataset import Dataset


def test_anchor_is_fitted_to_the_persons_colours(tmp_path):
    generator = tiny_generator().requires_grad_(False)
    frames = DatasetFrames(Dataset.open(write_fake_dataset(tmp_path, generator, clips=1, frames=12)))
    truth = generator.w_from_geometry(torch.tensor(frames.dataset.info.shape))
    truth[generator.slices["appearance"]] = torch.randn(
        generator.config.appearance_dim, generator=torch.Generator().manual_seed(2)
    )
    torch.manual_seed(0)
    navigation = Navigation(NavigationConfig(generator.w_dim, feature_dim=80, n_exp=2, n_lip=3))
    appearance, expression = generator.slices["appearance"], generator.slices["expression"]
    start = truth.clone()
    start[appearance] += 1.0
    navigation.w_can.copy_(start)
    silent = torch.zeros(len(frames), 2), torch.zeros(len(frames), 3)
    refine_anchor(navigation, generator, silent, frames, render, AnchorConfig(steps=60, rate=0.1))
    before, after = ((w - truth)[appearance].norm() for w in (start, navigation.w_can))
    assert after < 0.4 * before
    assert torch.equal(navigation.w_can[expression], start[expression])
