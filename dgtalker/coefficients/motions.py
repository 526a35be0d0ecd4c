"""Named motions of a face, as displacement fields on the template, and recognition of a measured motion.

The fields are combinations of the template's 52 ARKit units, and rigid motions. A motion is named after the field that
explains the largest share of its squared displacement, or after two fields where one is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from dgtalker.head.template import HeadTemplate

CLEAR_MATCH = 0.5  # share of the squared displacement from which one motion is enough
MIN_MATCH = 0.35  # share below which nothing is recognised
MIN_GAIN = 0.05  # share that a second motion must add to be mentioned
MAX_COSINE = 0.7  # between two motions of a pair
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

    name: str  # one motion, or two joined by "+"
    score: float  # share of the squared displacement that `name` explains, 0..1
    second: str = ""  # the motion that explains most of the rest, "" if none does or `name` has two
    with_second: float = 0.0  # share explained by both
    positive: bool = True  # whether it is a positive amount of the (first) motion


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


def recognise_motion(
    displacement: Tensor, fields: Tensor, names: list[tuple[str, str]], weights: Tensor
) -> MotionMatch:
    """Recognise the named motion of a displacement [M, 3]; fields [P, M, 3]; weights [M]: visibility of each point."""
    root = weights.sqrt()[:, None] * weights.new_tensor([1.0, 1.0, DEPTH_WEIGHT])
    target = (displacement * root).flatten().double()
    columns = (fields * root).flatten(1).double()  # [P, M * 3]
    norms, length = columns.norm(dim=1), float(target.norm())
    if length < 1e-9 or not bool((norms > 0).any()):
        return MotionMatch(MIXED, 0.0)
    columns = columns / norms.clamp_min(1e-12)[:, None]
    cosines = columns @ target / length  # cosines [P]
    gram = columns @ columns.T
    # Share that two motions explain together; nearly parallel ones, and one motion's sides, are not paired.
    free = (1 - gram.square()).clamp_min(1e-6)
    pair = (cosines[:, None].square() + cosines.square() - 2 * gram * cosines[:, None] * cosines) / free
    bases = [{word.removesuffix(" (left)").removesuffix(" (right)") for word in pair} for pair in names]
    apart = torch.tensor([[not a & b for b in bases] for a in bases])
    pair = torch.where((gram.abs() < MAX_COSINE) & apart, pair, 0)

    def name_motion(index: int, amount: float) -> str:
        return names[index][0 if amount > 0 else 1]

    def name_pair(i: int, j: int) -> tuple[str, str]:
        one, two = ((cosines[a] - gram[a, b] * cosines[b]) / free[a, b] for a, b in ((i, j), (j, i)))
        return name_motion(i, float(one)), name_motion(j, float(two))

    best = int(cosines.abs().argmax())
    alone, single = float(cosines[best] ** 2), name_motion(best, float(cosines[best]))
    other = int(pair[best].argmax())
    second, both = "", float(pair[best, other])
    if both - alone >= MIN_GAIN:
        single, second = name_pair(best, other)
    if alone < CLEAR_MATCH:
        i, j = divmod(int(pair.argmax()), len(names))
        if cosines[i].abs() < cosines[j].abs():
            i, j = j, i
        if float(pair[i, j]) - alone >= 2 * MIN_GAIN and float(pair[i, j]) >= MIN_MATCH:
            one, two = name_pair(i, j)
            return MotionMatch(f"{one} + {two}", float(pair[i, j]), positive=one == names[i][0])
        if alone < MIN_MATCH:
            return MotionMatch(MIXED, alone)
    return MotionMatch(single, alone, second, both if second else alone, single == names[best][0])
