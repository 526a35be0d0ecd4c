"""Saving what a user sees as a session file, and showing again what such a file holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgtalker.errors import UserError
from dgtalker.performance.blinks import RATE, format_schedule, parse_schedule
from dgtalker.performance.expression import MAX_SEED, ExpressionSettings
from dgtalker.studio.engine import Engine, slider_ranges
from dgtalker.studio.view import View, parse_view

if TYPE_CHECKING:  # it loads torch, which the page need not wait for
    from dgtalker.performance.session import Session, Sound

CAMERAS = {"Front": "front", "Spiral": "spiral", "By hand": "still"}  # label -> path of a session's camera
SIZES = (256, 384, 512)  # pixels


@dataclass(frozen=True)
class CachedPerformance:
    """A session whose curves a tab can show again: that of its last video, or the one that it loaded."""

    session: Session
    loaded: bool = False

    def matches(self, view: View, audio: Sound | None, other: Sound | None, settings: ExpressionSettings) -> bool:
        """Whether its curves are what these inputs would give."""
        session = self.session
        same = (session.identity, session.audio, session.expression) == (view.identity, audio, settings)
        # Whoever loads a session need not have the second voice: its curves are in the file.
        return same and (other == session.expression_audio or (self.loaded and other is None))


@dataclass(frozen=True)
class Inputs:
    """The page's inputs beside the view, as Gradio hands them over."""

    audio: str | None
    camera: str = "Front"
    size: int = SIZES[0]
    other: str | None = None  # the voice that moves the upper face
    blinks: str | None = ""
    rate: float | None = RATE
    variant: float | None = 0
    seed: float | None = 0

    @property
    def settings(self) -> ExpressionSettings:
        """Raises UserError for what is no setting."""
        return ExpressionSettings(
            parse_schedule(self.blinks),
            RATE if self.rate is None else self.rate,
            seed=_whole_number("seed", self.seed),
            variant=_whole_number("variant", self.variant),
        )

    def check_choices(self) -> None:
        """Raises UserError for a camera or size that the page does not offer."""
        if self.camera not in CAMERAS or self.size not in SIZES:
            raise UserError("The camera or size is not one of those offered: choose again.")


def _whole_number(name: str, value: float | None) -> int:
    """An empty field counts as 0."""
    if value is not None and not float(value).is_integer():
        raise UserError(f"The {name} must be a whole number from 0 to {MAX_SEED}, not {value}.")
    return int(value or 0)


def save_session(engine: Engine, data: Any, inputs: Inputs, cached: CachedPerformance | None) -> dict[str, str]:
    """{name, text}: the session file of what is on the page, with curves if they are those of its inputs.

    `data` is the browser's view. Raises UserError for input that cannot be saved.
    """
    from dgtalker.performance.session import Session, SessionCamera, Sound

    inputs.check_choices()
    view, settings = engine.parse_view(data), inputs.settings
    audio, other = (Sound.of(path) if path else None for path in (inputs.audio, inputs.other))
    identity = engine.identity(view.identity)
    session = Session(
        identity=view.identity,
        identity_sha256=identity.config.get("weights_sha256", ""),
        size=inputs.size,
        camera=SessionCamera(CAMERAS[inputs.camera], view.yaw, view.pitch, view.zoom),
        edits=dict(view.edits),
        expression=settings,
        audio=audio,
        expression_audio=other,
    )
    if cached and cached.loaded and audio is None:  # the sound was not asked for again yet; it is still the session's
        audio = cached.session.audio
    if cached and cached.matches(view, audio, other, settings):
        old = cached.session
        session = replace(session, audio=old.audio, expression_audio=old.expression_audio, curves=old.curves)
    return {"name": f"{view.identity}-session.json", "text": session.to_json()}


@dataclass(frozen=True)
class LoadedSession:
    """A loaded session as the page needs it."""

    cached: CachedPerformance
    inputs: Inputs
    view: dict[str, Any]  # for the browser's store
    notes: str  # sentences for the user


def load_session(engine: Engine, path: str | None, sounds: Sequence[str | Path]) -> LoadedSession:
    """Read a session file. `sounds` are files in which its sound may be found again. Raises UserError if it is none."""
    from dgtalker.performance.session import Session, Sound

    if not path:
        raise UserError("There is no file: choose a session that was saved here.")
    session = Session.load(path)
    identity = engine.identity(session.identity)
    session.check_identity(identity)
    names = {"exp": identity.exp_names, "lip": identity.lip_names}
    asked = {
        "identity": session.identity,
        **{group: [session.edits.get(name, 0.0) for name in names[group]] for group in names},
        "blink": session.edits.get("blink", 0.0),
        "face": [session.edits.get(name, 0.0) for name in identity.control_names],
        **{name: getattr(session.camera, name) for name in ("yaw", "pitch", "zoom")},
    }
    view = parse_view(asked, identity.exp_names, identity.lip_names, slider_ranges(identity), identity.control_names)
    shown = {name: list(value) if isinstance(value := getattr(view, name), tuple) else value for name in asked}
    notes = ["The session is loaded."]
    if shown != asked:
        notes.append("Some of its values are beyond what the controls here reach.")
    size = min(SIZES, key=lambda offered: abs(offered - session.size))
    if size != session.size:
        notes.append(f"Its size, {session.size} px, became {size} px.")
    audio = next((str(p) for p in sounds if session.audio and Sound.of(p) == session.audio), None)
    if session.audio and not audio:
        notes.append(f"It needs its sound '{session.audio.name}' again: give it under Voice.")
    if session.expression_audio and not session.curves:
        notes.append(f"Its expression comes from '{session.expression_audio.name}': give that under Expression.")
    expression = session.expression
    inputs = Inputs(
        audio=audio,
        camera=next(label for label, path in CAMERAS.items() if path == session.camera.path),
        size=size,
        blinks=format_schedule(expression.blinks),
        rate=expression.blink_rate,
        variant=expression.variant,
        seed=expression.seed,
    )
    return LoadedSession(CachedPerformance(session, loaded=True), inputs, shown, " ".join(notes))


def to_message(**parts: dict[str, Any]) -> str:
    """What store.js's `receive` takes: `restore`, a view to show, or `download`, a file's {name, text}."""
    return json.dumps(parts)
