"""A talk as one HTML file: head, curves, sound and renderer, to be opened from disk or shown in an iframe."""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
from pathlib import Path

import numpy as np

from dgtalker.camera import PATHS, orbit_camera
from dgtalker.errors import UserError
from dgtalker.files import check_output_file, write_atomic
from dgtalker.identity import Identity
from dgtalker.media.web_sound import make_web_sound
from dgtalker.performance.curves import Performance
from dgtalker.performance.recording import Recording, SoundSource
from dgtalker.performance.session import STILL, SessionCamera
from dgtalker.render import render_frame
from dgtalker.talk import CameraChoice, check_curves
from dgtalker.web.pack import write_pack
from dgtalker.web.script import ASSETS, RENDERER, join_modules

POSTER_SIZE = 512  # pixels
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_LINK = re.compile(r"https?://[^\s<>\"]*[^\s<>\".,;:)]")


def write_player(
    identity: Identity,
    performance: Performance,
    path: str | Path,
    camera: CameraChoice = "front",
    sound: SoundSource | None = None,
) -> Path:
    """Write the page (.html) in which `identity` shows `performance`.

    Head, curves and script take about 2 MB for a head of 16k splats, 5 MB for one of 63k; the sound comes on top.
    camera: where the page starts: "front", (yaw, pitch) or (yaw, pitch, zoom); "spiral" moves until somebody turns the
    head. sound: of curves that do not know theirs. Raises UserError for curves of another head or without a sound, for
    a camera that is none of these, and for a file that cannot be written.
    """
    path = check_output_file(path, (".html", ".htm"))
    check_curves(performance, identity)
    recording = performance.sound if sound is None else Recording.of(sound)
    if recording is None:
        raise UserError("These curves have no sound to be played: give the recording that they were made from.")
    view = _start_view(camera)
    poster = _draw_poster(identity, view)
    with recording.as_file() as file:
        encoded = make_web_sound(file)
    performance = performance.with_edits(None, identity)
    page = _fill(
        (ASSETS / "player.html").read_text(encoding="utf-8"),
        title=html.escape(identity.title),
        style=(ASSETS / "player.css").read_text(encoding="utf-8"),
        poster=_encode(poster),
        attribution=_to_html(str(identity.config.get("attribution", ""))),
        license=html.escape(str(identity.config.get("license", ""))),
        talk=_to_json(_describe_talk(performance, view, encoded.mime)),
        head=_encode(_compress(write_pack(identity))),
        curves=_encode(_compress(_curve_table(performance).tobytes())),
        sound=_encode(encoded.data),
        script=join_modules(*RENDERER, "player.js"),
    )
    try:
        write_atomic(path, page.encode("utf-8"))
    except OSError as error:
        raise UserError(f"The page cannot be written to {path} ({error.strerror}).") from error
    return path


def _where(view: SessionCamera) -> tuple[float, float, float]:
    """Yaw, pitch and zoom at the start."""
    return (view.yaw, view.pitch, view.zoom) if view.path == STILL else (0.0, 0.0, 1.0)


def _start_view(camera: CameraChoice) -> SessionCamera:
    if isinstance(camera, str) and camera in PATHS:
        return SessionCamera(camera)
    if not isinstance(camera, tuple | list) or len(camera) not in (2, 3):
        raise UserError(f"A player's camera is front, spiral, (yaw, pitch) or (yaw, pitch, zoom), not {camera}.")
    yaw, pitch, zoom = (*camera, 1.0)[:3]
    orbit_camera(yaw, pitch, zoom=zoom)  # raises for impossible ones
    return SessionCamera(STILL, float(yaw), float(pitch), float(zoom))


def _curve_table(performance: Performance) -> np.ndarray:
    """[N, n_exp + n_lip + 1 + K] float32 little-endian: expression, lips, blink, face controls."""
    parts = (performance.a_exp, performance.a_lip, performance.blink[:, None], performance.control_curves)
    return np.ascontiguousarray(np.concatenate(parts, axis=1), "<f4")


def _describe_talk(performance: Performance, view: SessionCamera, mime: str) -> dict:
    yaw, pitch, zoom = _where(view)
    return {
        "fps": performance.fps,
        "frames": len(performance),
        "sound": mime,
        "camera": {"yaw": yaw, "pitch": pitch, "zoom": zoom},
        "spiral": view.path == "spiral",
    }


def _draw_poster(identity: Identity, view: SessionCamera) -> bytes:
    """A WebP of the head at rest, from where the page starts."""
    from PIL import Image

    yaw, pitch, zoom = _where(view)
    picture = render_frame(identity.posed_splats({}), orbit_camera(yaw, pitch, POSTER_SIZE, zoom))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=88, method=4)
    return file.getvalue()


def _compress(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=9, mtime=0)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _to_json(values: dict) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(values).replace("<", "\\u003c")


def _to_html(text: str) -> str:
    """Plain text as paragraphs whose addresses are links."""

    def paragraph(part: str) -> str:
        pieces, end = [], 0
        for link in _LINK.finditer(part):
            address = html.escape(link[0])
            pieces.append(html.escape(part[end : link.start()]))
            pieces.append(f'<a href="{address}" target="_blank" rel="noopener noreferrer">{address}</a>')
            end = link.end()
        return f"<p>{''.join(pieces)}{html.escape(part[end:])}</p>"

    return "".join(paragraph(part.strip()) for part in text.split("\n\n") if part.strip())


def _fill(template: str, **values: str) -> str:
    """The template with {{name}} replaced; every place must have a value and every value a place."""
    places = set(_PLACE.findall(template))
    if places != set(values):
        raise ValueError(f"places and values differ: {', '.join(sorted(places ^ set(values)))}")
    return _PLACE.sub(lambda place: values[place[1]], template)
