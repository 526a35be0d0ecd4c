"""The data set folder: what preprocessing writes and what training and evaluation read.

    dataset.json            format version, fps, size, feature kind, identity shape, tracking constants, list of clips
    clips/NAME.safetensors  per-frame tensors of one clip, see CLIP_TENSORS
    audio/NAME.wav          16 kHz mono

Pixels follow the project's conventions: x right, y down, pixel centres at +0.5.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dgtalker.errors import UserError

if TYPE_CHECKING:
    from dgtalker.camera import Camera

FORMAT_VERSION = 1

# name -> (dtype, shape after the frame dimension); features have two rows a frame and any width.
CLIP_TENSORS: dict[str, tuple[torch.dtype, tuple[int | str, ...]]] = {
    "images": (torch.uint8, ("S", "S", 3)),  # head on white, neck cut
    "alpha": (torch.uint8, ("S", "S")),
    "unsure": (torch.uint8, ("S", "S")),  # 255 where alpha is a guess; absent in older data sets
    "mask_upper": (torch.uint8, ("S", "S")),  # soft, dead zone over the nose
    "mask_lower": (torch.uint8, ("S", "S")),
    "world_to_camera": (torch.float32, (4, 4)),
    "intrinsics": (torch.float32, (3, 3)),
    "landmarks": (torch.float32, (478, 2)),  # pixels of the crop
    "expression": (torch.float32, (52,)),  # tracked, template units
    "scores": (torch.float32, (52,)),  # MediaPipe's own, 0..1
    "blink": (torch.float32, ()),  # 0 open .. 1 closed
}


@dataclass(frozen=True)
class ClipInfo:
    """One line of dataset.json's list of clips."""

    name: str
    frames: int
    source: str  # file name and, for a shot of a longer video, its start in seconds
    tracking_error: float = 0.0  # mean landmark reprojection error, pixels of the crop
    jitter: float = 0.0  # frame-to-frame noise of the rigid head, pixels of the crop
    gain: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])  # white balance: factors of red, green, blue


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of dataset.json."""

    feature_kind: str  # "whisper-tiny.en" or "log-mel"
    shape: list[float]  # [Ks] tracked identity shape, template units (1 = one std)
    clips: list[ClipInfo] = field(default_factory=list)
    fps: int = 25
    size: int = 256
    focal: float = 3.75  # assumed focal length of the source video, in source picture heights
    window: float = 3.2  # side of the square crop, decimetres at the head's distance
    expression_names: list[str] = field(default_factory=list)  # order of expression and scores
    landmark_offsets: list[list[float]] = field(default_factory=list)  # [478][3] dm, this person's landmarks
    blink_open: float = 0.0  # eyeBlink score that counts as blink 0
    blink_closed: float = 1.0  # eyeBlink score that counts as blink 1
    skin: list[float] = field(default_factory=list)  # colour [3] in 0..1 that all clips' skin was balanced to
    format_version: int = FORMAT_VERSION


class Clip:
    """Tensors of one clip, memory-mapped on first access.

    images uint8 [T,S,S,3]; alpha, unsure, mask_upper, mask_lower uint8 [T,S,S]; world_to_camera [T,4,4];
    intrinsics [T,3,3]; landmarks [T,478,2]; expression, scores [T,52]; blink [T]; features float16 [2T,D].
    """

    def __init__(self, folder: Path, info: ClipInfo, size: int):
        self.info, self.size = info, size
        self.path = folder / "clips" / f"{info.name}.safetensors"
        self.audio_path = folder / "audio" / f"{info.name}.wav"

    @property
    def name(self) -> str:
        """File stem of the clip."""
        return self.info.name

    def __len__(self) -> int:
        return self.info.frames

    def _load(self, key: str) -> torch.Tensor:
        try:
            with safe_open(self.path, framework="pt") as file:
                return file.get_tensor(key)  # maps the file, copies nothing
        except (OSError, SafetensorError) as error:
            raise UserError(f"Clip {self.path} cannot be read ({error}); run preprocess again.") from error

    images = cached_property(lambda self: self._load("images"))
    alpha = cached_property(lambda self: self._load("alpha"))

    @cached_property
    def unsure(self) -> torch.Tensor:
        """Where alpha is a guess, uint8 [T,S,S]; zeros for a data set that was made before this was measured."""
        with safe_open(self.path, framework="pt") as file:
            known = "unsure" in file.keys()  # noqa: SIM118
        return self._load("unsure") if known else torch.zeros_like(self.alpha)

    mask_upper = cached_property(lambda self: self._load("mask_upper"))
    mask_lower = cached_property(lambda self: self._load("mask_lower"))
    world_to_camera = cached_property(lambda self: self._load("world_to_camera"))
    intrinsics = cached_property(lambda self: self._load("intrinsics"))
    landmarks = cached_property(lambda self: self._load("landmarks"))
    expression = cached_property(lambda self: self._load("expression"))
    scores = cached_property(lambda self: self._load("scores"))
    blink = cached_property(lambda self: self._load("blink"))
    features = cached_property(lambda self: self._load("features"))

    def camera(self, frames: int | slice | list[int] | torch.Tensor = slice(None)) -> Camera:
        """Camera of one frame (int), or the batch of cameras of several."""
        from dgtalker.camera import Camera

        return Camera(self.world_to_camera[frames], self.intrinsics[frames], self.size, self.size)


class Dataset:
    """A data set folder. `Dataset.open(folder)`, then iterate over it or ask for `clip(name_or_number)`."""

    def __init__(self, folder: Path, info: DatasetInfo):
        self.folder, self.info = folder, info
        self._clips: dict[str, Clip] = {}
        self._infos = {c.name: c for c in info.clips}

    @staticmethod
    def open(folder: str | Path) -> Dataset:
        """Read dataset.json. Raises UserError if the folder is not a data set or has no clips."""
        info = read_info(Path(folder))
        if not info.clips:
            raise UserError(f"The data set {folder} has no clips; run preprocess on at least one video.")
        return Dataset(Path(folder), info)

    @property
    def names(self) -> list[str]:
        """Names of the clips."""
        return list(self._infos)

    @property
    def frames(self) -> int:
        """Number of frames of all clips together."""
        return sum(c.frames for c in self.info.clips)

    @property
    def feature_kind(self) -> str:
        """Kind of audio features, see FEATURE_KINDS."""
        return self.info.feature_kind

    @property
    def size(self) -> int:
        """Side of the crops, pixels."""
        return self.info.size

    @cached_property
    def shape(self) -> torch.Tensor:
        """Identity shape [Ks], template units."""
        return torch.tensor(self.info.shape, dtype=torch.float32)

    def __len__(self) -> int:
        return len(self.info.clips)

    def __iter__(self) -> Iterator[Clip]:
        return (self.clip(name) for name in self.names)

    def clip(self, name: str | int) -> Clip:
        """Clip by name or by number."""
        if isinstance(name, int):
            name = self.names[name]
        if name not in self._infos:
            some = ", ".join(self.names[:5])
            raise UserError(f"The data set {self.folder} has no clip called {name}; it has {some} ...")
        if name not in self._clips:
            self._clips[name] = Clip(self.folder, self._infos[name], self.size)
        return self._clips[name]


def read_info(folder: Path) -> DatasetInfo:
    """Parse FOLDER/dataset.json. Raises UserError if absent, damaged or of another format version."""
    path = folder / "dataset.json"
    try:
        raw = json.loads(path.read_text())
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(f"{path} has format version {version}, not {FORMAT_VERSION}; run preprocess again.")
        raw["clips"] = [ClipInfo(**c) for c in raw["clips"]]
        return DatasetInfo(**raw)
    except FileNotFoundError as error:
        raise UserError(f"{folder} is not a data set: it has no dataset.json; make one with preprocess.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} is damaged ({error}); run preprocess again.") from error


def write_info(folder: Path, info: DatasetInfo) -> None:
    """Write FOLDER/dataset.json atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".dataset.json.{os.getpid()}"
    temporary.write_text(json.dumps(asdict(info), indent=1))
    temporary.replace(folder / "dataset.json")


def write_clip(folder: Path, name: str, tensors: dict[str, torch.Tensor], key: str = "") -> None:
    """Write clips/NAME.safetensors atomically after checking it against CLIP_TENSORS.

    Without "unsure", alpha counts as certain everywhere.
    key: a digest of everything the clip was made from, so that a later run can keep it.
    """
    frames, size = tensors["images"].shape[:2]
    tensors = {"unsure": torch.zeros_like(tensors["alpha"])} | tensors
    for field_name, (dtype, tail) in CLIP_TENSORS.items():
        expected = (frames, *(size if d == "S" else d for d in tail))
        found = tensors[field_name]
        assert found.dtype == dtype and tuple(found.shape) == expected, (field_name, found.dtype, found.shape, expected)
    features = tensors["features"]
    assert features.dtype == torch.float16 and features.shape[0] == 2 * frames, ("features", features.shape)
    target = folder / "clips" / f"{name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{name}.{os.getpid()}.tmp")
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata={"key": key})
    temporary.chmod(0o644)
    temporary.replace(target)


def read_clip_key(folder: Path, name: str) -> str | None:
    """The key a clip was written with, None if there is no readable clip of that name."""
    try:
        with safe_open(folder / "clips" / f"{name}.safetensors", framework="pt") as file:
            return (file.metadata() or {}).get("key")
    except (OSError, SafetensorError):
        return None
