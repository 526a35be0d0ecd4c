"""The Python API, `import dgtalker as dg`: a talking head in three lines.

    head = dg.load("actor2")
    performance = head.listen("speech.wav").edit(lip2=1.5, start=1.0, end=2.0)
    head.render(performance, "talking.mp4", size=512, camera="spiral")

Everything here is thin over the rooms below; command line and studio use the same functions.
Progress is reported as progress(done, total, message).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.files import check_output_file
from dgtalker.gaussians import Gaussians
from dgtalker.identity import Identity, list_identities, rendering_device
from dgtalker.performance.blinks import RATE
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.performance.recording import SoundSource
from dgtalker.performance.session import Session, check_size
from dgtalker.render import render_frame
from dgtalker.resumable import Progress, no_progress
from dgtalker.talk import CameraChoice, TalkOptions, listen, live_frames, render_frames, talk

if TYPE_CHECKING:
    from dgtalker.evaluation import EvaluationConfig
    from dgtalker.training.identity.config import CreateConfig
    from dgtalker.video.dataset import Dataset

__all__ = [
    "Camera", "Control", "Head", "Performance", "Session", "UserError",
    "create", "evaluate", "heads", "load", "preprocess",
]  # fmt: skip


def heads() -> list[str]:
    """Names of the heads that are installed.

    >>> "actor2" in dg.heads()
    True
    """
    return list_identities()


def load(name: str | Path, revision: str | None = None, device: str = "auto") -> Head:
    """The head `name`: an installed one, a folder or a hub repository ("owner/name"), of which `revision` is asked for.

    device: "cpu", "cuda", or "auto", which takes CUDA where gsplat is installed. Raises UserError if there is no such
    head or device, or its files are damaged.

    >>> head = dg.load("actor2")
    """
    return Head(Identity.from_pretrained(name, revision, rendering_device(device)))


class Control(NamedTuple):
    """One of a head's sliders."""

    label: str  # for people
    low: float  # how far it goes, in training standard deviations; blink and face controls run from 0 (off) to 1
    high: float


class Head:
    """A person's head that listens and talks.

    >>> head = dg.load("actor2")
    >>> performance = head.listen("speech.wav")
    >>> head.render(performance, "talking.mp4").name
    'talking.mp4'
    """

    identity: Identity  # what the rooms below work with

    def __init__(self, identity: Identity):
        self.identity = identity

    def __repr__(self) -> str:
        return f"Head({self.name!r}, {self.identity.n_exp} expression and {self.identity.n_lip} lip coefficients)"

    @property
    def name(self) -> str:
        """Short name, as `load` takes it for an installed head."""
        return self.identity.name

    @property
    def title(self) -> str:
        """Name for people."""
        return self.identity.title

    @property
    def controls(self) -> dict[str, Control]:
        """What can be moved, by the name that `frame`, `export` and Performance.edit take it under.

        Coefficients first, then blink, then the face controls (smile, brows_up, ..) of a head that has them.

        >>> head = dg.load("actor2")
        >>> head.controls["blink"].high
        1.0
        >>> image = head.frame(lip1=head.controls["lip1"].high)
        """
        identity = self.identity
        names = identity.exp_names + identity.lip_names
        controls = {
            name: Control(identity.labels[name], float(low), float(high))
            for name, (low, high) in zip(names, identity.ranges.tolist(), strict=True)
        }
        face = {control.name: Control(control.label, 0.0, 1.0) for control in identity.controls}
        return {**controls, "blink": Control("blink", 0.0, 1.0), **face}

    def listen(
        self,
        sound: SoundSource,
        *,
        expression: SoundSource | None = None,
        blinks: Sequence[float] | None = None,
        blink_rate: float = RATE,
        variant: int = 0,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Performance:
        """What the head does while it says `sound`: coefficient curves, 25 a second.

        sound: a path, the bytes of a sound file, or (samples, rate) with samples [S] or [S, channels]; up to 30
        minutes. Silence is legal, and a face at rest that blinks. expression: another sound, which moves the upper
        face. blinks: seconds at which the eyes shut, () for never, None for `blink_rate` drawn ones a minute.
        variant: another number is another natural movement of the upper face for the same speech; seed: of blinks and
        variant. None of these changes the lips. Raises UserError for bad input.

        >>> head = dg.load("actor2")
        >>> performance = head.listen("speech.wav", blinks=[0.4])
        >>> rate = 16000
        >>> hum = 0.1 * np.sin(np.arange(rate) * 2 * np.pi * 150 / rate)
        >>> head.listen((hum, rate)).seconds
        1.0
        """
        if blinks is not None:
            try:
                blinks = tuple(np.asarray(blinks, float).tolist())
            except (TypeError, ValueError) as error:
                raise UserError("Blinks are a list of seconds, for instance [1.2, 3.4], or () for none.") from error
        settings = ExpressionSettings(blinks, blink_rate, seed, variant)
        return listen(self.identity, sound, settings, expression, progress)

    def render(
        self,
        performance: Performance | SoundSource,
        path: str | Path,
        size: int = 256,
        camera: CameraChoice = "front",
        progress: Progress | None = None,
    ) -> Path:
        """Write a video (.mp4) of a performance, with the sound it was made from; of a sound, too. Returns the path.

        size: height in pixels, even. camera: "front", "spiral", (yaw, pitch) in degrees, (yaw, pitch, zoom), a Camera,
        or a batch of one per frame. Frames go to the encoder one by one, so that memory does not grow. Raises
        UserError for bad input, a performance of another head, or a file that cannot be written.

        >>> head = dg.load("actor2")
        >>> path = head.render("speech.wav", "talking.mp4", size=64, camera=(20, 0))
        """
        path = check_output_file(path, (".mp4",))
        sound, curves = (
            (performance.sound, performance) if isinstance(performance, Performance) else (performance, None)
        )
        talk(self.identity, sound, path, TalkOptions(size=size, camera=camera, curves=curves), progress=progress)
        return path

    def player(
        self,
        performance: Performance | SoundSource,
        path: str | Path,
        camera: CameraChoice = "front",
        sound: SoundSource | None = None,
        progress: Progress | None = None,
    ) -> Path:
        """Write a page (.html) that holds the head, a performance and its sound, and plays in any browser of today.

        There it can be turned and moved while it speaks; nothing is fetched. camera: where it starts, as in `render`,
        but for a Camera. sound: of a performance that does not know its own, such as that of a session. Returns the
        path. Raises UserError for bad input, a performance of another head, or a file that cannot be written.

        >>> head = dg.load("actor2")
        >>> path = head.player("speech.wav", "talk.html", camera=(20, 0))
        """
        from dgtalker.web.player import write_player

        path = check_output_file(path, (".html", ".htm"))
        if not isinstance(performance, Performance):
            performance = self.listen(performance, progress=progress)
        return write_player(self.identity, performance, path, camera, sound)

    def stream(
        self,
        sound: Performance | SoundSource | Iterator[np.ndarray],
        size: int = 256,
        camera: CameraChoice = "front",
        *,
        rate: int = 16000,
        gain: float = 1.0,
    ) -> Iterator[np.ndarray]:
        """Pictures, uint8 [size, W, 3], 25 a second of sound, each as soon as it is drawn. Close the iterator to stop.

        Those of a sound or a performance are the frames of `render`. An iterator of chunks of samples [S] at `rate` Hz
        is a live sound: pictures come late by what the encoders look ahead, about 2.5 seconds; its level is not
        measured but multiplied by `gain` (1 suits speech whose loud parts have an RMS near 0.1), and the face is not
        put to rest in pauses. Raises UserError for bad input.

        >>> head = dg.load("actor2")
        >>> for image in head.stream("speech.wav", size=64):
        ...     pass
        >>> def microphone():
        ...     for _ in range(5):
        ...         yield np.zeros(4000, np.float32)
        >>> sum(1 for image in head.stream(microphone(), size=64))
        31
        """
        if isinstance(sound, Iterator):
            return live_frames(self.identity, sound, camera, size, rate, gain)
        performance = sound if isinstance(sound, Performance) else self.listen(sound)
        return render_frames(self.identity, performance, camera, size)

    def frame(
        self, *, yaw: float = 0.0, pitch: float = 0.0, zoom: float = 1.0, size: int = 512, **controls: float
    ) -> np.ndarray:
        """One picture, uint8 [size, size, 3]. yaw and pitch in degrees: > 0 from the head's left, from above.

        controls: coefficients in training standard deviations, blink and face controls in 0..1; see `controls`. Raises
        UserError for an unknown one, or a value that is not a number or absurdly large.

        >>> image = dg.load("actor2").frame(lip1=2.0, blink=1.0, yaw=20, size=128)
        >>> image.shape, image.dtype
        ((128, 128, 3), dtype('uint8'))
        """
        camera = orbit_camera(yaw, pitch, check_size(size), zoom)
        return render_frame(self._splats(controls), camera)

    def export(self, path: str | Path, **controls: float) -> Path:
        """Write the head, moved by `controls`, as a .ply for viewers of 3D Gaussian splatting. Returns the path.

        Raises UserError as `frame` does, and if the file cannot be written.

        >>> path = dg.load("actor2").export("head.ply", lip1=2.0)
        """
        path = check_output_file(path, (".ply",))
        self._splats(controls).save_ply(path)
        return path

    def _splats(self, controls: dict[str, float]) -> Gaussians:
        return self.identity.posed_splats(controls)


def preprocess(
    videos: str | Path | Sequence[str | Path],
    folder: str | Path,
    *,
    like: str | Path | None = None,
    size: int | None = None,
    features: str = "whisper-tiny.en",
    face_landmarker: str | Path | None = None,
    segmenter: str | Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Make a data set in `folder` from videos of one person, files or folders of them; what is there is kept.

    like: a data set whose shape, crop and scales are taken, for held-out clips. size: side of the head crops, 256, 384
    or 512 pixels, by default the largest that the videos can fill. features: "whisper-tiny.en" or "log-mel", what hears
    the sound. face_landmarker, segmenter: MediaPipe's model files, searched for if None.
    Raises UserError if no video is usable.

    >>> dataset = dg.preprocess("films/", "dataset")  # doctest: +SKIP
    """
    from dgtalker.video.preprocess import PreprocessConfig
    from dgtalker.video.preprocess import preprocess as make_dataset

    sources = [videos] if isinstance(videos, str | Path) else list(videos)
    config, report = PreprocessConfig(size=size, feature_kind=features), progress or no_progress
    return make_dataset(sources, folder, face_landmarker, segmenter, like, config, progress=report)


def create(
    dataset: Dataset | str | Path,
    folder: str | Path,
    *,
    prior: str | Path | None = None,
    backbone: str | Path | None = None,
    preset: str = "cpu",
    config: CreateConfig | None = None,
    resume: bool = False,
    title: str = "",
    source: str = "a video supplied by the user",
    attribution: str = "",
    license: str = "",
    progress: Progress | None = None,
) -> Head:
    """Train a head on a data set, write it to `folder` and return it.

    prior, backbone: name, folder or hub repository of what it starts from; None: the shipped ones. preset: "cpu" (half
    an hour on two cores), "gpu", or "test" (a few steps of everything). config: settings of every stage instead of the
    preset's. resume: keep the finished stages of the last run. title, source, attribution, license: for the model
    card. Raises UserError if the data set or what it starts from is missing or does not fit.

    >>> head = dg.create("dataset", "anna", title="Anna")  # doctest: +SKIP
    """
    from dgtalker.training.identity.create import create_identity
    from dgtalker.training.identity.model_card import IdentityDetails

    identity = create_identity(
        _folder_of(dataset),
        folder,
        prior,
        preset,
        resume,
        progress or no_progress,
        config=config,
        details=IdentityDetails(title=title, source=source, attribution=attribution, license=license),
        backbone=backbone,
    )
    return Head(identity.to(rendering_device()))


def evaluate(
    head: Head,
    dataset: Dataset | str | Path,
    *,
    clips: int = 20,
    config: EvaluationConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a head on a data set of held-out clips: the report that `dgtalker evaluate --json` prints.

    clips: at most so many, spread over the data set. config: everything else that can be measured, instead of `clips`.
    Raises UserError if the data set does not fit the head, or MediaPipe or its model is missing.

    >>> report = dg.evaluate(dg.load("actor2"), "held-out")  # doctest: +SKIP
    """
    from dgtalker.evaluation import EvaluationConfig
    from dgtalker.evaluation import evaluate as measure
    from dgtalker.video.dataset import Dataset

    config = config or EvaluationConfig(clips=clips)
    on_cpu = head.identity.device.type == "cpu"
    identity = head.identity if on_cpu else deepcopy(head.identity).to("cpu")  # the figures are those of the CPU
    return measure(identity, Dataset.open(_folder_of(dataset)), config, progress)


def _folder_of(dataset: Dataset | str | Path) -> Path:
    return Path(dataset) if isinstance(dataset, str | Path) else dataset.folder
