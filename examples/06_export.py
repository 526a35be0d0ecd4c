"""For other programs: python 06_export.py writes head.ply, which viewers of Gaussian splatting open, and head.png."""

from PIL import Image

import dgtalker as dg

head = dg.load("actor2")
controls = {"lip1": 1.5, "blink": 0.3}
path = head.export("head.ply", **controls)
Image.fromarray(head.frame(yaw=20, **controls)).save("head.png")
print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")
