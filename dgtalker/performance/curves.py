"""A performance: coefficient curves over time, made from sound, edited, saved and loaded."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.head.face_controls import FaceControl, share_lids
from dgtalker.identity import MAX_COEFFICIENT, Identity, check_coefficients
from dgtalker.media.clock import FPS
from dgtalker.navigation.model import RANGE_MARGIN
from dgtalker.performance.expression import ExpressionSettings, loop_curves
from dgtalker.performance.recording import Recording

EASE_SECONDS = 0.12  # over which an edit of a part comes and goes, inside that part
_RELAX_FRAMES = 15  # the upper face comes to rest more slowly than the lips


@dataclass(frozen=True)
class Performance:
    """Curves of N video frames in units of training standard deviations; zero is the canonical expression.

    `a_exp` already contains what `blink` adds: Identity.frame(a_exp[i], a_lip[i], shown_controls[i]) is the picture.

    >>> performance = dg.load("actor2").listen("speech.wav")
    >>> performance.curves["lip1"].shape == (len(performance),)
    True
    >>> wider = performance.edit(lip2=1.5, start=0.2, end=0.8)
    """

    a_exp: np.ndarray  # [N, n_exp] float32
    a_lip: np.ndarray  # [N, n_lip] float32
    blink: np.ndarray  # [N] float32 in 0 (open) .. 1 (shut)
    exp_names: tuple[str, ...]
    lip_names: tuple[str, ...]
    fps: float = FPS
    identity: str = ""  # name of the identity that the curves are for
    blink_weights: np.ndarray | None = None  # [3, n_exp], see Identity.blink_weights; None: no identity is known
    sound: Recording | None = None  # that they were made from
    ranges: np.ndarray | None = None  # [n_exp + n_lip, 2], see Identity.ranges; None: edits are not limited
    face_controls: tuple[FaceControl, ...] = ()  # that the head has; () too if no identity is known
    controls: np.ndarray | None = None  # [N, len(face_controls)] float32 in 0..1; None: all zero

    def __repr__(self) -> str:
        return f"Performance({len(self)} frames, {self.seconds:.2f} s, of {self.identity or 'an unknown head'!r})"

    def __len__(self) -> int:
        return len(self.blink)

    @property
    def seconds(self) -> float:
        """Length on the master clock."""
        return len(self) / self.fps

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """The curves by name, [N] each: "exp1" .., "lip1" .., "blink", and the face controls, "smile" ..

        They share memory with the performance, but for the face controls of one that has all of them at zero.
        """
        named = zip(self.exp_names + self.lip_names, (*self.a_exp.T, *self.a_lip.T), strict=True)
        return {**dict(named), "blink": self.blink, **dict(zip(self.control_names, self.control_curves.T, strict=True))}

    @property
    def control_names(self) -> tuple[str, ...]:
        """Names of the face controls."""
        return tuple(control.name for control in self.face_controls)

    @property
    def control_curves(self) -> np.ndarray:
        """Curves of the face controls, [N, K] float32 in 0..1."""
        empty = np.zeros((len(self), len(self.face_controls)), np.float32)
        return empty if self.controls is None else self.controls

    @property
    def shown_controls(self) -> np.ndarray:
        """`control_curves` as they are shown beside the blinks, for Identity.splats."""
        return share_lids(self.control_curves, self.blink, self.face_controls)

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
        a_exp, a_lip, activity = _encode_sound(identity, samples, gate, progress)
        a_lip = a_lip * activity[:, None]
        frames = len(a_lip)
        if blink is None:
            blink = settings.blink_signal(frames, speech_pauses(samples, frames))
        blink = np.clip(np.asarray(blink, np.float32), 0.0, 1.0)
        if blink.shape != (frames,):
            raise UserError(f"The blink signal has {len(blink)} values but the sound lasts {frames} frames.")
        if expression_samples is not None:
            a_exp, _, activity = _encode_sound(identity, expression_samples, gate, None)
        a_exp = settings.movement(a_exp, RANGE_MARGIN * identity.limits[: identity.n_exp])
        a_exp = loop_curves(a_exp * uniform_filter1d(activity, _RELAX_FRAMES, mode="nearest")[:, None], frames)
        a_exp = a_exp + identity.blink_coefficients(blink)
        return cls._of(identity, a_exp.astype(np.float32), a_lip, blink)

    @classmethod
    def _of(cls, identity: Identity, a_exp: np.ndarray, a_lip: np.ndarray, blink: np.ndarray) -> Performance:
        names = tuple(identity.exp_names), tuple(identity.lip_names)
        return cls(a_exp, a_lip, blink, *names, identity=identity.name)._of_head(identity)

    def _of_head(self, identity: Identity) -> Performance:
        """A copy that knows how `identity` blinks, its ranges and face controls; its own controls keep their curves."""
        known = replace(
            self,
            blink_weights=identity.blink_weights,
            ranges=identity.ranges,
            face_controls=identity.controls,
            controls=None,
        )
        if self.controls is None:
            return known
        curves = known.control_curves
        for name, curve in zip(self.control_names, self.controls.T, strict=True):
            if name not in known.control_names:
                raise UserError(f"The curves move a face control '{name}' that '{identity.name}' does not have.")
            curves[:, known.control_names.index(name)] = curve
        return replace(known, controls=curves)

    def edit(self, start: float | None = None, end: float | None = None, **offsets: float) -> Performance:
        """A copy with constants added between two moments, in seconds; None stands for the beginning and the end.

        Offsets are training standard deviations; none takes a curve further out of the head's ranges than it was
        (Identity.ranges). That of blink is from -1 to 1; the eyes stay within 0 (open) to
        1 (shut), and the expression follows them as at the blink slider. Face controls, such as smile, likewise are
        from -1 to 1 and stay within 0 (off) to 1. At a `start` and an `end` that are given,
        the change comes and goes within EASE_SECONDS (0.12 s), inside the part, so that nothing else changes.
        Raises UserError for an unknown name, a value that is not a number or absurdly large, or a part that is none.

        >>> performance = dg.load("actor2").listen("speech.wav")
        >>> shut = performance.edit(blink=1)
        >>> wider = performance.edit(lip2=1.5, exp1=-0.5, start=0.2, end=0.8)
        """
        check_coefficients(offsets, self.exp_names + self.lip_names, self.control_names)
        weight = self._part_weight(start, end)
        inside = weight > 0

        def added(curves: np.ndarray, names: tuple[str, ...], ranges: np.ndarray | None) -> np.ndarray:
            constant = np.array([offsets.get(name, 0.0) for name in names], np.float32)
            moved = curves + weight[:, None] * constant
            if ranges is not None:
                moved = np.clip(moved, np.minimum(ranges[:, 0], curves), np.maximum(ranges[:, 1], curves))
            return np.where(inside[:, None], moved, curves)

        ends = (None, None) if self.ranges is None else np.split(self.ranges, [len(self.exp_names)])
        a_exp, a_lip = added(self.a_exp, self.exp_names, ends[0]), added(self.a_lip, self.lip_names, ends[1])
        controls = self.controls
        if any(offsets.get(name) for name in self.control_names):
            controls = np.clip(added(self.control_curves, self.control_names, None), 0.0, 1.0)
        if not offsets.get("blink"):
            return replace(self, a_exp=a_exp, a_lip=a_lip, controls=controls)
        blink = np.clip(self.blink + weight * np.float32(offsets["blink"]), 0.0, 1.0)
        a_exp = np.where(inside[:, None], a_exp + self._blink_part(blink) - self._blink_part(self.blink), a_exp)
        return replace(self, a_exp=a_exp, a_lip=a_lip, blink=blink, controls=controls)

    def with_edits(self, edits: Mapping[str, float] | None, identity: Identity) -> Performance:
        """`edit` of the whole length for curves that may not know their identity; None or {}: as they are."""
        known = self._of_head(identity)
        return known.edit(**edits) if edits else known

    def _part_weight(self, start: float | None, end: float | None) -> np.ndarray:
        """How much of an edit from `start` to `end` each frame shows, [N] float32 in 0..1."""
        first, last = 0.0 if start is None else start, self.seconds if end is None else end
        for name, value in (("start", first), ("end", last)):
            if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value) or value < 0:
                raise UserError(f"The {name} of an edit must be a number of seconds from 0 on, not {value}.")
        if first >= self.seconds:
            raise UserError(f"The edit starts at {first:g} s, but the performance lasts {self.seconds:.2f} s.")
        if first >= last:
            raise UserError(f"The edit ends at {last:g} s, which is not after its start at {first:g} s.")
        time = (np.arange(len(self)) + 0.5) / self.fps
        ease = min(EASE_SECONDS, (last - first) / 2)
        ramp = np.ones(len(self))
        for given, distance in ((start, time - first), (end, last - time)):
            if given is not None:
                t = np.clip(distance / ease, 0.0, 1.0)
                ramp = np.minimum(ramp, t * t * (3.0 - 2.0 * t))
        return ramp.astype(np.float32)

    def _blink_part(self, blink: np.ndarray) -> np.ndarray:
        """What blink [N] adds to a_exp: [N, n_exp], as Identity.blink_coefficients has it."""
        if self.blink_weights is None:
            raise UserError("These curves do not know how their head blinks: take Session.performance(head.identity).")
        linear, quadratic, unit = self.blink_weights
        return (blink[:, None] * linear + np.square(blink)[:, None] * quadratic) / unit

    def save(self, path: str | Path) -> Path:
        """Write a .csv: frame, time code (h:mm:ss.mmm) and one named column a curve, face controls last.

        Raises UserError if the file cannot be written.

        >>> path = dg.load("actor2").listen("speech.wav").save("curves.csv")
        """
        path = Path(path)
        header = ["frame", "time", *self.exp_names, *self.lip_names, "blink", *self.control_names]
        curves = np.concatenate([self.a_exp, self.a_lip, self.blink[:, None], self.control_curves], axis=1)
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
    def load(cls, path: str | Path, identity: Identity) -> Performance:
        """Read what `save` wrote, for `identity`. Raises UserError if a column is missing or a value is no number.

        Columns of face controls may be missing: those stay at zero.

        >>> head = dg.load("actor2")
        >>> path = head.listen("speech.wav").save("curves.csv")
        >>> performance = dg.Performance.load("curves.csv", head.identity)
        """
        path = Path(path)
        names = [*identity.exp_names, *identity.lip_names, "blink"]
        try:
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            controls = [name for name in identity.control_names if rows and name in rows[0]]
            curves = np.array([[float(row[name]) for name in names + controls] for row in rows], np.float32)
        except OSError as error:
            raise UserError(f"Coefficients cannot be read from {path} ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise UserError(f"{path.name} is not a coefficient table of '{identity.name}': {error}.") from error
        if not len(curves) or not np.isfinite(curves).all() or np.abs(curves).max() > 10 * MAX_COEFFICIENT:
            raise UserError(f"{path.name} holds no frames, or values that are not finite or absurdly large.")
        a_exp, a_lip, rest = np.split(curves, [identity.n_exp, identity.n_exp + identity.n_lip], axis=1)
        rest = np.clip(rest, 0.0, 1.0)  # blink and face controls
        performance, moved = cls._of(identity, a_exp, a_lip, rest[:, 0]), rest[:, 1:]
        if not moved.any():
            return performance
        all_of_them = performance.control_curves
        all_of_them[:, [performance.control_names.index(name) for name in controls]] = moved
        return replace(performance, controls=all_of_them)


def _encode_sound(
    identity: Identity, samples: np.ndarray, gate: bool, progress: Callable[[float], None] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sound -> a_exp [N, n_exp] with open eyes, a_lip [N, n_lip], and where somebody speaks, [N] in 0..1."""
    from dgtalker.audio.activity import speech_activity
    from dgtalker.audio.features import extract_features

    features = extract_features(samples, identity.feature_kind, progress=progress)
    a_exp, a_lip = identity.encode(features)
    activity = speech_activity(samples, len(a_lip)) if gate else np.ones(len(a_lip), np.float32)
    return a_exp, a_lip, activity


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
