"""The speech backbone: from audio features to lip motion of any speaker, trained once on many voices.

    features [2N, D] -> hidden sequence [N, H] -> articulation [N, C]

An identity's lip encoder starts from it (encoders.BackboneEncoder) and keeps its own adapted copy of the weights.
Frame n depends on `reach` frames to each side, beside the look-ahead of the features themselves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgtalker.errors import UserError
from dgtalker.pretrained import find_checkpoint, load_into, read_config, read_weights, write_checkpoint

KIND = "backbone"
DEFAULT_BACKBONE = "articulation"


@dataclass(frozen=True)
class BackboneConfig:
    """What has to be known to build a backbone before its weights are loaded."""

    feature_kind: str  # audio features that it was trained on
    feature_dim: int  # D
    channels: tuple[str, ...]  # names of the articulation's C curves, see speech.lips
    hidden: int = 96  # H
    reach: int = 6  # frames of context to each side, even
    dropout: float = 0.2  # on features and hidden channels, while training

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(map(str, self.channels)))  # JSON has lists only
        if min(self.feature_dim, self.hidden) < 1 or self.reach < 0 or self.reach % 2 or not self.channels:
            raise ValueError("the sizes of the speech backbone")

    def to_dict(self) -> dict:
        """Plain values for config.json."""
        return {**asdict(self), "channels": list(self.channels)}


class SpeechBackbone(nn.Module):
    """Temporal convolutions over audio features, and a linear layer to articulation curves."""

    feature_mean: Tensor  # [D]
    feature_std: Tensor  # [D]

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.squeeze = nn.Conv1d(config.feature_dim, hidden, 1)
        self.to_frames = nn.Conv1d(hidden, hidden, 2, stride=2)  # two feature steps are one video frame
        layers = config.reach // 2  # each kernel of 5 adds 2 frames of context
        self.temporal = nn.ModuleList(nn.Conv1d(hidden, hidden, 5, padding=2) for _ in range(layers))
        self.lips = nn.Conv1d(hidden, len(config.channels), 1)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("feature_mean", torch.zeros(config.feature_dim))
        self.register_buffer("feature_std", torch.ones(config.feature_dim))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Raw features [B, 2N, D] -> hidden [B, N, H], articulation [B, N, C] in training standard deviations."""
        features = (features - self.feature_mean) / self.feature_std
        x = self.dropout(F.leaky_relu(self.squeeze(self.dropout(features).mT), 0.1))
        x = F.leaky_relu(self.to_frames(x), 0.1)
        for layer in self.temporal:
            x = x + F.leaky_relu(layer(self.dropout(x)), 0.1)
        return x.mT, self.lips(self.dropout(x)).mT

    def save_pretrained(self, folder: str | Path, details: dict, card: str) -> Path:
        """Write config.json (with `details`), model.safetensors (fp16) and README.md. UserError if that fails."""
        folder = write_checkpoint(folder, KIND, {**details, "backbone": self.config.to_dict()}, self.state_dict())
        (folder / "README.md").write_text(card, encoding="utf-8")
        return folder


def load_backbone(source: str | Path, revision: str | None = None) -> SpeechBackbone:
    """Load a shipped name, a folder or a hub repository, in eval mode. Raises UserError: there is none, or damaged."""
    folder = find_checkpoint(source, kind=KIND, revision=revision)
    config = read_config(folder, KIND)
    try:
        backbone = SpeechBackbone(BackboneConfig(**(config.get("backbone") or config["trunk"])))  # older checkpoints
    except (KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
        raise UserError(f"'{folder}' is damaged: its config.json lacks or garbles {error}.") from error
    load_into(backbone, read_weights(folder, config), folder)
    return backbone.eval()


def read_attribution(folder: str | Path) -> str:
    """Credit for the training data, repeated by every identity that contains the backbone; "" if there is none."""
    training = read_config(folder, KIND).get("training")
    credit = training.get("attribution", "") if isinstance(training, dict) else ""
    return f"Speech backbone: {credit}" if credit else ""
