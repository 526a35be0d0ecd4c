"""Borrowed lips: the speech backbone's curves, mapped to this head's coefficients, beside what the film taught."""

import pytest
import torch
from fakes.identity_data import tiny_generator, write_fake_dataset

from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import BackboneConfig
from dgtalker.navigation.warm_start import Response
from dgtalker.speech.lips import CHANNELS, lip_curves
from dgtalker.training.identity.borrowed_lips import BorrowedLipsConfig, borrow_lips, can_borrow
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.video.dataset import Dataset


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    generator = tiny_generator()
    folder = write_fake_dataset(tmp_path_factory.mktemp("film"), generator, clips=2)
    return DatasetFrames(Dataset.open(folder))


def make_navigation(dim, latent=12, channels=CHANNELS):
    torch.manual_seed(0)
    backbone = BackboneConfig("log-mel", dim, channels, hidden=8, dropout=0.0)
    navigation = Navigation(NavigationConfig(latent, dim, n_exp=2, n_lip=3, hidden=16, backbone=backbone))
    navigation.unit.copy_(torch.tensor([1.0, 1.0, 2.0, 0.5, 1.0]))
    return navigation.eval().requires_grad_(False)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_lips_are_the_mean_of_learned_and_borrowed(film, share):
    navigation = make_navigation(film.features[0].shape[1])
    torch.manual_seed(1)
    curves = torch.cat([lip_curves(clip.landmarks, clip.scores) for clip in film.clips])
    curves = (curves - curves.mean(0)) / curves.std(0).clamp_min(1e-6)
    moved = curves[:, [0, 1]] @ torch.randn(2, 3)  # what the pictures show is what two curves say
    b_lip = navigation.blendshapes()[1]
    deviations = (moved * navigation.unit[2:]) / navigation.unit[2:] @ b_lip.T
    response = Response(torch.eye(12), torch.eye(12))
    borrowed, explained = borrow_lips(navigation, film, deviations, response, BorrowedLipsConfig(share))
    assert explained > 0.9
    features = film.features[0][None]
    said = navigation.lip_encoder.audio.backbone(features)[1]
    readout = torch.linalg.lstsq(torch.cat([curves, torch.ones(len(curves), 1)], 1), moved).solution
    wanted = (1 - share) * navigation.lips(features) + share * (said @ readout[:-1] + readout[-1])
    # Both are smoothed over time, by weights that start narrow: compare where that makes no difference.
    found = borrowed.lips(features)
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.93
    if share == 0:
        torch.testing.assert_close(found, wanted)


def test_only_a_backbone_with_these_curves_can_lend(film):
    dim = film.features[0].shape[1]
    assert can_borrow(make_navigation(dim))
    assert not can_borrow(make_navigation(dim, channels=("aperture", "width")))
    assert not can_borrow(Navigation(NavigationConfig(12, dim, n_exp=2, n_lip=3)))
