"""Draws docs/teaser.png from the shipped identities: python docs/make_teaser.py

Top row: the last identity saying the last example, from the front. Below: the others, each from two sides.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from dgtalker.camera import orbit_camera
from dgtalker.identity import Identity, list_identities
from dgtalker.media.audio import load_audio
from dgtalker.performance.curves import Performance
from dgtalker.render import render_frame

ROOT = Path(__file__).resolve().parent.parent
SIZE, YAWS = 240, (-35, 50)


def main() -> None:
    identities = [Identity.from_pretrained(name) for name in list_identities()]
    speaker, others = identities[-1], identities[:-1] or identities
    speech = sorted((ROOT / "examples").glob("*.flac"))[-1]
    said = Performance.from_audio(speaker, load_audio(speech))
    moments = np.linspace(0.15, 0.6, len(YAWS) * len(others)) * len(said)
    front = orbit_camera(size=SIZE)
    rows = [[render_frame(speaker.frame(said.a_exp[t], said.a_lip[t]), front) for t in moments.astype(int)]]
    rests = [other.frame(np.zeros(other.n_exp), np.zeros(other.n_lip)) for other in others]
    rows.append([render_frame(rest, orbit_camera(yaw=yaw, pitch=5, size=SIZE)) for rest in rests for yaw in YAWS])
    Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows])).save(ROOT / "docs" / "teaser.png")


if __name__ == "__main__":
    main()
