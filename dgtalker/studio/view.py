"""What a browser may ask the viewport for, checked and clamped before any of it reaches the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dgtalker.errors import UserError

COEFFICIENT_LIMIT = 3.0  # training standard deviations, for coefficients without a range of their own
YAW_LIMIT, PITCH_LIMIT = 90.0, 40.0  # degrees
ZOOM_RANGE = (0.6, 3.0)
SIZE_RANGE = (64, 768)  # pixels


@dataclass(frozen=True)
class View:
    """One picture: whose head, with which expression, from where, how large."""

    identity: str
    exp: tuple[float, ...] = ()  # offsets in training standard deviations
    lip: tuple[float, ...] = ()
    blink: float = 0.0  # 0 open .. 1 closed
    face: tuple[float, ...] = ()  # face controls, 0 off .. 1
    yaw: float = 0.0  # degrees, > 0 moves the camera towards the subject's left
    pitch: float = 0.0
    zoom: float = 1.0
    size: int = 512
    edits: dict[str, float] = field(default_factory=dict, compare=False)  # what is not zero, by name

    @property
    def pose(self) -> tuple:
        """What decides the splats: two views with one pose differ by the camera alone."""
        return self.identity, self.exp, self.lip, self.blink, self.face


def number(value: Any, name: str, low: float, high: float) -> float:
    """`value` as a float clamped to [low, high]; UserError when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"The value of {name} is not a number: move its slider or press reset.")
    return min(max(float(value), low), high)


def _offsets(values: Any, names: Sequence[str], group: str, ranges: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
    if values is None:
        values = [0.0] * len(names)
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != len(names):
        raise UserError(f"This identity has {len(names)} {group} sliders: pick the identity again to refresh them.")
    usual = (-COEFFICIENT_LIMIT, COEFFICIENT_LIMIT)
    return tuple(number(v, n, *ranges.get(n, usual)) for v, n in zip(values, names, strict=True))


def parse_view(
    data: Any,
    exp_names: Sequence[str],
    lip_names: Sequence[str],
    ranges: Mapping[str, Sequence[float]] | None = None,
    control_names: Sequence[str] = (),
) -> View:
    """A `View` from what the browser sent: {identity, exp, lip, blink, face, yaw, pitch, zoom, size}.

    ranges: [low, high] of each coefficient's slider by its name. All but identity are optional; values out of range are
    clamped. Raises UserError for anything that is not a finite number or does not fit the identity.
    """
    if not isinstance(data, Mapping):
        raise UserError("The request is not a view: reload the page.")
    ranges = ranges or {}
    exp = _offsets(data.get("exp"), exp_names, "expression", ranges)
    lip = _offsets(data.get("lip"), lip_names, "lip", ranges)
    blink = number(data.get("blink", 0.0), "blink", 0.0, 1.0)
    face = _offsets(data.get("face"), control_names, "face", dict.fromkeys(control_names, (0.0, 1.0)))
    named = dict(zip([*exp_names, *lip_names, "blink", *control_names], [*exp, *lip, blink, *face], strict=True))
    return View(
        identity=str(data.get("identity")),
        exp=exp,
        lip=lip,
        blink=blink,
        face=face,
        yaw=number(data.get("yaw", 0.0), "yaw", -YAW_LIMIT, YAW_LIMIT),
        pitch=number(data.get("pitch", 0.0), "pitch", -PITCH_LIMIT, PITCH_LIMIT),
        zoom=number(data.get("zoom", 1.0), "zoom", *ZOOM_RANGE),
        size=int(number(data.get("size", 512), "size", *SIZE_RANGE)),
        edits={name: value for name, value in named.items() if value != 0.0},
    )
