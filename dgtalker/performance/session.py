"""A session: everything a talking video was made from, as one JSON file that app and command line read and write.

It holds coefficient curves and settings, and names its sound by SHA-256 only: neither the sound nor any path is in it.
Curves are float32, exactly those that were shown, so that the same identity gives the same frames.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from dgtalker import __version__
from dgtalker.camera import PATHS, Camera
from dgtalker.errors import UserError
from dgtalker.files import file_sha256
from dgtalker.head.face_controls import FaceControl
from dgtalker.identity import MAX_COEFFICIENT, Identity
from dgtalker.media.clock import FPS, MAX_SECONDS
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings

FORMAT = "dgtalker-session"
VERSION = 2  # 1 has no face controls
MAX_BYTES = 32 << 20  # half an hour with 60 coefficients needs 15 MB
MAX_SIZE = 2048
STILL = "still"  # the camera path that stands at yaw, pitch and zoom
_ENCODING = "base64 float32 little-endian, a row a frame: exp, lip, blink"
_ENCODING_2 = f"{_ENCODING}, controls"
_MAX_NAME = 200


@dataclass(frozen=True)
class Sound:
    """A sound file that is not part of the session."""

    name: str  # of the file, without its folder: a hint for whoever has to find it again
    sha256: str

    @classmethod
    def of(cls, path: str | Path) -> Sound:
        """Raises UserError if the file cannot be read."""
        try:
            name = "".join(c if c.isprintable() else "_" for c in Path(path).name[:_MAX_NAME])
            return cls(name, file_sha256(path))
        except OSError as error:
            raise UserError(f"Audio file {path} cannot be read ({error.strerror}).") from error

    def check(self, path: str | Path) -> None:
        """Raises UserError unless the file at `path` is this sound."""
        if Sound.of(path).sha256 != self.sha256:
            raise UserError(f"{Path(path).name} is not the sound of the session: that was '{self.name}'.")


@dataclass(frozen=True)
class SessionCamera:
    """How the camera moves, and where it stood last; only the path "still" is filmed from there."""

    path: str = "front"  # "front", "spiral" or "still"
    yaw: float = 0.0  # degrees
    pitch: float = 0.0
    zoom: float = 1.0

    @classmethod
    def of(cls, choice: str | Camera | tuple[float, ...]) -> SessionCamera | None:
        """What `talk` takes as camera; None for a Camera of somebody's own."""
        if isinstance(choice, str):
            return cls(choice)
        return None if isinstance(choice, Camera) else cls(STILL, *map(float, choice))

    @property
    def choice(self) -> str | tuple[float, float, float]:
        """The camera for `talk`."""
        return (self.yaw, self.pitch, self.zoom) if self.path == STILL else self.path


@dataclass(frozen=True)
class Session:
    """What to show and how; see the fields of the parts."""

    identity: str  # name
    identity_sha256: str = ""  # of its weights; "" if never saved
    size: int = 256  # pixels
    camera: SessionCamera = SessionCamera()
    edits: dict[str, float] = field(default_factory=dict)  # added to the curves
    expression: ExpressionSettings = ExpressionSettings()
    audio: Sound | None = None
    expression_audio: Sound | None = None  # the recording that drove the upper face, if it was another one
    curves: Performance | None = None  # without the edits; None: settings only
    versions: dict[str, str] = field(default_factory=lambda: {"dgtalker": __version__})

    def check_identity(self, identity: Identity) -> None:
        """Raises UserError unless `identity` is the one that the session was made with."""
        if identity.name != self.identity:
            raise UserError(f"The session is one of '{self.identity}', not of '{identity.name}'.")
        found = identity.config.get("weights_sha256", "")
        if self.identity_sha256 and found and found != self.identity_sha256:
            raise UserError(f"The session was made with another version of '{self.identity}' than the one here.")
        names = [*identity.exp_names, *identity.lip_names]
        identity.check_settings(self.edits)
        if self.curves and not set(self.curves.control_names) <= set(identity.control_names):
            raise UserError(f"The session moves face controls that '{self.identity}' here does not have.")
        if self.curves and [*self.curves.exp_names, *self.curves.lip_names] != names:
            raise UserError(f"The session's curves are not those of '{self.identity}' here.")

    def performance(self, identity: Identity) -> Performance:
        """The curves as they were shown, with the edits. Raises UserError if there are none, or `identity` is another.

        >>> head = dg.load("actor2")
        >>> dg.Session("actor2", edits={"lip1": 1.0}, curves=head.listen("speech.wav")).save("talk.json").name
        'talk.json'
        >>> performance = dg.Session.load("talk.json").performance(head.identity)
        """
        self.check_identity(identity)
        if self.curves is None:
            raise UserError("The session holds no curves: let the head listen to its sound.")
        return self.curves.with_edits(self.edits, identity)

    # -- writing ------------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The file's text."""
        camera, expression = self.camera, self.expression
        values = {
            "format": FORMAT,
            "version": VERSION,
            "versions": self.versions,
            "identity": {"name": self.identity, "sha256": self.identity_sha256},
            "audio": _sound_to_json(self.audio),
            "size": self.size,
            "camera": {"path": camera.path, "yaw": camera.yaw, "pitch": camera.pitch, "zoom": camera.zoom},
            "edits": self.edits,
            "expression": {
                "blinks": None if expression.blinks is None else list(expression.blinks),
                "blink_rate": expression.blink_rate,
                "seed": expression.seed,
                "variant": expression.variant,
                "audio": _sound_to_json(self.expression_audio),
            },
            "curves": self.curves and _curves_to_json(self.curves),
        }
        return json.dumps(values, indent=1, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the file. Raises UserError if that is not possible."""
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.to_json(), encoding="utf-8")
        except OSError as error:
            raise UserError(f"The session cannot be written to {path} ({error.strerror}).") from error
        return path

    # -- reading ------------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> Session:
        """Read a file, whoever wrote it. Raises UserError for anything that `save` cannot have written."""
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise UserError(f"{path.name} is too large for a session; the limit is {MAX_BYTES >> 20} MB.")
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"The session {path} cannot be read ({error.strerror}).") from error
        return cls.from_json(data, path.name)

    @classmethod
    def from_json(cls, data: str | bytes, name: str = "The file") -> Session:
        """The session in `data`; `name` is what the errors call it. Raises UserError as `load` does."""
        if len(data) > MAX_BYTES:
            raise UserError(f"{name} is too large for a session; the limit is {MAX_BYTES >> 20} MB.")
        try:
            values = json.loads(data, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError, too
            text = data[:200] if isinstance(data, str) else data[:200].decode("utf-8", errors="replace")
            if FORMAT in text:
                raise UserError(f"{name} is damaged or cut short: save the session again.") from error
            raise UserError(f"{name} is not a session saved by DGTalker.") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise UserError(f"{name} is not a session saved by DGTalker.")
        version = values.get("version")
        if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
            raise UserError(f"{name} was saved by a newer DGTalker (format {version}, this one reads {VERSION}).")
        try:
            return _read_session(values)
        except (_Damaged, UserError) as error:
            raise UserError(f"{name} is damaged: {str(error).rstrip('.')}.") from error


def check_size(size: float) -> int:
    """Raises UserError unless `size` is that of a video: even, 16 to 2048 pixels."""
    number = isinstance(size, Real) and not isinstance(size, bool)
    if not number or not 16 <= size <= MAX_SIZE or size % 2:
        raise UserError(f"The size must be an even number of pixels from 16 to {MAX_SIZE}, not {size}.")
    return int(size)


class _Damaged(Exception):
    pass


def _read_session(values: dict) -> Session:
    """The session of a parsed file, every value checked."""
    top = _check_fields(
        values, "the file",
        ("format", "version", "versions", "identity", "audio", "size", "camera", "edits", "expression", "curves"),
    )  # fmt: skip
    if top["version"] not in (1, VERSION) or isinstance(top["version"], bool):
        raise _Damaged("its format version is unknown")
    versions = _check_mapping(top["versions"], "versions")
    identity = _check_fields(top["identity"], "identity", ("name", "sha256"))
    camera = _check_fields(top["camera"], "camera", ("path", "yaw", "pitch", "zoom"))
    expression = _check_fields(top["expression"], "expression", ("blinks", "blink_rate", "seed", "variant", "audio"))
    if camera["path"] not in (*PATHS, STILL):
        raise _Damaged("its camera path is unknown")
    size = top["size"]
    if type(size) is not int:
        raise _Damaged("its size is no whole number")
    if expression["blinks"] is not None and not isinstance(expression["blinks"], list):
        raise _Damaged("its blinks are no list")
    edits = {
        _check_text(k, "a coefficient"): _check_number(v, k, MAX_COEFFICIENT)
        for k, v in _check_mapping(top["edits"], "edits").items()
    }
    return Session(
        identity=_check_text(identity["name"], "the identity"),
        identity_sha256=_check_digest(identity["sha256"], empty=True),
        size=check_size(size),
        camera=SessionCamera(
            camera["path"],
            _check_number(camera["yaw"], "yaw", 360.0),
            _check_number(camera["pitch"], "pitch", 89.0),
            _check_number(camera["zoom"], "zoom", 100.0, above=0.01),
        ),
        edits=edits,
        expression=ExpressionSettings(
            None if expression["blinks"] is None else tuple(expression["blinks"]),
            expression["blink_rate"],
            expression["seed"],
            expression["variant"],
        ),
        audio=_read_sound(top["audio"]),
        expression_audio=_read_sound(expression["audio"]),
        curves=None if top["curves"] is None else _read_curves(top["curves"], identity["name"], top["version"]),
        versions={_check_text(k, "a version"): _check_text(v, "a version") for k, v in versions.items()},
    )


def _curves_to_json(curves: Performance) -> dict[str, Any]:
    moved = np.array([curves.controls is not None and bool(c.any()) for c in curves.control_curves.T], bool)
    table = np.concatenate([curves.a_exp, curves.a_lip, curves.blink[:, None], curves.control_curves[:, moved]], axis=1)
    data = np.ascontiguousarray(table, "<f4").tobytes()
    return {
        "fps": curves.fps,
        "frames": len(curves),
        "exp": list(curves.exp_names),
        "lip": list(curves.lip_names),
        "controls": [name for name, used in zip(curves.control_names, moved, strict=True) if used],
        "encoding": _ENCODING_2,
        "sha256": hashlib.sha256(data).hexdigest(),
        "data": base64.b64encode(data).decode("ascii"),
    }


def _read_curves(values: Any, identity: str, version: int) -> Performance:
    fields = ("fps", "frames", "exp", "lip", "encoding", "sha256", "data")
    values = _check_fields(values, "curves", fields if version == 1 else (*fields, "controls"))
    names = {}
    for group in ("exp", "lip"):
        if not isinstance(values[group], list) or not 1 <= len(values[group]) <= 1000:
            raise _Damaged("its curves have no names")
        names[group] = tuple(_check_text(name, "a curve") for name in values[group])
    moved = values.get("controls", [])
    if not isinstance(moved, list) or len(moved) > 1000 or len(set(map(str, moved))) != len(moved):
        raise _Damaged("its face controls have no names")
    try:  # what they are, their head knows: see Performance.with_edits
        controls = tuple(FaceControl(_check_text(name, "a face control"), name, "lower") for name in moved)
    except ValueError as error:
        raise _Damaged("its face controls have no names") from error
    blink_column = len(names["exp"]) + len(names["lip"])
    exp, columns = len(names["exp"]), blink_column + 1 + len(controls)
    frames = values["frames"]
    encoding = _ENCODING if version == 1 else _ENCODING_2
    if values["fps"] != FPS or values["encoding"] != encoding or not isinstance(values["data"], str):
        raise _Damaged("its curves are written in an unknown way")
    if type(frames) is not int or not 1 <= frames <= FPS * MAX_SECONDS:
        raise _Damaged("its number of frames is impossible")
    try:
        data = base64.b64decode(values["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Damaged("its curves cannot be decoded") from error
    if hashlib.sha256(data).hexdigest() != _check_digest(values["sha256"]) or len(data) != 4 * frames * columns:
        raise _Damaged("its curves are not those that were saved")
    table = np.frombuffer(data, "<f4").astype(np.float32).reshape(frames, columns)
    a_exp, a_lip, shares = (part.copy() for part in np.split(table, [exp, blink_column], axis=1))
    if not np.isfinite(table).all() or np.abs(table).max() > 10 * MAX_COEFFICIENT:
        raise _Damaged("its curves hold impossible values")
    if shares.min() < 0 or shares.max() > 1:  # blink and face controls
        raise _Damaged("its curves hold impossible values")
    return Performance(
        a_exp, a_lip, shares[:, 0].copy(), names["exp"], names["lip"], identity=identity,
        face_controls=controls, controls=shares[:, 1:].copy() if controls else None,
    )  # fmt: skip


def _sound_to_json(sound: Sound | None) -> dict[str, str] | None:
    return None if sound is None else {"name": sound.name, "sha256": sound.sha256}


def _read_sound(values: Any) -> Sound | None:
    if values is None:
        return None
    values = _check_fields(values, "audio", ("name", "sha256"))
    return Sound(_check_text(values["name"], "the sound"), _check_digest(values["sha256"]))


def _refuse_constant(name: str):
    raise ValueError(f"{name} is no JSON")


def _check_mapping(values: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(values, dict) or len(values) > 1000:
        raise _Damaged(f"{what} should be a list of names and values")
    return values


def _check_fields(values: Any, what: str, names: Iterable[str]) -> Mapping[str, Any]:
    """`values`, which must have these fields and no others."""
    if not isinstance(values, dict) or set(values) != set(names):
        raise _Damaged(f"{what} lacks fields or has unknown ones")
    return values


def _check_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
        raise _Damaged(f"the name of {what} is no name")
    return value


def _check_digest(value: Any, empty: bool = False) -> str:
    if empty and value == "":
        return value
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise _Damaged("a checksum is none")
    return value


def _check_number(value: Any, what: str, largest: float, above: float | None = None) -> float:
    low = -largest if above is None else above
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= largest:
        raise _Damaged(f"{what[:40]} is not a number from {low:g} to {largest:g}")
    return float(value)
