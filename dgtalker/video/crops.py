"""Second half of preprocessing: head crops on white, masks, sound and features of tracked clips."""

from __future__ import annotations

import hashlib
import os
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from dgtalker.video import matting
from dgtalker.video.clips import ALGORITHM, ClipWork
from dgtalker.video.dataset import ClipInfo, DatasetInfo, clip_key, write_clip
from dgtalker.video.masks import HeadGeometry, bare_neck, face_masks, head_region, project
from dgtalker.video.source import VideoInfo, read_frames, read_sound
from dgtalker.video.tracking import Identity, Track
from dgtalker.video.workers import Counter, Pool, Problems

PORTRAIT = 3.2  # dm, view height of camera.orbit_camera


@dataclass(frozen=True)
class Drawing:
    """What all clips of a data set are drawn with."""

    out: Path
    info: DatasetInfo
    head: HeadGeometry
    segmenter: Path
    feature_weights: str | Path | None
    basis: str  # digest of all that the clips depend on together


def _source_intrinsics(video: VideoInfo, focal: float) -> np.ndarray:
    """Pinhole matrix of the source pictures [3,3]; the principal point is the middle."""
    f = focal * video.height
    return np.array([[f, 0, video.width / 2], [0, f, video.height / 2], [0, 0, 1]])


def _clip_window(clip: ClipWork, focal: float, side: float, size: int) -> matting.Window:
    """The square crop of a clip: `side` dm wide at the head, around the middle of the head's way, on whole pixels."""
    translation = clip.track.translation.double().numpy()
    pixels = project(translation, np.eye(4), _source_intrinsics(clip.video.info, focal))
    centre = 0.5 * (pixels[:, :2].min(0) + pixels[:, :2].max(0))
    width = side * focal * clip.video.info.height / float(np.median(pixels[:, 2]))
    return matting.Window(*(np.round(centre - width / 2, 3).tolist()), round(width, 3), size)


def _crop_intrinsics(window: matting.Window, intrinsics: np.ndarray) -> np.ndarray:
    moved = intrinsics.copy()
    moved[:2, 2] -= [window.left, window.top]
    moved[:2] *= window.scale
    return moved


def window_side(clips: list[ClipWork], head: HeadGeometry, identity: Identity, segmenter: Path, pool: Pool) -> float:
    """Side of the crop in dm: that of the portrait camera, or more if the hair or the head's motion needs it."""
    ways = []
    for clip in clips:
        intrinsics = _source_intrinsics(clip.video.info, identity.focal)
        pixels = project(clip.track.translation.double().numpy(), np.eye(4), intrinsics)
        ways.append(np.ptp(pixels[:, :2], axis=0).max() * np.median(pixels[:, 2]) / intrinsics[0, 0])
    side = PORTRAIT + max(0.0, float(np.percentile(ways, 95)) - 0.3)
    jobs = [(clip, head, identity.focal, segmenter) for clip in clips[:: max(1, len(clips) // 8)]]
    reach = [result for _, result in pool.run(_reach, jobs) if isinstance(result, float)]
    if reach:
        side = max(side, 2 * max(reach) + 0.2)
    return round(min(side, 1.5 * PORTRAIT), 3)


def _reach(clip: ClipWork, head: HeadGeometry, focal: float, segmenter: Path) -> float:
    """How far, in dm, the head with its hair reaches up or sideways in a clip's first frame (worker)."""
    wide = _clip_window(clip, focal, 1.6 * PORTRAIT, 256)
    frame = next(islice(read_frames(clip.video.path, clip.video.info), clip.start, None))
    intrinsics = _crop_intrinsics(wide, _source_intrinsics(clip.video.info, focal))
    pose = clip.track.world_to_camera()[0].double().numpy()
    region = head_region(head, wide.points(clip.landmarks[0]), pose, intrinsics, wide.size)
    with matting.Segmenter(segmenter) as person:
        rows, columns = np.nonzero(matting.rough_matte(person, frame, wide) * region > 0.3)
    if len(rows) == 0:
        return 0.0
    x, y = project(np.zeros((1, 3)), pose, intrinsics)[0, :2]
    return float(max(columns.max() - x, x - columns.min(), y - rows.min()) * 1.6 * PORTRAIT / wide.size)


def draw_all(
    clips: list[ClipWork], drawing: Drawing, pool: Pool, counter: Counter, problems: Problems
) -> list[ClipInfo]:
    infos: dict[str, ClipInfo] = {}
    todo: dict[Path, list[tuple[ClipWork, matting.Window, str]]] = {}
    for clip in clips:
        window = _clip_window(clip, drawing.info.focal, drawing.info.window, drawing.info.size)
        key = key_of(drawing.basis, clip)
        intrinsics = _source_intrinsics(clip.video.info, drawing.info.focal)
        error = float(clip.track.error.mean()) * window.scale
        source = clip.video.path.name if clip.start == 0 else f"{clip.video.path.name} at {clip.start / FPS:.2f} s"
        jitter = camera_jitter(clip.track, drawing.head, intrinsics) * window.scale
        gain = [round(value, 4) for value in clip.gain]
        infos[clip.name] = ClipInfo(clip.name, len(clip), source, round(error, 4), round(jitter, 4), gain)
        if is_drawn(drawing.out, clip, key):
            counter.add(3 * len(clip), f"kept: {clip.name}")
        else:
            todo.setdefault(clip.video.path, []).append((clip, window, key))
    jobs = []
    for work in todo.values():
        # Every part decodes the video from its start; small parts show progress and keep all workers busy.
        parts = max(min(pool.workers, len(work)), -(-len(work) // 4))
        jobs += [(drawing, work[len(work) * k // parts : len(work) * (k + 1) // parts]) for k in range(parts)]
    for index, result in pool.run(_draw, jobs):
        names = [clip.name for clip, _, _ in jobs[index][1]]
        counter.add(3 * sum(len(clip) for clip, _, _ in jobs[index][1]), f"cutting out heads: {names[-1]}")
        if isinstance(result, UserError):
            problems.add(result)
            for name in names:
                del infos[name]
    return list(infos.values())


def key_of(basis: str, clip: ClipWork) -> str:
    """Digest of what a clip is made from. Inputs, not results: those differ in the last digits from run to run."""
    text = f"{ALGORITHM} {basis} {clip.video.fingerprint} {clip.start} {len(clip)}"
    return hashlib.sha256(text.encode()).hexdigest()


def is_drawn(out: Path, clip: ClipWork, key: str) -> bool:
    """Whether `out` holds the clip, made from the same inputs."""
    return clip_key(out, clip.name) == key and (out / "audio" / f"{clip.name}.wav").is_file()


def camera_jitter(track: Track, head: HeadGeometry, intrinsics: np.ndarray) -> float:
    """Frame-to-frame noise of rigid points (brow to nose base) of the neutral head: RMS in pixels of `intrinsics`.

    Noise is what the mean of a frame's neighbours does not explain, scaled so that white noise of deviation s gives s.
    """
    points = head.landmarks[[6, 168, 195, 5, 4, 2, 33, 263, 133, 362, 10]]
    poses = track.world_to_camera().double().numpy()
    pixels = np.stack([project(points, pose, intrinsics)[:, :2] for pose in poses])
    if len(pixels) < 3:
        return 0.0
    residual = pixels[1:-1] - 0.5 * (pixels[2:] + pixels[:-2])
    return float(np.sqrt(2 / 3 * np.square(residual).sum(-1).mean()))


def _draw(drawing: Drawing, work: list[tuple[ClipWork, matting.Window, str]]) -> None:
    """Draw and write the clips of one video (worker)."""
    video = work[0][0].video
    sound = read_sound(video.path)
    frames = enumerate(read_frames(video.path, video.info))
    with matting.Segmenter(drawing.segmenter) as person:
        for clip, window, key in work:
            pictures = (frame for number, frame in frames if clip.start <= number)
            _draw_clip(drawing, clip, window, key, islice(pictures, len(clip)), sound, person)


def _draw_clip(
    drawing: Drawing,
    clip: ClipWork,
    window: matting.Window,
    key: str,
    pictures: Iterable[np.ndarray],
    sound: np.ndarray,
    person: matting.Segmenter,
) -> None:
    from dgtalker.audio.features import extract_features

    info, count, size = drawing.info, len(clip), drawing.info.size
    intrinsics = _crop_intrinsics(window, _source_intrinsics(clip.video.info, info.focal))
    poses = clip.track.world_to_camera()
    byte = lambda *shape: np.empty((count, size, size, *shape), np.uint8)  # noqa: E731
    images, alpha, upper, lower = byte(3), byte(), byte(), byte()
    landmarks = window.points(clip.landmarks)
    drawn = 0
    for drawn, (matte, colour) in enumerate(matting.cut_out(person, pictures, window), start=1):
        t = drawn - 1
        pose = poses[t].double().numpy()
        region = head_region(drawing.head, landmarks[t], pose, intrinsics, size)
        matte = matte * region * bare_neck(colour, region, landmarks[t], intrinsics[1, 1] / pose[2, 3])
        alpha[t] = _to_byte(matte)
        balanced = (colour * clip.gain).clip(0, 1)
        images[t] = _to_byte(matte[..., None] * balanced + 1 - matte[..., None])
        upper[t], lower[t] = map(_to_byte, face_masks(drawing.head, pose, intrinsics, size))
    if drawn != count:
        raise UserError(f"{clip.video.path.name} could not be read to its end; the file is damaged.")

    samples = sound[clip.start * SAMPLES_PER_FRAME : (clip.start + count) * SAMPLES_PER_FRAME]
    samples = np.pad(samples, (0, count * SAMPLES_PER_FRAME - len(samples)))  # never shorten the pictures to the sound
    features = extract_features(samples, info.feature_kind, weights=drawing.feature_weights)
    _write_sound(drawing.out / "audio" / f"{clip.name}.wav", samples)
    blink = eye_blink(clip.scores, info.expression_names)
    blink = ((blink - info.blink_open) / (info.blink_closed - info.blink_open)).clip(0, 1)
    write_clip(
        drawing.out,
        clip.name,
        {
            "images": torch.from_numpy(images),
            "alpha": torch.from_numpy(alpha),
            "mask_upper": torch.from_numpy(upper),
            "mask_lower": torch.from_numpy(lower),
            "world_to_camera": poses,
            "intrinsics": torch.from_numpy(intrinsics).float().repeat(count, 1, 1),
            "landmarks": torch.from_numpy(landmarks),
            "expression": clip.track.expression,
            "scores": torch.from_numpy(clip.scores),
            "blink": torch.from_numpy(blink.astype(np.float32)),
            "features": torch.from_numpy(features).half(),
        },
        key,
    )


def _to_byte(values: np.ndarray) -> np.ndarray:
    return (values * 255 + 0.5).clip(0, 255).astype(np.uint8)


def _write_sound(path: Path, samples: np.ndarray) -> None:
    """16-bit mono wav at 16 kHz, written atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.wav")
    with wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    temporary.replace(path)


def eye_blink(scores: np.ndarray, names: list[str]) -> np.ndarray:
    return scores[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(1)
