"""Cameras: OpenCV convention (x right, y down, z forward), pinhole, pixel centres at +0.5.

World: y up, the face looks along +z, +x is the subject's left, unit 1 decimetre, origin at the skull's centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from dgtalker.errors import UserError

ORBIT_DISTANCE = 12.0  # decimetres from the target
ORBIT_VIEW_HEIGHT = 3.2  # decimetres seen from top to bottom at the target, zoom 1
PATHS = ("front", "spiral")


@dataclass(frozen=True)
class Camera:
    """One camera or a batch of them (leading dimensions).

    >>> import torch
    >>> world_to_camera = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    >>> world_to_camera[2, 3] = 12.0  # decimetres in front of the face
    >>> intrinsics = torch.tensor([[900.0, 0, 128], [0, 900, 128], [0, 0, 1]])
    >>> front = dg.Camera(world_to_camera, intrinsics, 256, 256)
    >>> path = dg.load("actor2").render("speech.wav", "talking.mp4", camera=front)
    """

    world_to_camera: Tensor  # [..., 4, 4]
    intrinsics: Tensor  # [..., 3, 3] in pixels
    width: int
    height: int

    def __len__(self) -> int:
        """Number of cameras in the leading dimension; a single camera has no length."""
        if self.world_to_camera.ndim == 2:
            raise TypeError("A single camera has no length.")
        return self.world_to_camera.shape[0]

    def __getitem__(self, index) -> Camera:
        """Index the leading dimension of a batch."""
        if self.world_to_camera.ndim == 2:
            raise TypeError("A single camera cannot be indexed.")
        return replace(self, world_to_camera=self.world_to_camera[index], intrinsics=self.intrinsics[index])

    def to(self, *args, **kwargs) -> Camera:
        """Tensor.to on both tensors."""
        return replace(
            self,
            world_to_camera=self.world_to_camera.to(*args, **kwargs),
            intrinsics=self.intrinsics.to(*args, **kwargs),
        )

    def resized(self, size: int | tuple[int, int]) -> Camera:
        """The same view at another resolution: `size` is (width, height), or the new height keeping the aspect."""
        width, height = (round(self.width * size / self.height), size) if isinstance(size, int) else size
        factors = torch.tensor([width / self.width, height / self.height, 1.0]).to(self.intrinsics)
        return replace(self, intrinsics=self.intrinsics * factors[:, None], width=width, height=height)

    @property
    def position(self) -> Tensor:
        """Camera centres in the world, [..., 3]."""
        rotation, translation = self.world_to_camera[..., :3, :3], self.world_to_camera[..., :3, 3]
        return -(rotation.mT @ translation[..., None])[..., 0]

    @staticmethod
    def stack(cameras: Sequence[Camera]) -> Camera:
        """Single cameras of one image size as a batch [C]. Raises ValueError if sizes differ or there are none."""
        if len({(camera.width, camera.height) for camera in cameras}) != 1:
            raise ValueError("Camera.stack needs at least one camera, all of one image size.")
        return Camera(
            torch.stack([camera.world_to_camera for camera in cameras]),
            torch.stack([camera.intrinsics for camera in cameras]),
            cameras[0].width,
            cameras[0].height,
        )


def orbit_camera(
    yaw: float = 0.0,
    pitch: float = 0.0,
    size: int = 256,
    zoom: float = 1.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Camera:
    """A square camera on a sphere around `target`, looking at it.

    yaw > 0 moves it towards +x, pitch > 0 raises it (degrees, |pitch| < 90); yaw = pitch = 0 is the frontal portrait.
    At zoom 1 it sees 3.2 dm at the target, from 12 dm away; zoom 2 shows half of that.
    Raises UserError for values that are not finite, a zoom <= 0, a size < 1 or |pitch| >= 90.
    """
    numbers = all(isinstance(value, Real) and math.isfinite(value) for value in (yaw, pitch, zoom, *target))
    if not numbers or zoom <= 0 or size < 1:
        raise UserError("Camera yaw, pitch, zoom and target must be finite numbers, zoom and size above zero.")
    if abs(pitch) >= 90:
        raise UserError(f"Camera pitch must lie between -90 and 90 degrees, not {pitch:g}.")
    a, b = math.radians(yaw), math.radians(pitch)
    outward = torch.tensor([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)], dtype=torch.float64)
    right = torch.tensor([math.cos(a), 0.0, -math.sin(a)], dtype=torch.float64)
    down = torch.linalg.cross(-outward, right)  # z x x = y
    rotation = torch.stack([right, down, -outward])
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3, :3] = rotation
    centre = torch.tensor(list(target), dtype=torch.float64) + ORBIT_DISTANCE * outward
    world_to_camera[:3, 3] = -rotation @ centre
    focal = size * ORBIT_DISTANCE / ORBIT_VIEW_HEIGHT * zoom
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(world_to_camera.float(), intrinsics.float(), size, size)


def camera_path(
    kind: str,
    frames: int,
    size: int,
    *,
    yaw: float = 25.0,
    pitch: float = 10.0,
    period: float = 100.0,
    zoom: float = 1.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> Camera:
    """A batch [frames] of orbit cameras.

    "front" stands still; "spiral" moves from the front outwards to an ellipse of `yaw` x `pitch` degrees, one turn in
    `period` frames (100 = 4 seconds).

    Raises UserError for an unknown kind.
    """
    if kind not in PATHS:
        raise UserError(f"Unknown camera path {kind!r}; choose one of {', '.join(PATHS)}.")
    if kind == "front":
        front = orbit_camera(0.0, 0.0, size, zoom, target)
        return Camera(
            front.world_to_camera.expand(frames, 4, 4), front.intrinsics.expand(frames, 3, 3), front.width, front.height
        )
    angles = [2 * math.pi * frame / period for frame in range(frames)]
    radii = [min(1.0, frame / (period / 2)) for frame in range(frames)]  # reaches the full ellipse after half a turn
    return Camera.stack(
        [
            orbit_camera(yaw * radius * math.sin(angle), pitch * radius * math.cos(angle), size, zoom, target)
            for angle, radius in zip(angles, radii, strict=True)
        ]
    )
