"""The head is a 3D object: python 04_orbit.py writes orbit.png, one moment seen from seven sides, and spiral.mp4."""

from pathlib import Path

import numpy as np
from PIL import Image

import dgtalker as dg

head = dg.load("actor2")
views = [head.frame(yaw=yaw, pitch=5, size=192, lip1=1.5) for yaw in range(-60, 61, 20)]
Image.fromarray(np.concatenate(views, axis=1)).save("orbit.png")

head.render(Path(__file__).with_name("ljspeech-printing.flac"), "spiral.mp4", camera="spiral")
print("orbit.png and spiral.mp4 are written.")
