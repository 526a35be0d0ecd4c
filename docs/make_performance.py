"""Draws docs/performance.svg from the measurements in docs/performance.json.

python -m docs.make_performance             draw
python -m docs.make_performance --measure   time the CPU renderer and the dense reference here, print milliseconds
"""

from __future__ import annotations

import html
import json
import math
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCE, TARGET = FOLDER / "performance.json", FOLDER / "performance.svg"
COUNTS = {256: 16_000, 512: 60_000}  # picture size -> Gaussians
ROWS = {256: 4, 512: 1}  # the reference is timed on so many rows in the middle: whole, it would not fit in memory
REPEATS = 5
ROW, LEFT, BAR_WIDTH, WIDTH = 30, 210, 600, 860
DECADES = (0, 7)  # 1 ms to 10000 s


def measure() -> dict[str, dict[int, float]]:
    """Milliseconds a picture, the best of five: renderer -> size -> ms. Of the reference, one thread's CPU time.

    A few rows of the reference's picture stand for all.
    """
    import numpy as np
    import torch

    from dgtalker.bench import median_seconds, resample_splats
    from dgtalker.camera import Camera, orbit_camera
    from dgtalker.identity import Identity
    from dgtalker.render import render, render_frame

    identity = Identity.from_pretrained("grid-s1")
    rest = identity.frame(np.zeros(identity.n_exp), np.zeros(identity.n_lip))
    found: dict[str, dict[int, float]] = {"cpu": {}, "reference": {}}
    for size, count in COUNTS.items():
        head, camera = resample_splats(rest, count), orbit_camera(size=size)
        draws = [median_seconds(lambda i, g=head, c=camera: render_frame(g, c)) for _ in range(REPEATS)]
        found["cpu"][size] = 1000 * min(draws)
        intrinsics, times = camera.intrinsics.clone(), []
        intrinsics[1, 2] -= size // 2
        middle = Camera(camera.world_to_camera, intrinsics, size, ROWS[size])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for _ in range(REPEATS):
            start = time.process_time()
            with torch.no_grad():
                render(head, middle, backend="reference")
            times.append(time.process_time() - start)
        torch.set_num_threads(threads)
        found["reference"][size] = 1000 * min(times) * size / ROWS[size]
    return found


def _duration(ms: float) -> str:
    if ms < 1000:
        return f"{ms:g} ms"
    return f"{ms / 1000:.0f} s" if ms >= 10_000 or ms % 1000 == 0 else f"{ms / 1000:.1f} s"


def _text(x: float, y: float, content: str, size: int = 13, colour: str = "#1f2937", more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{more}>{html.escape(content)}</text>'


def draw(record: dict) -> str:
    """The chart as SVG text: one group of bars a scene, time on a logarithmic axis."""
    low, high = DECADES
    body, y = [], 44
    for size, scene in record["scenes"].items():
        body.append(_text(20, y, f"{scene}: time for one picture", 14, more=' font-weight="600"'))
        top = y + 12
        bottom = top + ROW * len(record["renderers"])
        for decade in range(low, high + 1):
            x = LEFT + BAR_WIDTH * (decade - low) / (high - low)
            body.append(f'<line x1="{x:g}" y1="{top}" x2="{x:g}" y2="{bottom}" stroke="#e5e7eb"/>')
            body.append(_text(x, bottom + 16, _duration(10**decade), 11, "#6b7280", ' text-anchor="middle"'))
        for i, renderer in enumerate(record["renderers"]):
            middle, ms = top + ROW * i + ROW / 2, renderer["ms"][size]
            body.append(_text(LEFT - 10, middle + 5, renderer["name"], 13, more=' text-anchor="end"'))
            if ms is None:
                body.append(_text(LEFT + 8, middle + 5, "not measured", 12, "#6b7280", ' font-style="italic"'))
                continue
            length = BAR_WIDTH * (math.log10(ms) - low) / (high - low)
            colour = "#1d4ed8" if i == 0 else "#9ca3af"
            body.append(
                f'<rect x="{LEFT}" y="{middle - 9:g}" width="{length:.1f}" height="18" rx="3" fill="{colour}"/>'
            )
            body.append(_text(LEFT + length + 8, middle + 5, renderer.get("about", "") + _duration(ms), 12))
        y = bottom + 56
    height = y - 24
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            'font-family="system-ui, sans-serif" role="img" aria-label="Rendering time of four renderers">',
            f'<rect width="{WIDTH}" height="{height:g}" rx="10" fill="#ffffff"/>',
            *body,
            "</svg>\n",
        ]
    )


def main() -> None:
    """Write docs/performance.svg, or measure."""
    if "--measure" in sys.argv[1:]:
        print(json.dumps(measure(), indent=2))
        return
    TARGET.write_text(draw(json.loads(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
    print(TARGET)


if __name__ == "__main__":
    main()
