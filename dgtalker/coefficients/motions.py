"""Named motions of a face, as displacement fields on the template, and recognition of a measured motion.

The fields are combinations of the template's 52 ARKit units, and rigid motions. Coefficients are named together, so
that no two have one name and the fields explain as much as possible of their squared displacements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from dgtalker.head.template import HeadTemplate

MIN_MATCH = 0.35  # share of the squared displacement below which nothing is recognised
SIDE_PENALTY, RIGID_PENALTY = 0.05, 0.1  # what a match with one side, or a rigid shift, must be better by
OWN_REGION = 0.6  # share of a motion's energy in a branch's half of the face from which it may name its coefficients
DEPTH_WEIGHT = 0.34  # of motion towards the camera: sin(20 degrees), as it shows from a side view
MIXED = "mixed"

# (name of a positive amount, name of a negative one, units); "*" stands for Left and Right.
_MOTIONS = (
    ("jaw opening", "jaw closing", "jawOpen"),
    ("jaw forward", "jaw back", "jawForward"),
    ("jaw to the left", "jaw to the right", "jawLeft -jawRight"),
    ("rounding", "spreading", "mouthFunnel mouthPucker"),
    ("rounding", "spreading", "mouthFunnel"),
    ("rounding", "spreading", "mouthPucker"),
    ("lips parting", "lips closing", "mouthUpperUp* mouthLowerDown*"),
    ("upper lip raise", "upper lip lowering", "mouthUpperUp*"),
    ("lower lip drop", "lower lip lift", "mouthLowerDown*"),
    ("lips pressed", "lips relaxed", "mouthPress*"),
    ("lips rolled in", "lips turned out", "mouthRollLower mouthRollUpper"),
    ("lower lip rolled in", "lower lip turned out", "mouthRollLower"),
    ("upper lip rolled in", "upper lip turned out", "mouthRollUpper"),
    ("chin raise", "chin lowering", "mouthShrugLower"),
    ("lips pushed up", "lips lowered", "mouthShrugLower mouthShrugUpper"),
    ("smile", "corners relaxed", "mouthSmile*"),
    ("corners down", "corners up", "mouthFrown*"),
    ("corners back", "corners forward", "mouthDimple*"),
    ("mouth wider", "mouth narrower", "mouthStretch*"),
    ("mouth to the left", "mouth to the right", "mouthLeft -mouthRight"),
    ("cheeks puffed", "cheeks drawn in", "cheekPuff"),
    ("cheeks raised", "cheeks lowered", "cheekSquint*"),
    ("nose wrinkled", "nose relaxed", "noseSneer*"),
    ("brows up", "brows down", "browInnerUp browOuterUp*"),
    ("inner brows up", "inner brows down", "browInnerUp"),
    ("outer brows up", "outer brows down", "browOuterUp*"),
    ("brows together", "brows lifted", "browDown*"),
    ("blink", "eyes opening", "eyeBlink*"),
    ("eyes wide", "eyes narrowing", "eyeWide*"),
    ("squint", "squint released", "eyeSquint*"),
    ("gaze left", "gaze right", "eyeLookOutLeft eyeLookInRight -eyeLookInLeft -eyeLookOutRight"),
    ("gaze up", "gaze down", "eyeLookUp* -eyeLookDown*"),
)
_SHIFTS = (("to the left", "to the right"), ("up", "down"), ("forward", "back"))
_TURNS = (("nod down", "nod up"), ("turn left", "turn right"), ("tilt right", "tilt left"))


@dataclass(frozen=True)
class NamedMotions:
    """Candidate motions: names [P] of positive and negative amounts, and displacement fields on the vertices."""

    names: list[tuple[str, str]]
    fields: Tensor  # [P, V, 3]


@dataclass(frozen=True)
class MotionMatch:
    """The named motion that a displacement was recognised as."""

    name: str
    score: float  # share of the squared displacement that it explains, 0..1
    positive: bool = True  # whether it is a positive amount of the motion


def named_motions(template: HeadTemplate) -> NamedMotions:
    """Fields of all named motions on `template`; units with two sides also for each side alone."""
    units = dict(zip(template.expression_names, template.expression_basis, strict=True))
    names: list[tuple[str, str]] = []
    fields: list[Tensor] = []
    for positive, negative, recipe in _MOTIONS:
        variants: list[tuple[str, tuple[str, ...]]] = [("", ("Left", "Right"))]
        if "*" in recipe:
            variants += [(" (left)", ("Left",)), (" (right)", ("Right",))]
        for suffix, sides in variants:
            parts = [p.replace("*", side) for p in recipe.split() for side in (sides if "*" in p else ("",))]
            names.append((positive + suffix, negative + suffix))
            signed = [units[p.removeprefix("-")] * (-1 if p.startswith("-") else 1) for p in parts]
            fields.append(reduce(torch.add, signed))
    x, y, z = template.vertices.unbind(-1)
    one, upper, lower = torch.ones_like(x), template.upper_weight.to(x), template.lower_weight.to(x)
    for region, weight in (("whole face", one), ("upper face", upper), ("lower face", lower)):
        for axis, (positive, negative) in enumerate(_SHIFTS):
            names.append((f"{region} {positive}", f"{region} {negative}"))
            fields.append(weight[:, None] * torch.eye(3)[axis])
    zero = torch.zeros_like(x)
    names += _TURNS
    fields += [torch.stack(parts, dim=-1) for parts in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return NamedMotions(names, torch.stack(fields))


@dataclass(frozen=True)
class MotionFields:
    """Named motions of one half of the face on the matched splats of a head, and how splats count."""

    names: list[tuple[str, str]]
    fields: Tensor  # [P, M, 3]
    weights: Tensor  # [M]

    def flatten(self, displacements: Tensor) -> Tensor:
        """Displacements [..., M, 3] as vectors [..., 3 M] whose products are weighted; float64."""
        root = self.weights.sqrt()[:, None] * self.weights.new_tensor([1.0, 1.0, DEPTH_WEIGHT])
        return (displacements * root).flatten(-2).double()

    @property
    def penalties(self) -> Tensor:
        """[P] what each is worth less than another of the same match: one side, and rigid shifts."""
        sides = [SIDE_PENALTY * name.endswith((" (left)", " (right)")) for name, _ in self.names]
        rigid = [RIGID_PENALTY * (" face " in pair[0] or pair in _TURNS) for pair in self.names]
        return torch.tensor(sides, dtype=torch.float64) + torch.tensor(rigid, dtype=torch.float64)


def select_own_motions(
    names: list[tuple[str, str]], fields: Tensor, weights: Tensor, own: Tensor, speech: Tensor
) -> MotionFields:
    """The motions that may name a branch's coefficients: those mostly in its half of the face.

    fields [P, M, 3]; weights [M]: visibility; own [M] in 0..1: weight of the half; speech [M]: how far splats move in
    speech. Splats count by both, so that names tell apart what can be seen in speech.
    """
    energy = fields.square().sum(-1) * weights  # [P, M]
    share = (energy * own).sum(-1) / energy.sum(-1).clamp_min(1e-24)
    kept = (share >= OWN_REGION).nonzero()[:, 0]
    counted = weights * own * speech / speech.amax().clamp_min(1e-12)
    return MotionFields([names[i] for i in kept], fields[kept], counted)


def assign_motions(cosines: Tensor, motions: MotionFields) -> tuple[Tensor, Tensor]:
    """Distinct names for K coefficients: cosines [K, P] -> fields [K] int64 and their squared cosines [K].

    Hungarian assignment of the largest sum; several fields of one name count as one. Raises ValueError if there are
    fewer names than coefficients.
    """
    from scipy.optimize import linear_sum_assignment

    squares = cosines.square()
    worth = squares - motions.penalties
    groups = [[i for i, pair in enumerate(motions.names) if pair == name] for name in dict.fromkeys(motions.names)]
    best = [worth[:, group].max(dim=1) for group in groups]
    if len(groups) < len(cosines):
        raise ValueError(f"{len(groups)} names for {len(cosines)} coefficients")
    rows, columns = linear_sum_assignment(-torch.stack([b.values for b in best], dim=1).numpy())
    fields = torch.tensor([groups[g][int(best[g].indices[k])] for k, g in zip(rows, columns, strict=True)])
    return fields, squares[torch.arange(len(cosines)), fields]
