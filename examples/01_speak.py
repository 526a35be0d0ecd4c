"""A head says a recording: python 01_speak.py [SPEECH] writes talking.mp4."""

import sys
from pathlib import Path

import dgtalker as dg

speech = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("ljspeech-printing.flac")

head = dg.load("actor2")
performance = head.listen(speech)
head.render(performance, "talking.mp4")
print(f"talking.mp4: {head.title}, {performance.seconds:.1f} s")
