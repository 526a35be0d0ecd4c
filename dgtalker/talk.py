"""Sound in, talking-head video out: audio -> features -> coefficients -> splats -> frames -> mp4, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dgtalker.audio.loading import load_audio
from dgtalker.camera import Camera, camera_path, orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.media import VideoWriter
from dgtalker.performance import Performance, check_edits

MAX_SIZE = 2048


@dataclass(frozen=True)
class TalkResult:
    """A finished video."""

    path: Path
    frames: int
    seconds: float  # of video
    wall_seconds: float  # that making it took
    performance: Performance  # the curves shown

    @property
    def fps(self) -> float:
        """Frames made per second of wall time, everything included."""
        return self.frames / max(self.wall_seconds, 1e-9)


class _Cancelled(Exception):
    pass


def talk(
    identity: Identity,
    audio_path: str | Path,
    out: str | Path,
    size: int = 256,
    camera: str | Camera | tuple[float, float] = "front",
    expression_from: str | Path | None = None,
    edits: Mapping[str, float] | None = None,
    save_coefficients: str | Path | None = None,
    seed: int = 0,
    progress: Callable[[float, float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TalkResult | None:
    """Write the video of `identity` saying the sound of `audio_path` to `out` (.mp4, with that sound).

    size: height in pixels, even. camera: "front", "spiral", (yaw, pitch) in degrees, a Camera, or a batch with one per
    frame. expression_from: another recording that drives the upper face. edits: constants added to coefficients, see
    Performance.with_edits. save_coefficients: a .csv for the curves. seed: of the blinks. progress(done, total,
    message). cancelled() is asked often; once it is true nothing is written and None is returned.
    Raises UserError for bad input. Memory does not grow with the length of the sound, but for its curves.
    """

    def report(done: float, total: float, message: str) -> None:
        if cancelled and cancelled():
            raise _Cancelled
        if progress:
            progress(done, total, message)

    steps = talk_frames(
        identity, audio_path, out, size, camera, expression_from, edits, save_coefficients, seed, listening=report
    )
    try:
        while True:
            report(*next(steps))
    except StopIteration as end:
        return end.value
    except _Cancelled:
        return None
    finally:
        steps.close()  # deletes an unfinished video


def talk_frames(
    identity: Identity,
    audio_path: str | Path,
    out: str | Path,
    size: int = 256,
    camera: str | Camera | tuple[float, float] = "front",
    expression_from: str | Path | None = None,
    edits: Mapping[str, float] | None = None,
    save_coefficients: str | Path | None = None,
    seed: int = 0,
    listening: Callable[[float, float, str], None] | None = None,
) -> Generator[tuple[int, int, str], None, TalkResult]:
    """`talk` as a generator: yields (done, total, message) after every frame and returns the TalkResult.

    Closing it early stops the encoder and deletes the unfinished file. listening(done, total, message) is called
    during the audio analysis, which precedes the first frame, and may raise to stop it.
    """
    from dgtalker.render import render_frame

    started = time.perf_counter()
    if size != int(size) or not 16 <= size <= MAX_SIZE or size % 2:
        raise UserError(f"The size must be an even number of pixels from 16 to {MAX_SIZE}, not {size}.")
    check_edits(edits or {}, [*identity.exp_names, *identity.lip_names])
    yield 0, 0, "Reading the sound"
    samples = load_audio(audio_path)
    other = load_audio(expression_from) if expression_from else None

    def listened(fraction: float) -> None:
        if listening:
            listening(0.0, 1.0, f"Listening ({fraction:.0%})")

    performance = Performance.from_audio(identity, samples, other, seed=seed, progress=listened)
    performance = performance.with_edits(edits, identity)
    frames = len(performance)
    del samples, other
    cameras = _cameras(camera, frames, int(size))
    with VideoWriter(out, cameras.width, cameras.height, performance.fps, audio=audio_path) as writer:
        yield 0, frames, "Rendering"
        for i in range(frames):
            # The encoder is another process: it works on the last frames while this one is drawn.
            splats = identity.frame(performance.a_exp[i], performance.a_lip[i])
            writer.write(render_frame(splats, cameras[i]))
            yield i + 1, frames, "Rendering"
        if save_coefficients:
            performance.save_csv(save_coefficients)
    wall = time.perf_counter() - started
    return TalkResult(Path(out), frames, performance.seconds, wall, performance)


def _cameras(camera: str | Camera | tuple[float, float], frames: int, size: int) -> Camera:
    """A batch of one camera per frame."""
    if isinstance(camera, str):
        return camera_path(camera, frames, size)
    if not isinstance(camera, Camera):
        yaw, pitch = camera
        camera = orbit_camera(yaw, pitch, size)
    camera = camera.resized(size)
    if camera.world_to_camera.ndim == 2:
        return Camera(
            camera.world_to_camera.expand(frames, 4, 4),
            camera.intrinsics.expand(frames, 3, 3),
            camera.width,
            camera.height,
        )
    if len(camera) != frames:
        raise UserError(f"The camera path has {len(camera)} views but the sound lasts {frames} frames.")
    return camera
