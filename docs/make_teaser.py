"""Draws docs/teaser.webp: the shipped heads say one sentence while the camera swings round them.

python -m docs.make_teaser
"""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from dgtalker.camera import orbit_camera
from dgtalker.identity import Identity, list_identities
from dgtalker.media.audio import load_audio
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.render import render_frame

ROOT = Path(__file__).resolve().parent.parent
SPEECH = ROOT / "examples" / "ljspeech-printing.flac"
SIZE, YAW, PITCH, ZOOM = 240, 40, 8, 1.0  # pixels; degrees to either side and up and down
FPS = 25
QUALITY = 42
MIDDLE_OF_HEAD = (0.0, 0.06, 0.0)  # decimetres; what the camera looks at


def frames_of_head(name: str, samples: np.ndarray, phase: float) -> list[np.ndarray]:
    """The head `name` says `samples`; the camera goes round an ellipse once, so that the picture can be looped."""
    identity = Identity.from_pretrained(name)
    said = Performance.from_audio(identity, samples, settings=ExpressionSettings(seed=round(100 * phase)))
    frames = []
    for t in range(len(said)):
        angle = 2 * math.pi * (t / len(said) + phase)
        camera = orbit_camera(YAW * math.sin(angle), PITCH * math.cos(angle), SIZE, ZOOM, MIDDLE_OF_HEAD)
        frames.append(render_frame(identity.frame(said.a_exp[t], said.a_lip[t]), camera))
    return frames


def main() -> None:
    """Write the animation."""
    samples = load_audio(SPEECH)
    names = list(list_identities())
    heads = [frames_of_head(name, samples, i / len(names)) for i, name in enumerate(names)]
    frames = [Image.fromarray(np.concatenate(row, axis=1)) for row in zip(*heads, strict=True)]
    path = ROOT / "docs" / "teaser.webp"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=1000 // FPS, loop=0, quality=QUALITY, method=4
    )
    print(f"{path}: {len(frames)} frames, {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
