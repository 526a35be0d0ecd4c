"""DGTalker: audio-driven 3D Gaussian talking heads from monocular video."""

__version__ = "0.1.0"
