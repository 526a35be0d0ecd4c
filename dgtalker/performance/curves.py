"""A performance: coefficient curves over time, made from sound, edited, saved and loaded."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.identity import MAX_COEFFICIENT, Identity
from dgtalker.media.audio import FPS
from dgtalker.navigation.model import RANGE_MARGIN
from dgtalker.performance.expression import ExpressionSettings, looped

_RELAX_FRAMES = 15  # the upper face comes to rest more slowly than the lips


@dataclass(frozen=True)
class Performance:
    """Curves of N video frames in units of training standard deviations; zero is the canonical expression.

    `a_exp` already contains what `blink` adds: Identity.frame(a_exp[i], a_lip[i]) is the picture.
    """

    a_exp: np.ndarray  # [N, n_exp] float32
    a_lip: np.ndarray  # [N, n_lip] float32
    blink: np.ndarray  # [N] float32 in 0 (open) .. 1 (shut)
    exp_names: tuple[str, ...]
    lip_names: tuple[str, ...]
    fps: float = FPS
    identity: str = ""  # name of the identity that the curves are for

    def __len__(self) -> int:
        return len(self.blink)

    @property
    def seconds(self) -> float:
        """Length on the master clock."""
        return len(self) / self.fps

    @classmethod
    def from_audio(
        cls,
        identity: Identity,
        samples: np.ndarray,
        expression_samples: np.ndarray | None = None,
        blink: np.ndarray | None = None,
        settings: ExpressionSettings | None = None,
        gate: bool = True,
        progress: Callable[[float], None] | None = None,
    ) -> Performance:
        """Let `identity` say `samples` (mono [samples], 16 kHz). The lips depend on these and on nothing else.

        expression_samples: another recording that drives the upper face; repeated where it is shorter.
        settings: blinks and variant of the upper face. blink: [N] in 0..1 instead of the settings' blinks.
        gate: rest the face where nobody speaks. progress: called with values in (0, 1].
        Raises UserError for sound too short, a blink set after its end, or missing feature weights.
        """
        from scipy.ndimage import uniform_filter1d

        from dgtalker.audio.activity import speech_pauses

        settings = settings or ExpressionSettings()
        a_exp, a_lip, activity = _encode(identity, samples, gate, progress)
        a_lip = a_lip * activity[:, None]
        frames = len(a_lip)
        if blink is None:
            blink = settings.blink_signal(frames, speech_pauses(samples, frames))
        blink = np.clip(np.asarray(blink, np.float32), 0.0, 1.0)
        if blink.shape != (frames,):
            raise UserError(f"The blink signal has {len(blink)} values but the sound lasts {frames} frames.")
        if expression_samples is not None:
            a_exp, _, activity = _encode(identity, expression_samples, gate, None)
        a_exp = settings.movement(a_exp, RANGE_MARGIN * identity.limits[: identity.n_exp])
        a_exp = looped(a_exp * uniform_filter1d(activity, _RELAX_FRAMES, mode="nearest")[:, None], frames)
        a_exp = a_exp + identity.blink_coefficients(blink)
        names = tuple(identity.exp_names), tuple(identity.lip_names)
        return cls(a_exp.astype(np.float32), a_lip, blink, *names, identity=identity.name)

    def with_edits(self, edits: Mapping[str, float] | None, identity: Identity) -> Performance:
        """A copy with constants added, {"lip3": 1.5, "blink": 0.5}: training standard deviations, blink in -1..1.

        Raises UserError for an unknown name, or a value that is not a number or absurdly large.
        """
        if not edits:
            return self
        check_edits(edits, self.exp_names + self.lip_names)
        a_exp = self.a_exp + np.array([edits.get(name, 0.0) for name in self.exp_names], np.float32)
        a_lip = self.a_lip + np.array([edits.get(name, 0.0) for name in self.lip_names], np.float32)
        blink = np.clip(self.blink + np.float32(edits.get("blink", 0.0)), 0.0, 1.0)
        if "blink" in edits:
            a_exp = a_exp + identity.blink_coefficients(blink) - identity.blink_coefficients(self.blink)
        return replace(self, a_exp=a_exp.astype(np.float32), a_lip=a_lip, blink=blink)

    def save_csv(self, path: str | Path) -> Path:
        """Write frame, time code (h:mm:ss.mmm) and one named column a curve. Raises UserError if not writable."""
        path = Path(path)
        header = ["frame", "time", *self.exp_names, *self.lip_names, "blink"]
        curves = np.concatenate([self.a_exp, self.a_lip, self.blink[:, None]], axis=1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                for i, row in enumerate(curves):
                    writer.writerow([i, time_code(i / self.fps), *(f"{value:.5g}" for value in row)])
        except OSError as error:
            raise UserError(f"Coefficients cannot be written to {path} ({error.strerror}).") from error
        return path

    @classmethod
    def load_csv(cls, path: str | Path, identity: Identity) -> Performance:
        """Read what save_csv wrote, for `identity`. Raises UserError if a column is missing or a value is no number."""
        path = Path(path)
        exp_names, lip_names = tuple(identity.exp_names), tuple(identity.lip_names)
        names = [*exp_names, *lip_names, "blink"]
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            curves = np.array([[float(row[name]) for name in names] for row in rows], np.float32)
        except OSError as error:
            raise UserError(f"Coefficients cannot be read from {path} ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path.name} is not a coefficient table of '{identity.name}': {error}.") from error
        if not len(curves) or not np.isfinite(curves).all() or np.abs(curves).max() > 10 * MAX_COEFFICIENT:
            raise UserError(f"{path.name} holds no frames, or values that are not finite or absurdly large.")
        ke = len(exp_names)
        blink = np.clip(curves[:, -1], 0.0, 1.0)
        return cls(curves[:, :ke], curves[:, ke:-1], blink, exp_names, lip_names, identity=identity.name)


def _encode(
    identity: Identity, samples: np.ndarray, gate: bool, progress: Callable[[float], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sound -> a_exp [N, n_exp] with open eyes, a_lip [N, n_lip], and where somebody speaks, [N] in 0..1."""
    from dgtalker.audio.activity import speech_activity
    from dgtalker.audio.features import extract_features

    features = extract_features(samples, identity.feature_kind, progress=progress)
    a_exp, a_lip = identity.encode(features)
    activity = speech_activity(samples, len(a_lip)) if gate else np.ones(len(a_lip), np.float32)
    return a_exp, a_lip, activity


def check_edits(edits: Mapping[str, float], names: Iterable[str]) -> None:
    """Raises UserError unless `edits` maps known coefficient names (or blink) to reasonable numbers."""
    names = list(names)
    for name, value in edits.items():
        if name not in names and name != "blink":
            raise UserError(f"There is no coefficient '{name}'; choose from {', '.join(names)}, blink.")
        largest = 1.0 if name == "blink" else MAX_COEFFICIENT
        if not math.isfinite(value) or abs(value) > largest:
            raise UserError(f"Coefficient {name} must be a number within +-{largest:g}, not {value}.")


def parse_edits(settings: Iterable[str]) -> dict[str, float]:
    """["lip3=1.5", "blink=0.5"] -> {"lip3": 1.5, "blink": 0.5}. Raises UserError for anything else."""
    edits = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        try:
            edits[name.strip()] = float(text)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise UserError(f"'{setting}' is not a setting; write NAME=NUMBER, for instance lip3=1.5.")
    return edits


def time_code(seconds: float) -> str:
    """12.04 -> "0:00:12.040"."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
