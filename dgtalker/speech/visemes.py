"""Phones -> lip curves: a viseme model with coarticulation, fitted on filmed speech.

    lips(t) = sum_s D_s(t) T_s / sum_s D_s(t),    D_s(t) = a_s exp(-|t - c_s| / (r_s + k_s d_s))

over the segments s of an utterance (phones, and the pauses between them), with middle c_s and length d_s. T, a, r and k
belong to the segment's phone and to every channel of the lips. After the dominance functions of Cohen and Massaro
("Modeling coarticulation in synthetic visual speech", 1993); distances count in units of the segment's own length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dgtalker.audio.phone_alignment import Phone
from dgtalker.media.clock import FPS

PAUSE = "SIL"
_SHORTEST_PAUSE = 0.03  # seconds between phones that count as a pause
# Phones that look alike on the lips; rare phones are regularised towards their class.
CLASSES = {
    "pause": (PAUSE,),
    "closed": ("P", "B", "M"),
    "teeth": ("F", "V"),
    "tongue": ("TH", "DH", "T", "D", "N", "L", "K", "G", "NG", "HH"),
    "hiss": ("S", "Z"),
    "hush": ("SH", "ZH", "CH", "JH"),
    "round": ("W", "UW", "UH", "OW", "OY", "R", "ER"),
    "open": ("AA", "AO", "AW", "AH", "AY", "AE"),
    "spread": ("IY", "IH", "EH", "EY", "Y"),
}
PHONES = tuple(phone for phones in CLASSES.values() for phone in phones)
_CLASS_OF = [k for k, phones in enumerate(CLASSES.values()) for _ in phones]


class VisemeModel(nn.Module):
    """Phones -> lip curves [N, C] at 25 frames a second."""

    class_of: Tensor  # [P] index into CLASSES of each of PHONES

    def __init__(self, channels: int):
        super().__init__()
        rows = len(PHONES)
        self.class_target = nn.Parameter(torch.zeros(len(CLASSES), channels))
        self.target = nn.Parameter(torch.zeros(rows, channels))  # added to its class's
        self.class_strength = nn.Parameter(torch.zeros(len(CLASSES), channels))  # log a
        self.strength = nn.Parameter(torch.zeros(rows, channels))
        self.reach = nn.Parameter(torch.full((len(CLASSES), channels), -3.0))  # log of seconds
        self.share = nn.Parameter(torch.full((len(CLASSES), channels), -1.0))  # log k
        self.lead = nn.Parameter(torch.zeros(channels))  # time by which lips precede the sound, in 0.1 s
        self.register_buffer("class_of", torch.tensor(_CLASS_OF))

    def forward(self, phones: Sequence[Phone], frames: int) -> Tensor:
        """Lip curves [frames, C] of `phones`; there is silence before the first and after the last one."""
        segments = with_pauses(phones, frames / FPS)
        rows = torch.tensor([PHONES.index(segment.label) for segment in segments])
        kinds = self.class_of[rows]
        middle = torch.tensor([segment.middle for segment in segments])[:, None]  # [S, 1]
        length = torch.tensor([segment.end - segment.start for segment in segments])[:, None]
        shown = (torch.arange(frames) + 0.5)[:, None, None] / FPS + 0.1 * self.lead  # [N, 1, C]
        scale = self.reach[kinds].exp() + self.share[kinds].exp() * length  # [S, C]
        strength = self.class_strength[kinds] + self.strength[rows]
        weights = (strength - (shown - middle).abs() / scale).softmax(dim=1)  # [N, S, C]
        return (weights * (self.class_target[kinds] + self.target[rows])).sum(dim=1)

    def class_deviation(self) -> Tensor:
        """Penalty on the difference of phones from their classes."""
        return self.target.square().mean() + self.strength.square().mean()


def with_pauses(phones: Sequence[Phone], seconds: float) -> list[Phone]:
    """Add pauses between phones, from 0 to `seconds`; phones that are in no class are left out."""
    segments, at = [], 0.0
    for phone in phones:
        if phone.label not in PHONES or phone.end <= phone.start:
            continue
        if phone.start - at > _SHORTEST_PAUSE:
            segments.append(Phone(PAUSE, at, phone.start, 1.0))
        segments.append(phone)
        at = phone.end
    if seconds - at > _SHORTEST_PAUSE or not segments:
        segments.append(Phone(PAUSE, at, max(seconds, at), 1.0))
    return segments


def fit_visemes(films: Sequence[tuple[Sequence[Phone], Tensor]], steps: int = 400, seed: int = 0) -> VisemeModel:
    """Fit a viseme model by least squares to filmed speech: (phones, lips [N, C] in standard deviations)."""
    torch.manual_seed(seed)
    model = VisemeModel(films[0][1].shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batch = min(16, len(films))
    for _ in range(steps):
        picks = torch.randperm(len(films))[:batch].tolist()
        error = torch.stack([(model(films[k][0], len(films[k][1])) - films[k][1]).square().mean() for k in picks])
        loss = error.mean() + 0.02 * model.class_deviation()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)
