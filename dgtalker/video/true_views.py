"""Ground truth of a synthetic person from several sides, kept beside its film as NAME.views.safetensors.

A film shows its person from the front only, 3D is judged from the side, and the person cannot always be made again
later. So a few frames are rendered from all sides while the film is made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dgtalker.camera import Camera
from dgtalker.errors import UserError

SUFFIX = ".views.safetensors"
YAWS = (-60.0, -45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0, 60.0)


@dataclass(frozen=True)
class TrueViews:
    """Frames of a film from several sides: head on white, the neck cut, the head's world coordinates."""

    pictures: np.ndarray  # [F, V, S, S, 3] uint8
    frames: np.ndarray  # [F] int64, of the film
    yaws: np.ndarray  # [V] degrees
    cameras: Camera  # [V]

    def save(self, path: Path) -> Path:
        """Write it atomically."""
        tensors = {
            "pictures": torch.from_numpy(np.ascontiguousarray(self.pictures)),
            "frames": torch.from_numpy(np.asarray(self.frames, np.int64)),
            "yaws": torch.from_numpy(np.asarray(self.yaws, np.float32)),
            "world_to_camera": self.cameras.world_to_camera.contiguous(),
            "intrinsics": self.cameras.intrinsics.contiguous(),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        save_file(tensors, temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        return path

    @staticmethod
    def load(path: Path) -> TrueViews:
        """Raises UserError if the file is damaged."""
        try:
            with safe_open(path, framework="pt") as file:
                read = {key: file.get_tensor(key) for key in file.keys()}
            pictures = read["pictures"].numpy()
            moments, views, height, width, channels = pictures.shape
            fits = (
                pictures.dtype == np.uint8 and channels == 3
                and read["frames"].shape == (moments,) and read["yaws"].shape == (views,)
                and read["world_to_camera"].shape == (views, 4, 4) and read["intrinsics"].shape == (views, 3, 3)
            )  # fmt: skip
            if not fits:
                raise ValueError("its tensors do not fit each other")
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"The true views {path} are damaged ({error}); make the film again.") from error
        cameras = Camera(read["world_to_camera"], read["intrinsics"], width, height)
        return TrueViews(pictures, read["frames"].numpy(), read["yaws"].numpy(), cameras)


def views_path(film: Path) -> Path:
    """Where the true views of a film lie."""
    return film.with_suffix(SUFFIX)
