"""Sound in, talking-head video out: audio -> features -> coefficients -> splats -> frames -> mp4, frame by frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dgtalker.camera import Camera, camera_path, orbit_camera
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.media.clock import FPS, MAX_SECONDS, SAMPLE_RATE
from dgtalker.media.ffmpeg import Cancelled
from dgtalker.media.video_writer import VideoWriter
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.performance.recording import Recording, SoundSource, check_rate, float_samples
from dgtalker.performance.session import Session, SessionCamera, Sound, check_size
from dgtalker.performance.streaming import CoefficientStream
from dgtalker.render import render_frame
from dgtalker.resumable import Progress

CameraChoice = str | Camera | tuple[float, ...]
_TURN, _LEAD = 100, 50  # frames of a camera path's period, and before it repeats


@dataclass(frozen=True)
class TalkOptions:
    """What a talking video shows, beside its head and its sound."""

    size: int = 256  # height in pixels, even
    camera: CameraChoice = "front"  # or "spiral", (yaw, pitch) in degrees, (yaw, pitch, zoom), a Camera, one per frame
    edits: Mapping[str, float] = field(default_factory=dict)  # constants added to curves, see Performance.edit
    expression: ExpressionSettings = ExpressionSettings()  # blinks and variant of the upper face
    expression_from: SoundSource | None = None  # another recording that drives the upper face
    curves: Performance | None = None  # shown, with the edits, instead of new ones; the sound is then optional


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


def listen(
    identity: Identity,
    sound: SoundSource,
    expression: ExpressionSettings | None = None,
    expression_from: SoundSource | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Performance:
    """The curves of `identity` saying `sound`; expression_from is another recording that drives the upper face.

    progress(done, 1.0, message) may raise to stop. Raises UserError for a sound that cannot be read, is too short or
    too long, and ffmpeg.Cancelled once cancelled() is true while it is read.
    """

    def report(fraction: float) -> None:
        if progress:
            progress(fraction, 1.0, f"Listening ({fraction:.0%})")

    recording = Recording.of(sound)
    samples = recording.load(cancelled)
    other = None if expression_from is None else Recording.of(expression_from).load(cancelled)
    performance = Performance.from_audio(identity, samples, other, settings=expression, progress=report)
    return replace(performance, sound=recording)


def render_frames(
    identity: Identity, performance: Performance, camera: CameraChoice, size: int
) -> Iterator[np.ndarray]:
    """The pictures of a performance, uint8 [size, W, 3], one at a time. Raises UserError for curves of another head."""
    cameras = _cameras(camera, len(performance), check_size(size))
    check_curves(performance, identity)
    return _draw(identity, performance, cameras)


def _draw(identity: Identity, performance: Performance, cameras: Camera) -> Iterator[np.ndarray]:
    curves = performance.a_exp, performance.a_lip, performance.with_edits(None, identity).shown_controls
    for i, (a_exp, a_lip, controls) in enumerate(zip(*curves, strict=True)):
        yield render_frame(identity.splats(a_exp, a_lip, controls), cameras[i])


def live_frames(
    identity: Identity,
    chunks: Iterable[np.ndarray],
    camera: CameraChoice = "front",
    size: int = 256,
    rate: int = SAMPLE_RATE,
    gain: float = 1.0,
    expression: ExpressionSettings | None = None,
) -> Iterator[np.ndarray]:
    """Pictures uint8 [size, W, 3] of sound that is still being spoken, as soon as later sound cannot change them.

    chunks: samples [S] or [S, channels] at `rate` Hz, any S; gain is a factor on them, see performance.streaming.
    Pictures come look_ahead_seconds(identity) late. Drawn blinks do not know of pauses; a face at rest is not enforced
    where nobody speaks. Raises UserError for bad input, for chunks that are no samples when they come. Closing the
    iterator closes `chunks`.
    """
    rate, stream = check_rate(rate), CoefficientStream(identity, gain)
    cameras = _cameras(camera, _LEAD + _TURN, check_size(size))
    blink = (expression or ExpressionSettings()).blink_signal(int(FPS * MAX_SECONDS))
    return _draw_live(identity, chunks, cameras, rate, stream, identity.blink_coefficients(blink))


def _draw_live(
    identity: Identity,
    chunks: Iterable[np.ndarray],
    cameras: Camera,
    rate: int,
    stream: CoefficientStream,
    blink_part: np.ndarray,
) -> Iterator[np.ndarray]:
    from soxr import ResampleStream

    resampler = None if rate == SAMPLE_RATE else ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    shown = 0

    def pieces() -> Iterator[np.ndarray]:
        for chunk in chunks:
            samples = float_samples(chunk)
            mono = samples if samples.ndim == 1 else samples.mean(axis=1)
            yield mono if resampler is None else resampler.resample_chunk(np.ascontiguousarray(mono))
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def coefficients() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for piece in pieces():
            yield stream.push(piece)
        yield stream.finish()

    try:
        for block in coefficients():
            for a_exp, a_lip in zip(*block, strict=True):
                view = shown if shown < _LEAD else _LEAD + (shown - _LEAD) % _TURN
                yield render_frame(identity.splats(a_exp + blink_part[shown % len(blink_part)], a_lip), cameras[view])
                shown += 1
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


def talk(
    identity: Identity,
    sound: SoundSource | None,
    out: str | Path,
    options: TalkOptions | None = None,
    *,
    save_coefficients: str | Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TalkResult | None:
    """Write the video of `identity` saying `sound` to `out` (.mp4, with that sound).

    save_coefficients: a .csv for the curves. progress(done, total, message). cancelled() is asked often; once it is
    true nothing is written and None is returned.
    Raises UserError for bad input. Memory does not grow with the length of the sound, but for its curves.
    """

    def report(done: float, total: float | None, message: str | None) -> None:
        if cancelled and cancelled():
            raise Cancelled
        if progress:
            progress(done, total, message)

    steps = talk_frames(
        identity, sound, out, options, save_coefficients=save_coefficients, listening=report, cancelled=cancelled
    )
    try:
        while True:
            report(*next(steps))
    except StopIteration as end:
        return end.value
    except Cancelled:
        return None
    finally:
        steps.close()  # deletes an unfinished video


def talk_session(
    session: Session,
    identity: Identity,
    sound: str | Path | None,
    out: str | Path,
    *,
    expression_from: str | Path | None = None,
    save_coefficients: str | Path | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> TalkResult | None:
    """`talk` with everything that `session` holds: the same frames again, if it holds curves.

    Without a sound the video is silent. Raises UserError if the identity or a sound is not the session's, or if one is
    needed and missing.
    """
    session.check_identity(identity)
    if session.curves is not None:
        if sound is not None:
            if session.audio is None:
                raise UserError("The session does not say which sound its curves belong to: leave the sound out.")
            session.audio.check(sound)
    elif sound is None:
        raise UserError("The session holds no curves: give the sound that is to be spoken, too.")
    elif session.expression_audio is not None:
        if expression_from is None:
            name = session.expression_audio.name
            raise UserError(f"The session takes its expression from the sound '{name}': give that, too.")
        session.expression_audio.check(expression_from)
    options = TalkOptions(
        session.size, session.camera.choice, session.edits, session.expression, expression_from, session.curves
    )
    result = talk(
        identity, sound, out, options,
        save_coefficients=save_coefficients, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    if result is None or result.session is None:
        return result
    again = replace(result.session, camera=session.camera)
    if session.curves is not None:
        again = replace(again, audio=session.audio, expression_audio=session.expression_audio)
    return replace(result, session=again)


def talk_frames(
    identity: Identity,
    sound: SoundSource | None,
    out: str | Path,
    options: TalkOptions | None = None,
    *,
    save_coefficients: str | Path | None = None,
    listening: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[tuple[int, int, str], None, TalkResult]:
    """`talk` as a generator: yields (done, total, message) after every frame and returns the TalkResult.

    Closing it early stops the encoder and deletes the unfinished file. listening(done, total, message) is called
    during the audio analysis, which precedes the first frame, and may raise to stop it; ffmpeg.Cancelled is raised once
    cancelled() is true while the sound is read.
    """
    started = time.perf_counter()
    options = options or TalkOptions()
    size = check_size(options.size)
    identity.check_settings(options.edits)
    recording, other = (None if s is None else Recording.of(s) for s in (sound, options.expression_from))
    with ExitStack() as files:
        path, other_path = (None if r is None else files.enter_context(r.as_file()) for r in (recording, other))
        curves = options.curves
        if curves is None:
            if path is None:
                raise UserError("There is no sound to be spoken.")
            yield 0, 0, "Reading the sound"
            curves = listen(identity, path, options.expression, other_path, listening, cancelled)
        check_curves(curves, identity)
        performance = curves.with_edits(options.edits, identity)
        frames = len(performance)
        cameras = _cameras(options.camera, frames, size)
        with VideoWriter(
            out, cameras.width, cameras.height, performance.fps, audio=path, audio_seconds=performance.seconds + 1
        ) as writer:
            yield 0, frames, "Rendering"
            for i, picture in enumerate(_draw(identity, performance, cameras)):
                writer.write(picture)  # the encoder is another process: it works while the next frame is drawn
                yield i + 1, frames, "Rendering"
            if save_coefficients:
                performance.save(save_coefficients)
        session = None
        if (described := SessionCamera.of(options.camera)) is not None:
            session = Session(
                identity=identity.name,
                identity_sha256=identity.config.get("weights_sha256", ""),
                size=size,
                camera=described,
                edits=dict(options.edits),
                expression=options.expression,
                audio=None if path is None else Sound.of(path),
                expression_audio=None if other_path is None else Sound.of(other_path),
                curves=curves,
            )
    wall = time.perf_counter() - started
    return TalkResult(Path(out), frames, performance.seconds, wall, performance, session)


def check_curves(curves: Performance, identity: Identity) -> None:
    """Raises UserError unless these are curves of `identity`."""
    if curves.identity not in ("", identity.name):
        raise UserError(f"These curves are those of '{curves.identity}', not of '{identity.name}': listen again.")
    if [*curves.exp_names, *curves.lip_names] != [*identity.exp_names, *identity.lip_names]:
        raise UserError(f"The curves are not those of '{identity.name}' here.")


def _cameras(camera: CameraChoice, frames: int, size: int) -> Camera:
    """A batch of one camera per frame."""
    if isinstance(camera, str):
        return camera_path(camera, frames, size, period=_TURN)
    if not isinstance(camera, Camera):
        if not isinstance(camera, tuple | list) or len(camera) not in (2, 3):
            raise UserError(f"A camera is front, spiral, (yaw, pitch), (yaw, pitch, zoom) or a Camera, not {camera}.")
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
