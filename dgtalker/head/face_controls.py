"""Face controls: movements that every face can make, blended on top of a baked head.

    attributes = baked(a) + sum_k s_k change_k,    s_k in 0 .. 1

The learned coefficients hold what a person's video showed; these hold what the prior knows about every face, such as a
smile. Each is a difference of splat attributes (those of BakedHead), stored for the splats that it moves. Zero changes
nothing. training/identity/face_controls.py makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dgtalker.head.baked import ATTRIBUTES, AttributeChanges

REGIONS = ("upper", "lower")
LIDS = ("", "move", "close")


@dataclass(frozen=True)
class FaceControl:
    """One control, as config.json describes it."""

    name: str  # that frame, edit and --set take: "smile"
    label: str  # for people: "Smile"
    region: str  # "upper" or "lower": the half of the face that it moves
    lids: str = ""  # "close": it shuts an eye; "move": it moves the lids of open eyes; "": neither
    splats: int = 0  # that it moves
    own: float | None = None  # change of its own half of the face at 1, mean grey levels; None: not measured
    leakage: float | None = None  # change of the other half divided by `own`

    def __post_init__(self):
        if not self.name.isidentifier() or self.region not in REGIONS or self.lids not in LIDS or self.splats < 0:
            raise ValueError(f"the face control {self.name!r}")


class FaceControls(nn.Module):
    """K controls of a baked head; see the module. Control k has the next `splats` rows of the buffers."""

    splats: Tensor  # [E] int32 indices of the head's splats, rising within a control

    def __init__(self, controls: Sequence[FaceControl]):
        """Zero buffers: change_NAME [1, E, channels], one row for each splat of each control."""
        super().__init__()
        if not controls or len({control.name for control in controls}) != len(controls):
            raise ValueError("the names of the face controls")
        self.controls = tuple(controls)
        rows = sum(control.splats for control in controls)
        self.register_buffer("splats", torch.zeros(rows, dtype=torch.int32))
        for name, channels in ATTRIBUTES.items():
            self.register_buffer(f"change_{name}", torch.zeros(1, rows, channels))
        self._arrays: dict[str, np.ndarray] | None = None

    @staticmethod
    def from_config(rows: Sequence[Mapping]) -> FaceControls:
        """From config.json. Raises TypeError or ValueError for what `config` cannot have written."""
        return FaceControls([FaceControl(**row) for row in rows])

    def config(self) -> list[dict]:
        """What the controls are, for config.json."""
        return [asdict(control) for control in self.controls]

    @property
    def names(self) -> list[str]:
        """Names of the controls, in order."""
        return [control.name for control in self.controls]

    def changes(self, values: Tensor) -> AttributeChanges:
        """What control values [..., K] add to the attributes, as rows [E] of splats; differentiable."""
        counts = torch.tensor([control.splats for control in self.controls], device=values.device)
        by_row = values.repeat_interleave(counts, dim=-1)[..., None]  # [..., E, 1]
        return self.splats.long(), {name: by_row * getattr(self, f"change_{name}")[0] for name in ATTRIBUTES}

    def frame_changes(self, values: np.ndarray) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """The same of one vector [K] in numpy, fast: (splats, {attribute: added}) of each control that is not at 0."""
        if self._arrays is None:
            self._arrays = {key: value.detach().cpu().numpy() for key, value in self.state_dict().items()}
        arrays, changes, first = self._arrays, [], 0
        for control, value in zip(self.controls, np.asarray(values, np.float32), strict=True):
            rows = slice(first, first + control.splats)
            if value:
                added = {name: value * arrays[f"change_{name}"][0, rows] for name in ATTRIBUTES}
                changes.append((arrays["splats"][rows], added))
            first = rows.stop
        return changes

    def fits(self, count: int) -> bool:
        """Whether every control names different splats of a head of `count`, in rising order."""
        parts = self.splats.split([control.splats for control in self.controls])
        return all(bool((p.diff() > 0).all() and (p >= 0).all() and (p < count).all()) for p in parts)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._arrays = None  # built from the old buffers


def share_lids(values: np.ndarray, blink: np.ndarray, controls: Sequence[FaceControl]) -> np.ndarray:
    """Control values [..., K] as they are shown while the eyes blink [...]: lids that are shut are moved no further.

    What moves lids fades with the blink, and beside a wink all else that moves lids does.
    """
    values = np.array(values, np.float32)
    closing = np.array([control.lids == "close" for control in controls], bool)
    moving = np.array([control.lids == "move" for control in controls], bool)
    open_share = 1 - np.asarray(blink, np.float32)[..., None]
    winks = values[..., closing].max(axis=-1, keepdims=True) if closing.any() else np.float32(0)
    values[..., closing] *= open_share
    values[..., moving] *= open_share * (1 - winks)
    return values
