"""Leakage added to a basis, visible in pictures or in the motion of splats, is removed."""

import pytest
import torch

from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.warm_start import Response
from dgtalker.training.identity import leakage_removal
from dgtalker.training.identity.leakage_removal import LeakageRemovalConfig, remove_leakage

W, UPPER, LOWER = 12, slice(0, 4), slice(4, 8)  # coordinates of w: upper face, lower face, neither


def only(part: slice) -> torch.Tensor:
    return torch.zeros(W).index_fill(0, torch.arange(W)[part], 1.0).diag()


@pytest.mark.parametrize("shown", ["pictures", "splats", "both"])
def test_leakage_is_removed_wherever_it_shows(monkeypatch, shown):
    faint = 1e-3
    pictures = [only(part) * (faint if shown == "splats" and k == 1 else 1.0) for k, part in enumerate((UPPER, LOWER))]
    moving = [only(part) * (faint if shown == "pictures" and k == 1 else 1.0) for k, part in enumerate((UPPER, LOWER))]
    monkeypatch.setattr(leakage_removal, "measure_picture_response", lambda *_: (*pictures, torch.zeros(W, W)))
    navigation = Navigation(NavigationConfig(latent=W, feature_dim=4, n_exp=2, n_lip=2))
    directions = torch.eye(W)[:, [0, 1, 6, 7]]
    directions[4, 0] = directions[5, 1] = 0.5  # the expression opens the mouth half as far
    navigation.blendshapes.set_directions(directions, torch.ones(4))
    used = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    remove_leakage(navigation, None, (used, used), None, None, LeakageRemovalConfig(steps=600), Response(*moving))
    b_exp, b_lip = navigation.blendshapes()
    assert float(b_exp[LOWER].norm() / b_exp[UPPER].norm()) < 0.1 and float(b_exp[UPPER].norm()) > 1.3
    torch.testing.assert_close(b_lip, torch.eye(W)[:, [6, 7]], atol=0.05, rtol=0)
