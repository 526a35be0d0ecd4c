"""A tiny valid identity for tests: a few hundred splats in the shape of a head, 3 + 3 coefficients, log-mel features.

exp1 raises the brows, exp2 shuts the eyes (so does blink), lip1 opens the mouth; the encoders' weights are random.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from dgtalker.head.baked import BakedHead
from dgtalker.head.face_controls import FaceControl, FaceControls
from dgtalker.identity import Identity
from dgtalker.navigation.model import Navigation, NavigationConfig

SPLATS = 400


def make_fake_identity(folder: str | Path, name: str = "fake", seed: int = 0, controls: bool = False) -> Path:
    """Write the folder and return it; Identity.from_pretrained(folder) loads it. controls: with face controls."""
    torch.manual_seed(seed)
    config = NavigationConfig(latent=16, feature_dim=80, n_exp=3, n_lip=3, hidden=16)
    navigation = Navigation(config)
    navigation.limits.copy_(torch.tensor([-3.0, 3.0]).repeat(6, 1))
    with torch.no_grad():
        navigation.expression_encoder.blink.linear.copy_(torch.tensor([0.0, 2.0, 0.0]))
    head, config = fake_head(), {"title": "Fake person", "feature_kind": "log-mel"}
    identity = Identity(name, navigation, head, config, fake_face_controls(head) if controls else None)
    preview = np.full((64, 64, 3), 255, np.uint8)
    preview[8:56, 16:48] = (200, 150, 130)
    return identity.save_pretrained(folder, preview, "# Fake person\n\nFor tests only.\n")


def fake_face_controls(head: BakedHead) -> FaceControls:
    """A smile that widens the lower face; brows, wide eyes and a wink that move the upper face up and down."""
    upper, lower = (weight.nonzero()[:, 0] for weight in (head.upper_weight, head.lower_weight))
    moved = {"smile": lower, "brows_up": upper, "wide_eyes": upper, "wink_left": upper[head.mean_means[upper, 0] > 0]}
    lids = {"wide_eyes": "move", "wink_left": "close"}
    rows = [
        FaceControl(name, name.capitalize(), "lower" if name == "smile" else "upper", lids.get(name, ""), len(splats))
        for name, splats in moved.items()
    ]
    controls = FaceControls(rows)
    controls.splats.copy_(torch.cat(list(moved.values())))
    steps = {"smile": [0.05, 0, 0], "brows_up": [0, 0.05, 0], "wide_eyes": [0, 0.03, 0], "wink_left": [0, -0.04, 0]}
    first = 0
    for row in rows:
        controls.change_means[0, first : first + row.splats] = torch.tensor(steps[row.name])
        first += row.splats
    return controls


def fake_head() -> BakedHead:
    """An ellipsoid of splats with a dark mouth and eyes."""
    head = BakedHead(SPLATS, 6, {"means": 6, "log_scales": 1, "axis_angles": 1, "logit_opacities": 1, "colors": 1})
    i = torch.arange(SPLATS) + 0.5
    y, turn = 1 - 2 * i / SPLATS, i * 2.399963  # Fibonacci sphere
    radius = (1 - y.square()).sqrt()
    means = torch.stack([0.8 * radius * turn.sin(), 1.2 * y, 0.9 * radius * turn.cos()], dim=-1)
    front = means[:, 2] > 0.3
    mouth = front & ((means[:, 1] + 0.5).abs() < 0.15) & (means[:, 0].abs() < 0.35)
    eyes = front & ((means[:, 1] - 0.3).abs() < 0.15) & ((means[:, 0].abs() - 0.35).abs() < 0.2)
    colors = torch.tensor([0.8, 0.6, 0.5]).repeat(SPLATS, 1)
    colors[mouth], colors[eyes] = torch.tensor([0.6, 0.2, 0.2]), torch.tensor([0.2, 0.2, 0.3])
    upper, lower = ((means[:, 1] > 0.1) & front).float(), ((means[:, 1] < -0.2) & front).float()
    head.mean_means.copy_(means)
    head.mean_colors.copy_(colors)
    head.mean_log_scales.fill_(float(np.log(0.09)))
    head.mean_logit_opacities.fill_(3.0)
    head.upper_weight.copy_(upper)
    head.lower_weight.copy_(lower)
    for k in range(3):
        head.basis_means[k, :, k % 2] = 0.05 * upper  # sideways, up, sideways
        head.basis_means[3 + k, :, 1 - k % 2] = -0.08 * lower * (means[:, 1] < -0.5)
        head.weights_means[k, k] = head.weights_means[3 + k, 3 + k] = 1.0
    head.basis_means[0, :, 0], head.basis_means[0, :, 1] = 0.0, 0.05 * upper
    head.basis_colors[0] = -0.1 * eyes[:, None].float()
    head.weights_colors[1, 0] = 1.0
    return head
