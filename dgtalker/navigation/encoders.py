"""Encoders: from audio features and the blink signal to coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dgtalker.navigation.speech_backbone import BackboneConfig, SpeechBackbone

SMOOTHING_FRAMES = 8  # AD-NeRF's audio attention window
_BEFORE = SMOOTHING_FRAMES // 2  # of them before the frame itself
_AFTER = SMOOTHING_FRAMES - 1 - _BEFORE  # and after it


@dataclass(frozen=True)
class EncoderConfig:
    """Size of one audio encoder."""

    feature_dim: int  # D of the audio features: 384 for Whisper tiny.en, 80 for log-mel
    hidden: int = 96  # channels of the temporal convolutions
    reach: int = 6  # frames of context to each side
    dropout: float = 0.1  # on features and hidden channels, while training


class SmoothedOutput(nn.Module):
    """Output layers of the audio encoders: linear to K coefficients, then learned smoothing over 8 frames."""

    def __init__(self, reach: int):
        """reach: frames to each side that the channels before the linear layer depend on."""
        super().__init__()
        self.look_ahead = reach + _AFTER  # frames
        self.look_behind = reach + _BEFORE

    def build_output(self, hidden: int, outputs: int) -> None:
        """Add the output layers. Encoders call it after their own layers, which keeps the order of random draws."""
        """Add the output layers. Encoders call it after their own layers, which keeps the order of random draws."""
        self.head = nn.Conv1d(hidden, outputs, 1)
        self.attention = nn.Conv1d(outputs, SMOOTHING_FRAMES, 5, padding=2)
        nn.init.zeros_(self.attention.weight)
        offsets = torch.arange(SMOOTHING_FRAMES) - _BEFORE
        self.attention.bias = nn.Parameter(-2.0 * offsets.square().float())  # starts narrow around the frame itself

    def smooth(self, coefficients: Tensor) -> Tensor:
        """Softmax attention over the 8 frames around each one (AD-NeRF, Guo et al. 2021): [B, K, N] -> [B, K, N]."""
        padded = F.pad(coefficients, (_BEFORE, _AFTER), mode="replicate")
        windows = padded.unfold(2, SMOOTHING_FRAMES, 1)  # [B, K, N, 8]
        weights = self.attention(coefficients).softmax(dim=1)  # [B, 8, N]
        return torch.einsum("bknw,bwn->bkn", windows, weights)


class AudioEncoder(SmoothedOutput):
    """Audio features at 50 Hz -> K coefficients at 25 Hz, each seeing +-`reach` frames, then smoothed over 8 frames."""

    def __init__(self, config: EncoderConfig, outputs: int):
        layers = config.reach // 2  # each kernel of 5 adds 2 frames of context
        super().__init__(2 * layers)
        hidden = config.hidden
        self.squeeze = nn.Conv1d(config.feature_dim, hidden, 1)
        self.to_frames = nn.Conv1d(hidden, hidden, 2, stride=2)  # two feature steps are one video frame
        self.temporal = nn.ModuleList(nn.Conv1d(hidden, hidden, 5, padding=2) for _ in range(layers))
        self.build_output(hidden, outputs)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Normalised features [B, 2N, D] -> coefficients [B, N, K]."""
        x = self.dropout(F.leaky_relu(self.squeeze(self.dropout(features).mT), 0.1))
        x = F.leaky_relu(self.to_frames(x), 0.1)
        for layer in self.temporal:
            x = x + F.leaky_relu(layer(x), 0.1)
        return self.smooth(self.head(self.dropout(x))).mT


class BackboneEncoder(SmoothedOutput):
    """Raw audio features at 50 Hz -> speech backbone -> K coefficients at 25 Hz, smoothed over 8 frames.

    The backbone is trained on many speakers; one mixing layer, with +-2 frames more, adapts it to this identity.
    """

    def __init__(self, backbone: BackboneConfig, hidden: int, dropout: float, outputs: int):
        super().__init__(backbone.reach + 2)
        self.backbone = SpeechBackbone(backbone)
        self.mix = nn.Conv1d(backbone.hidden + len(backbone.channels), hidden, 5, padding=2)
        self.build_output(hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Raw features [B, 2N, D], not normalised -> coefficients [B, N, K]."""
        x = torch.cat(self.backbone(features), dim=-1).mT
        x = F.leaky_relu(self.mix(self.dropout(x)), 0.1)
        return self.smooth(self.head(self.dropout(x))).mT

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for key in [key for key in state_dict if key.startswith(f"{prefix}trunk.")]:  # its name in older checkpoints
            state_dict[f"{prefix}backbone.{key.removeprefix(f'{prefix}trunk.')}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class BlinkEncoder(nn.Module):
    """Blink signal -> expression coefficients: linear and quadratic terms without a constant, so zero at blink 0."""

    def __init__(self, outputs: int):
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(outputs))
        self.quadratic = nn.Parameter(torch.zeros(outputs))

    def forward(self, blink: Tensor) -> Tensor:
        """Blink [..., N], 0 open .. 1 shut -> coefficients [..., N, n_exp]."""
        blink = blink[..., None]
        return blink * self.linear + blink.square() * self.quadratic


class ExpressionEncoder(nn.Module):
    """(audio, blink) -> a_exp = E_audio(A) + E_blink(e). Blink enters here and nowhere else."""

    def __init__(self, config: EncoderConfig, outputs: int):
        super().__init__()
        self.audio = AudioEncoder(config, outputs)
        self.blink = BlinkEncoder(outputs)

    def forward(self, features: Tensor, blink: Tensor) -> Tensor:
        """Normalised features [B, 2N, D], blink [B, N] -> a_exp [B, N, n_exp]."""
        return self.audio(features) + self.blink(blink)


class LipEncoder(nn.Module):
    """audio -> a_lip."""

    def __init__(self, config: EncoderConfig, outputs: int, backbone: BackboneConfig | None = None):
        super().__init__()
        if backbone is None:
            self.audio = AudioEncoder(config, outputs)
        else:
            self.audio = BackboneEncoder(backbone, config.hidden, config.dropout, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, 2N, D], normalised unless there is a backbone -> a_lip [B, N, n_lip]."""
        return self.audio(features)
