"""Two heads say the same, side by side: python 03_compare_two_heads.py [HEAD HEAD] writes two_heads.webp."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dgtalker as dg

speech = Path(__file__).with_name("ljspeech-printing.flac")
names = sys.argv[1:] or dg.heads()[:2]

streams = [dg.load(name).stream(speech, size=192) for name in names]
frames = [Image.fromarray(np.concatenate(pair, axis=1)) for pair in zip(*streams, strict=True)]
frames[0].save("two_heads.webp", save_all=True, append_images=frames[1:], duration=40, loop=0, quality=70)
print(f"two_heads.webp: {' and '.join(names)}, {len(frames)} frames")
