"""DGTalker: audio-driven 3D Gaussian talking heads from monocular video."""

import os

__version__ = "0.1.0"

# Read when torch loads. Threads that spin while they wait make a busy machine, or a shared Space, ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
