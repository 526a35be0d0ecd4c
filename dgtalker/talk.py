"""Sound in, talking-head video out: audio -> features -> coefficients -> splats -> frames -> mp4, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dgtalker.camera import Camera, camera_path, orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.media.audio import load_audio
from dgtalker.media.video import VideoWriter
from dgtalker.performance.curves import Performance, check_edits
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.performance.session import MAX_SIZE, Session, SessionCamera, Sound

CameraChoice = str | Camera | tuple[float, ...]


@dataclass(frozen=True)
class TalkResult:
    """A finished video."""

    path: Path
    frames: int
    seconds: float  # of video
    wall_seconds: float  # that making it took
    performance: Performance  # the curves shown
    session: Session | None  # what talk_session makes the same frames from; None for a camera it cannot describe

    @property
    def fps(self) -> float:
        """Frames made per second of wall time, everything included."""
        return self.frames / max(self.wall_seconds, 1e-9)


class _Cancelled(Exception):
    pass


def talk(
    identity: Identity,
    audio_path: str | Path | None,
    out: str | Path,
    size: int = 256,
    camera: CameraChoice = "front",
    expression_from: str | Path | None = None,
    edits: Mapping[str, float] | None = None,
    save_coefficients: str | Path | None = None,
    settings: ExpressionSettings | None = None,
    curves: Performance | None = None,
    progress: Callable[[float, float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TalkResult | None:
    """Write the video of `identity` saying the sound of `audio_path` to `out` (.mp4, with that sound).

    size: height in pixels, even. camera: "front", "spiral", (yaw, pitch) in degrees or (yaw, pitch, zoom), a Camera, or
    a batch with one per frame. expression_from: another recording that drives the upper face. edits: constants added to
    coefficients, see Performance.with_edits. save_coefficients: a .csv for the curves. settings: blinks and variant of
    the upper face. curves: shown, with the edits, instead of new ones made from the sound, which is then optional.
    progress(done, total, message). cancelled() is asked often; once it is true nothing is written and None is returned.
    Raises UserError for bad input. Memory does not grow with the length of the sound, but for its curves.
    """

    def report(done: float, total: float, message: str) -> None:
        if cancelled and cancelled():
            raise _Cancelled
        if progress:
            progress(done, total, message)

    steps = talk_frames(
        identity, audio_path, out, size, camera, expression_from, edits, save_coefficients, settings, curves,
        listening=report,
    )  # fmt: skip
    try:
        while True:
            report(*next(steps))
    except StopIteration as end:
        return end.value
    except _Cancelled:
        return None
    finally:
        steps.close()  # deletes an unfinished video


def talk_session(session: Session, identity: Identity, audio_path: str | Path | None, out: str | Path, **options):
    """`talk` with everything that `session` holds: the same frames again, if it holds curves.

    Without audio_path the video is silent. options: expression_from, save_coefficients, progress and cancelled of
    `talk`. Raises UserError if the identity or the sound is not the session's, or if sound is needed and missing.
    """
    session.check_identity(identity)
    if session.curves is not None:
        if audio_path is not None:
            if session.audio is None:
                raise UserError("The session does not say which sound its curves belong to: leave the sound out.")
            session.audio.check(audio_path)
    elif audio_path is None:
        raise UserError("The session holds no curves: give the sound that is to be spoken, too.")
    elif session.expression_audio is not None:
        if options.get("expression_from") is None:
            name = session.expression_audio.name
            raise UserError(f"The session takes its expression from the sound '{name}': give that, too.")
        session.expression_audio.check(options["expression_from"])
    result = talk(
        identity, audio_path, out, size=session.size, camera=session.camera.choice, edits=session.edits,
        settings=session.expression, curves=session.curves, **options,
    )  # fmt: skip
    if result is None:
        return None
    kept = {"camera": session.camera}
    if session.curves is not None:
        kept |= {"audio": session.audio, "expression_audio": session.expression_audio}
    return replace(result, session=replace(result.session, **kept))


def talk_frames(
    identity: Identity,
    audio_path: str | Path | None,
    out: str | Path,
    size: int = 256,
    camera: CameraChoice = "front",
    expression_from: str | Path | None = None,
    edits: Mapping[str, float] | None = None,
    save_coefficients: str | Path | None = None,
    settings: ExpressionSettings | None = None,
    curves: Performance | None = None,
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
    settings = settings or ExpressionSettings()

    def listened(fraction: float) -> None:
        if listening:
            listening(0.0, 1.0, f"Listening ({fraction:.0%})")

    if curves is None:
        if audio_path is None:
            raise UserError("There is no sound to be spoken.")
        yield 0, 0, "Reading the sound"
        samples = load_audio(audio_path)
        other = load_audio(expression_from) if expression_from else None
        curves = Performance.from_audio(identity, samples, other, settings=settings, progress=listened)
        del samples, other
    performance = curves.with_edits(edits, identity)
    frames = len(performance)
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
    session = None
    if (described := SessionCamera.of(camera)) is not None:
        session = Session(
            identity=identity.name,
            identity_sha256=identity.config.get("weights_sha256", ""),
            size=int(size),
            camera=described,
            edits=dict(edits or {}),
            expression=settings,
            audio=Sound.of(audio_path) if audio_path else None,
            expression_audio=Sound.of(expression_from) if expression_from else None,
            curves=curves,
        )
    wall = time.perf_counter() - started
    return TalkResult(Path(out), frames, performance.seconds, wall, performance, session)


def _cameras(camera: CameraChoice, frames: int, size: int) -> Camera:
    """A batch of one camera per frame."""
    if isinstance(camera, str):
        return camera_path(camera, frames, size)
    if not isinstance(camera, Camera):
        yaw, pitch, zoom = (*camera, 1.0)[:3]
        camera = orbit_camera(yaw, pitch, size, zoom)
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
