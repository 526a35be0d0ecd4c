"""Face landmarks, ARKit scores and head transforms from MediaPipe's Face Landmarker.

MediaPipe's package says that its Tasks send metrics about performance and utilisation to Google, and offers no
switch. Reading faces needs no network, so `block_mediapipe_usage_reports` routes that upload to a closed local port.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dgtalker.assets import find_asset
from dgtalker.errors import UserError

LANDMARKS = 478
FACE_LANDMARKER = "face_landmarker.task"
SEGMENTER = "selfie_segmenter.tflite"
_URL = "https://storage.googleapis.com/mediapipe-models"
_URLS = {
    FACE_LANDMARKER: f"{_URL}/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    SEGMENTER: f"{_URL}/image_segmenter/selfie_segmenter/float16/latest/selfie_segmenter.tflite",
}
_CLOSED_PORT = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")


@dataclass(frozen=True)
class Face:
    """One face in one picture."""

    landmarks: np.ndarray  # [478,2] float32, pixels of the picture (pixel centres at +0.5)
    scores: np.ndarray  # [52] float32 in 0..1, in the order of SCORE_NAMES
    transform: np.ndarray  # [4,4] float32, MediaPipe's canonical face (cm) to its camera (y up, looking along -z)
    depth: np.ndarray | None = None  # [478] float32, pixels away from the camera, relative to the head's middle

    @property
    def size(self) -> float:
        """Larger side of the landmarks' bounding box, pixels."""
        return float(np.ptp(self.landmarks, axis=0).max())

    @property
    def centre(self) -> np.ndarray:
        """Mean landmark [2], pixels."""
        return self.landmarks.mean(axis=0)


# ARKit names in MediaPipe's order, without its first entry "_neutral"; tongueOut is not among MediaPipe's.
SCORE_NAMES = (
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight "
    "eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft "
    "eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft "
    "mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight "
    "mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft "
    "mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft "
    "noseSneerRight tongueOut"
).split()


def find_model(name: str, given: str | Path | None = None) -> Path:
    """Path of a MediaPipe model file.

    Looked for in `given`, $DGTALKER_MODELS, ~/.cache/dgtalker, the Hugging Face cache, and `models` of find_asset.
    Raises UserError with the download address if the file is nowhere.
    """
    if given is not None:
        path = Path(given) / name if Path(given).is_dir() else Path(given)
        if not path.is_file():
            raise UserError(f"There is no model file {path}; download {name} from {_URLS[name]} and pass its path.")
        return path
    folders = [Path(f) for f in os.environ.get("DGTALKER_MODELS", "").split(os.pathsep) if f]
    folders.append(Path.home() / ".cache" / "dgtalker")
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    hub = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    cached = sorted(hub.glob(f"models--*/snapshots/*/{name}")) if hub.is_dir() else []
    if cached:
        return cached[-1]
    if (found := find_asset("models", name)) is not None:
        return found
    raise UserError(f"The model file {name} was not found; download it from {_URLS[name]} and pass its path.")


def block_mediapipe_usage_reports() -> None:
    """Route HTTPS of this process to a closed local port. For worker processes that do nothing but MediaPipe."""
    os.environ.update(_CLOSED_PORT)


@contextmanager
def usage_reports_blocked() -> Generator[None]:
    """As `block_mediapipe_usage_reports`, but the process gets its proxies back at the end."""
    before = {variable: os.environ.get(variable) for variable in _CLOSED_PORT}
    block_mediapipe_usage_reports()
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def import_mediapipe():
    """The module mediapipe, quiet. Raises UserError if it is not installed."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
    except ImportError as error:
        raise UserError("Reading faces from video needs the package mediapipe; install it with pip.") from error
    return mediapipe


class Landmarker:
    """Face Landmarker for single pictures; use it as a context manager (it must be closed before the interpreter ends).

    Every picture is detected on its own (MediaPipe's IMAGE mode): its VIDEO mode filters over time and lags behind.
    """

    def __init__(self, model: str | Path | None = None, max_faces: int = 2):
        mp = import_mediapipe()
        from mediapipe.tasks.python import BaseOptions, vision

        path = find_model(FACE_LANDMARKER, model)
        try:
            self._task = vision.FaceLandmarker.create_from_options(
                vision.FaceLandmarkerOptions(
                    base_options=BaseOptions(model_asset_path=str(path)),
                    num_faces=max_faces,
                    output_face_blendshapes=True,
                    output_facial_transformation_matrixes=True,
                )
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path} is not a usable Face Landmarker model; download it again.") from error
        self._mp, self._closed = mp, False

    def __enter__(self) -> Landmarker:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Free the model; MediaPipe raises at interpreter exit otherwise."""
        if not self._closed:
            self._closed = True
            self._task.close()

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Faces in an RGB picture uint8 [H,W,3], largest first."""
        height, width = picture.shape[:2]
        image = self._mp.Image(image_format=self._mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        result = self._task.detect(image)
        faces = []
        for points, scores, transform in zip(
            result.face_landmarks, result.face_blendshapes, result.facial_transformation_matrixes, strict=True
        ):
            xy = np.array([(p.x * width, p.y * height) for p in points], np.float32)
            by_name = {s.category_name: s.score for s in scores}
            values = np.array([by_name.get(name, 0.0) for name in SCORE_NAMES], np.float32)
            depth = np.array([p.z * width for p in points], np.float32)
            faces.append(Face(xy, values, np.asarray(transform, np.float32), depth))
        return sorted(faces, key=lambda face: -face.size)


class FaceFollower:
    """Faces in consecutive pictures, searched in a window that follows the largest.

    A face that is small in a large picture is often missed by the search of the whole picture, which is scaled down to
    the model's input. The whole picture is searched where the window shows no face, and every SEARCH_EVERY pictures for
    larger faces and for others; these are remembered until the next search. After a cut the window is the old one for
    less than SEARCH_EVERY pictures if it happens to show another face.
    """

    WINDOW = 2.4  # side of the window, in sizes of the face
    SEARCH_EVERY = 5

    def __init__(self, landmarker: Landmarker):
        self.landmarker = landmarker
        self._last: Face | None = None
        self._others: list[Face] = []
        self._count = 0

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Faces in the next RGB picture uint8 [H,W,3], the followed one first; transforms are those in its window."""
        search = self._last is None or self._count % self.SEARCH_EVERY == 0
        self._count += 1
        followed = self._find_near(picture, self._last) if self._last is not None else None
        if search or followed is None:
            faces = self.landmarker.detect(picture)
            self._others = [f for f in faces if followed is None or not _same_face(f, followed)]
            larger = self._others and (followed is None or self._others[0].size > 1.25 * followed.size)
            if larger:  # seen anew in its own window, so that all pictures are searched in the same way
                found = self._others.pop(0)
                if followed is not None:
                    self._others.append(followed)
                followed = self._find_near(picture, found) or found
        self._last = followed
        if followed is None:
            self._others = []
            return []
        return [followed, *self._others]

    def _find_near(self, picture: np.ndarray, face: Face) -> Face | None:
        """The face nearest to where `face` was, None if there is none that overlaps it."""
        height, width = picture.shape[:2]
        side = max(32, round(self.WINDOW * face.size))
        middle = 0.5 * (face.landmarks.min(0) + face.landmarks.max(0))
        left, top = (
            int(np.clip(m - side / 2, 0, max(n - side, 0))) for m, n in zip(middle, (width, height), strict=True)
        )
        window = picture[top : top + side, left : left + side]
        corner = np.array([left, top], np.float32)
        found = [replace(f, landmarks=f.landmarks + corner) for f in self.landmarker.detect(window)]
        found = [f for f in found if _same_face(f, face)]
        return min(found, key=lambda f: np.linalg.norm(f.centre - face.centre)) if found else None


def _same_face(a: Face, b: Face) -> bool:
    """Whether two finds lie so close together that they are one face."""
    return float(np.linalg.norm(a.centre - b.centre)) < 0.6 * max(a.size, b.size)
