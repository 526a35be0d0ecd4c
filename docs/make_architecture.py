"""Draws docs/architecture.svg from the code: rooms by layers, their imports, and the two ways through it.

python -m docs.make_architecture
"""

from __future__ import annotations

import html
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "architecture.svg"

# Bands of layers, from the top: the title, and the first layer of the band.
BANDS = [
    ("Doors", "__main__"),
    ("Make and measure heads", "training"),
    ("Look at video", "doctor"),
    ("Speak", "web"),
    ("The model", "navigation"),
    ("Ground", "resumable"),
]
# The two ways: (module, what happens there). Every module must exist.
VIDEO_TO_HEAD = [
    ("media.video_reader", "frames and sound of the film"),
    ("video.preprocess", "landmarks, cameras, matte, masks: a data set"),
    ("head.generator", "the prior G, trained on synthetic people"),
    ("training.identity.inversion", "w_can: the person in G's latent space"),
    ("training.identity.tuning", "G learns this person"),
    ("training.identity.navigation", "bases and encoders, by masked cross-view supervision"),
    ("training.identity.baking", "G along the bases becomes mean + blendshapes"),
    ("coefficients.describe", "order, sign and name of every coefficient"),
    ("identity", "the finished head: one folder"),
]
SOUND_TO_PICTURE = [
    ("media.audio", "any sound file, 16 kHz mono"),
    ("audio.features", "Whisper states, two a frame"),
    ("navigation.encoders", "a_exp and a_lip"),
    ("performance.curves", "curves over time; pauses, blinks, edits"),
    ("head.baked", "splats of the frame"),
    ("render.cpu", "pixels of the frame"),
    ("talk", "frame by frame into an mp4 with its sound"),
]
EVERYWHERE = ("errors",)  # any room may import them: not drawn
COLOURS = {"video": "#c2410c", "sound": "#1d4ed8"}
WIDTH, MARGIN, TOP, BOX_WIDTH, BOX_HEIGHT, BAND_HEIGHT = 1120, 20, 74, 106, 34, 108


def layers() -> list[str]:
    """Rooms from the top to the bottom, as import-linter is told to keep them."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in config["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [room.strip("() ") for layer in contract["layers"] for room in layer.replace(":", "|").split("|")]


def import_graph():
    """The package's import graph (grimp), of this checkout."""
    import sys

    import grimp

    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return grimp.build_graph("dgtalker", cache_dir=None)


def imports_between_rooms(graph) -> dict[str, set[str]]:
    """Room -> rooms that it imports directly."""
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            room, other = module.split(".")[1:2], imported.split(".")[1:2]
            if room and other and room != other and other[0] not in EVERYWHERE:
                imports.setdefault(room[0], set()).add(other[0])
    return imports


def without_shortcuts(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that no chain of others implies (transitive reduction)."""

    def reachable(room: str) -> set[str]:
        return {far for near in imports.get(room, ()) for far in {near} | reachable(near)}

    return sorted(
        (room, other)
        for room, others in imports.items()
        for other in others
        if not any(other in reachable(near) for near in others - {other})
    )


def place(rooms: list[str]) -> dict[str, tuple[float, float]]:
    """Room -> the top left corner of its box; the rooms of a band share its width evenly."""
    starts = {first for _, first in BANDS}
    bands: list[list[str]] = []
    for room in rooms:
        if room in starts:
            bands.append([])
        bands[-1].append(room)
    places = {}
    for i, band in enumerate(bands):
        share = (WIDTH - 2 * MARGIN) / len(band)
        for j, room in enumerate(band):
            places[room] = (MARGIN + share * (j + 0.5) - BOX_WIDTH / 2, TOP + i * BAND_HEIGHT)
    return places


def _text(x: float, y: float, content: str, size: int = 13, colour: str = "#1f2937", **attributes: str) -> str:
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{extra}>{html.escape(content)}</text>'


def _badge(x: float, y: float, number: int, colour: str) -> str:
    circle = f'<circle cx="{x:g}" cy="{y:g}" r="8.5" fill="{colour}" stroke="#fff" stroke-width="1.5"/>'
    return circle + _text(x, y + 4, str(number), 11, "#fff", text_anchor="middle", font_weight="bold")


def _route(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    """An arrow from box to box; both points lie on the upper edges."""
    (x0, y0), (x1, y1) = start, end
    if y0 == y1:  # along a band: an arch over the boxes
        path = f"M{x0:g},{y0:g} C{x0:g},{y0 - 34:g} {x1:g},{y1 - 44:g} {x1:g},{y1 - 12:g}"
    else:
        y0, y1 = (y0 + BOX_HEIGHT, y1 - 12) if y1 > y0 else (y0, y1 + BOX_HEIGHT + 2)
        bend = (y1 - y0) / 2
        path = f"M{x0:g},{y0:g} C{x0:g},{y0 + bend:g} {x1:g},{y1 - bend:g} {x1:g},{y1:g}"
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="3" marker-end="url(#{colour[1:]})"/>'


def draw(graph=None) -> str:
    """The figure as SVG text. Raises ValueError if a way names a module that does not exist."""
    graph = graph or import_graph()
    missing = [m for m, _ in VIDEO_TO_HEAD + SOUND_TO_PICTURE if f"dgtalker.{m}" not in graph.modules]
    if missing:
        raise ValueError(f"docs/make_architecture.py names modules that do not exist: {', '.join(missing)}")
    rooms = layers()
    places = place(rooms)
    body = []
    for i, (title, _) in enumerate(BANDS):
        y = TOP + i * BAND_HEIGHT
        body.append(
            f'<rect x="8" y="{y - 24:g}" width="{WIDTH - 16}" height="{BOX_HEIGHT + 36}" rx="8" fill="#f3f4f6"/>'
        )
        body.append(_text(MARGIN, y - 8, title, 12, "#6b7280"))
    for room, other in without_shortcuts(imports_between_rooms(graph)):
        (x0, y0), (x1, y1) = places[room], places[other]
        x0, x1, y0 = x0 + BOX_WIDTH / 2, x1 + BOX_WIDTH / 2, y0 + BOX_HEIGHT
        if y1 <= y0:  # within a band
            path = f"M{x0:g},{y0:g} C{x0:g},{y0 + 16:g} {x1:g},{y0 + 16:g} {x1:g},{y0:g}"
        else:
            path = f"M{x0:g},{y0:g} C{x0:g},{y0 + 40:g} {x1:g},{y1 - 40:g} {x1:g},{y1:g}"
        body.append(f'<path d="{path}" fill="none" stroke="#9ca3af" stroke-width="1" stroke-opacity="0.6"/>')
    badges, stops = [], {}
    for name, way, side in (("video", VIDEO_TO_HEAD, -1), ("sound", SOUND_TO_PICTURE, 1)):
        colour, last = COLOURS[name], None
        for number, (module, _) in enumerate(way, 1):
            room = module.split(".")[0]
            x, y = places[room]
            corner = (x + 10 + 18 * stops.get((room, name), 0), y) if side < 0 else (
                x + BOX_WIDTH - 10 - 18 * stops.get((room, name), 0), y)  # fmt: skip
            stops[room, name] = stops.get((room, name), 0) + 1
            if last and last[1] != room:
                body.append(_route(last[0], corner, colour))
            last = (corner, room)
            badges.append(_badge(*corner, number, colour))
    for room, (x, y) in places.items():
        package = f"dgtalker.{room}" in graph.modules and graph.find_children(f"dgtalker.{room}")
        label = f"{room}/" if package else f"{room}.py"
        body.append(
            f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="#fff" stroke="#4b5563"/>'
        )
        body.append(_text(x + BOX_WIDTH / 2, y + 22, label, 13, text_anchor="middle"))
    body += badges
    top = TOP + len(BANDS) * BAND_HEIGHT
    for name, title, way, x in (
        ("video", "A video becomes a head", VIDEO_TO_HEAD, MARGIN),
        ("sound", "A sound becomes a picture", SOUND_TO_PICTURE, MARGIN + WIDTH / 2 + 30),
    ):
        body.append(_text(x, top, title, 15, COLOURS[name], font_weight="bold"))
        for number, (module, what) in enumerate(way, 1):
            y = top + 10 + 22 * number
            body.append(_badge(x + 9, y - 4, number, COLOURS[name]))
            body.append(_text(x + 26, y, module, 12, font_weight="bold"))
            body.append(_text(x + 220, y, what, 12, "#4b5563"))
    height = top + 30 + 22 * max(len(VIDEO_TO_HEAD), len(SOUND_TO_PICTURE))
    head = _text(
        MARGIN,
        28,
        "The rooms of dgtalker/. Grey lines are imports: down or to the right. Any room may import errors.py.",
        14,
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            'font-family="system-ui, sans-serif" role="img" aria-label="The rooms of dgtalker and two ways">',
            f'<rect width="{WIDTH}" height="{height:g}" rx="10" fill="#ffffff"/>',
            *(
                f'<marker id="{colour[1:]}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="4" markerHeight="4" '
                f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
                for colour in COLOURS.values()
            ),
            head,
            *body,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write docs/architecture.svg."""
    TARGET.write_text(draw(), encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
