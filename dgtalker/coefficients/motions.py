"""Named motions of a face, as displacement fields on the template, and which of them a measured motion is.

The fields are combinations of the template's 52 ARKit units, and rigid motions. A motion is named after the field that
explains the largest share of its squared displacement, or after two where one does not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dgtalker.head.template import HeadTemplate

CLEAR_MATCH = 0.5  # share of the squared displacement at which one motion needs no second one beside it
LEAST_MATCH = 0.35  # below it nothing has been recognised
LEAST_GAIN = 0.05  # what a second motion must add to be mentioned
MOST_ALIKE = 0.7  # cosine between two motions of a pair
DEPTH = 0.34  # motion towards the camera counts as it shows from 20 degrees aside
MIXED = "mixed"

# (what a positive amount does, what a negative one does, units); "*" stands for Left and Right.
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
    """Candidate motions: names [P] of a positive and of a negative amount, and fields on the vertices."""

    names: list[tuple[str, str]]
    fields: Tensor  # [P, V, 3]


@dataclass(frozen=True)
class MotionMatch:
    """What a displacement was recognised as."""

    name: str  # one motion, or two joined by "+"
    score: float  # share of the squared displacement that is explained by what `name` says, 0..1
    second: str = ""  # beside a single name: what explains most of the rest, "" if nothing does
    with_second: float = 0.0  # share explained by both
    positive: bool = True  # of the (first) motion, its positive amount


def named_motions(template: HeadTemplate) -> NamedMotions:
    """Fields of all named motions on `template`; paired units also for the left and the right side alone."""
    units = dict(zip(template.expression_names, template.expression_basis, strict=True))
    names, fields = [], []
    for positive, negative, recipe in _MOTIONS:
        variants = [("", ("Left", "Right"))]
        if "*" in recipe:
            variants += [(" (left)", ("Left",)), (" (right)", ("Right",))]
        for suffix, sides in variants:
            parts = [p.replace("*", side) for p in recipe.split() for side in (sides if "*" in p else ("",))]
            names.append((positive + suffix, negative + suffix))
            fields.append(sum(units[p.removeprefix("-")] * (-1 if p.startswith("-") else 1) for p in parts))
    x, y, z = template.vertices.unbind(-1)
    one, upper, lower = torch.ones_like(x), template.upper_weight.to(x), template.lower_weight.to(x)
    for region, weight in (("whole face", one), ("upper face", upper), ("lower face", lower)):
        for axis, (positive, negative) in enumerate(_SHIFTS):
            names.append((f"{region} {positive}", f"{region} {negative}"))
            fields.append(weight[:, None] * torch.eye(3)[axis])
    nil = torch.zeros_like(x)
    names += _TURNS
    fields += [torch.stack(parts, dim=-1) for parts in ((nil, -z, y), (z, nil, -x), (-y, x, nil))]
    return NamedMotions(names, torch.stack(fields))


def recognise_motion(
    displacement: Tensor, fields: Tensor, names: list[tuple[str, str]], weights: Tensor
) -> MotionMatch:
    """Which named motion a displacement [M, 3] is; fields [P, M, 3]; weights [M]: how visible each point is."""
    root = weights.sqrt()[:, None] * weights.new_tensor([1.0, 1.0, DEPTH])
    target = (displacement * root).flatten().double()
    columns = (fields * root).flatten(1).double()  # [P, M * 3]
    norms, length = columns.norm(dim=1), float(target.norm())
    if length < 1e-9 or not bool((norms > 0).any()):
        return MotionMatch(MIXED, 0.0)
    columns = columns / norms.clamp_min(1e-12)[:, None]
    along = columns @ target / length  # cosines [P]
    gram = columns @ columns.T
    # Two motions together explain this share; nearly parallel ones and sides of one another make no pair.
    free = (1 - gram.square()).clamp_min(1e-6)
    pair = (along[:, None].square() + along.square() - 2 * gram * along[:, None] * along) / free
    words = [{word.removesuffix(" (left)").removesuffix(" (right)") for word in pair} for pair in names]
    apart = torch.tensor([[not a & b for b in words] for a in words])
    pair = torch.where((gram.abs() < MOST_ALIKE) & apart, pair, 0)

    def word(index: int, amount: float) -> str:
        return names[index][0 if amount > 0 else 1]

    def words_of(i: int, j: int) -> tuple[str, str]:
        one, two = ((along[a] - gram[a, b] * along[b]) / free[a, b] for a, b in ((i, j), (j, i)))
        return word(i, float(one)), word(j, float(two))

    best = int(along.abs().argmax())
    alone, single = float(along[best] ** 2), word(best, float(along[best]))
    other = int(pair[best].argmax())
    second, both = "", float(pair[best, other])
    if both - alone >= LEAST_GAIN:
        single, second = words_of(best, other)
    if alone < CLEAR_MATCH:
        i, j = divmod(int(pair.argmax()), len(names))
        if along[i].abs() < along[j].abs():
            i, j = j, i
        if float(pair[i, j]) - alone >= 2 * LEAST_GAIN and float(pair[i, j]) >= LEAST_MATCH:
            one, two = words_of(i, j)
            return MotionMatch(f"{one} + {two}", float(pair[i, j]), positive=one == names[i][0])
        if alone < LEAST_MATCH:
            return MotionMatch(MIXED, alone)
    return MotionMatch(single, alone, second, both if second else alone, single == names[best][0])
