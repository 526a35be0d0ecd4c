"""Settings of stage N, navigation."""

from __future__ import annotations

from dataclasses import dataclass, field

from dgtalker.navigation.losses import CrossViewConfig
from dgtalker.training.identity.anchor import AnchorConfig
from dgtalker.training.identity.articulation import ArticulationConfig
from dgtalker.training.identity.borrowed_lips import BorrowedLipsConfig
from dgtalker.training.identity.leakage_removal import LeakageRemovalConfig


@dataclass(frozen=True)
class NavigationTrainingConfig:
    """Training of blendshapes and encoders. Each field can be changed by an ablation's variant."""

    n_exp: int = 8  # expression coefficients, at most
    n_lip: int = 12  # lip coefficients, at most
    motion_kept: float = 0.99  # share of a branch's visible change that its coefficients keep; 1: keep all of them
    hidden: int = 96  # channels of the audio encoders
    dropout: float = 0.1
    bases: str = "joint"  # one of blendshapes.BASES: both from one QR; the others are ablations
    start: str = "separated"  # directions by region, or "principal": of the whole face (always without masks)
    w_plus: bool = False  # directions in W+, one style per size of the convolutions (head/w_plus.py)
    cross_view: CrossViewConfig = field(default_factory=CrossViewConfig)
    warm_steps: int = 1000
    warm_minutes: float = 5.0  # at most, whatever is left of the steps
    image_steps: int = 1600
    image_minutes: float = 20.0  # at most
    clips: int = 8  # runs of frames per step, linear objective
    run: int = 64  # frames of a run
    context: int = 16  # frames of sound on each side of a picture
    rate: float = 2e-3  # learning rate of the encoders, warm start
    rate_image: float = 3e-4  # learning rate of the encoders, on pictures
    rate_basis: float = 3e-4  # learning rate of the bases
    backbone_share: float = 0.1  # of the encoders' rates: a speech backbone is fine-tuned, not trained anew
    weight_decay: float = 1e-6
    linear_weight: float = 0.05  # of the linear objective beside the pictures
    silence_weight: float = 1.0  # of the loss that maps silence to the canonical expression
    leakage_removal: LeakageRemovalConfig | None = field(default_factory=LeakageRemovalConfig)  # None: skip the step
    regional: bool = True  # each stream moves the splats of its own region only (regional_head.py)
    anchor: AnchorConfig | None = field(default_factory=AnchorConfig)  # None: keep the anchor of tuning
    borrowed: BorrowedLipsConfig | None = field(default_factory=BorrowedLipsConfig)  # None: nothing is borrowed
    articulation: ArticulationConfig | None = field(default_factory=ArticulationConfig)  # None: as learned
    noise: float = 0.15  # of features, in their standard deviations: white, and constant over a run

    def __post_init__(self):
        assert self.start in ("separated", "principal"), self.start
