"""Curves can be read, edited and saved: python 02_edit_curves.py writes edited.mp4 and curves.csv."""

from pathlib import Path

import dgtalker as dg

head = dg.load("actor2")
for name, control in head.controls.items():
    print(f"{name:6} {control.low:+.1f} .. {control.high:+.1f}  {control.label}")

plain = head.listen(Path(__file__).with_name("ljspeech-printing.flac"), blink_rate=0)
edited = plain.edit(lip1=1.5, start=1.0, end=2.0)  # during one second
edited = edited.edit(blink=1, start=2.4, end=2.8).edit(exp1=-0.5)  # a long blink; another brow all along
moved = abs(edited.curves["lip1"] - plain.curves["lip1"]) > 0
print(f"lip1 was changed in {moved.sum()} of {len(plain)} frames")

edited.save("curves.csv")
head.render(edited, "edited.mp4")
