"""Tracked clips to clips of the data set: head crops on white, masks, sound and features."""

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
from dgtalker.video.clips import ALGORITHM, SIZES, TrackedClip, UntrackedClip
from dgtalker.video.dataset import ClipInfo, DatasetInfo, read_clip_key, write_clip
from dgtalker.video.masks import (
    HeadGeometry,
    face_masks,
    hanging_hair_mask,
    head_region,
    neck_fade,
    neck_skin_mask,
    project,
)
from dgtalker.video.matting import matte_frames
from dgtalker.video.segmentation import CropWindow, Segmenter, coarse_matte
from dgtalker.video.source import VideoInfo, read_frames, read_sound
from dgtalker.video.tracking import IdentityFit, Track
from dgtalker.video.worker_pool import InputProblems, ProgressCounter, WorkerPool

PORTRAIT = 3.2  # dm, view height of camera.orbit_camera


@dataclass(frozen=True)
class CropSettings:
    """What all clips of a data set are cropped with."""

    out: Path
    info: DatasetInfo
    head: HeadGeometry
    segmenter: Path
    feature_weights: str | Path | None
    inputs_digest: str  # of all that the clips depend on together


def _source_intrinsics(video: VideoInfo, focal: float) -> np.ndarray:
    """Pinhole matrix of the source pictures [3,3]; the principal point is the middle."""
    f = focal * video.height
    return np.array([[f, 0, video.width / 2], [0, f, video.height / 2], [0, 0, 1]])


def _crop_window(clip: TrackedClip, focal: float, side: float, size: int) -> CropWindow:
    """The square crop of a clip: `side` dm wide at the head, centred on the middle of the head's path."""
    translation = clip.track.translation.double().numpy()
    pixels = project(translation, np.eye(4), _source_intrinsics(clip.video.info, focal))
    centre = 0.5 * (pixels[:, :2].min(0) + pixels[:, :2].max(0))
    width = side * focal * clip.video.info.height / float(np.median(pixels[:, 2]))
    return CropWindow(*(np.round(centre - width / 2, 3).tolist()), round(width, 3), size)


def _crop_intrinsics(window: CropWindow, intrinsics: np.ndarray) -> np.ndarray:
    moved = intrinsics.copy()
    moved[:2, 2] -= [window.left, window.top]
    moved[:2] *= window.scale
    return moved


def choose_crop_side(
    clips: list[TrackedClip], head: HeadGeometry, identity: IdentityFit, segmenter: Path, pool: WorkerPool
) -> float:
    """Side of the crop in dm: that of the portrait camera, or more if the hair or the head's motion needs it."""
    paths = []  # dm, longer side of each head's path
    for clip in clips:
        intrinsics = _source_intrinsics(clip.video.info, identity.focal)
        pixels = project(clip.track.translation.double().numpy(), np.eye(4), intrinsics)
        paths.append(np.ptp(pixels[:, :2], axis=0).max() * np.median(pixels[:, 2]) / intrinsics[0, 0])
    side = PORTRAIT + max(0.0, float(np.percentile(paths, 95)) - 0.3)
    jobs = [(clip, head, identity.focal, segmenter) for clip in clips[:: max(1, len(clips) // 8)]]
    extents = [result for _, result in pool.run(_head_extent, jobs) if isinstance(result, float)]
    if extents:
        side = max(side, 2 * max(extents) + 0.2)
    return round(min(side, 1.5 * PORTRAIT), 3)


def choose_crop_size(clips: list[TrackedClip], focal: float, side: float) -> int:
    """The largest of SIZES that half of the clips can fill: their crops, `side` dm wide, have as many source pixels."""
    filled = float(np.median([_crop_window(clip, focal, side, SIZES[0]).side for clip in clips]))
    return max((size for size in SIZES if size <= filled), default=SIZES[0])


def _head_extent(clip: TrackedClip, head: HeadGeometry, focal: float, segmenter: Path) -> float:
    """How far, in dm, the head with its hair extends up or sideways in a clip's first frame (in a worker)."""
    wide = _crop_window(clip, focal, 1.6 * PORTRAIT, 256)
    frame = next(islice(read_frames(clip.video.path, clip.video.info), clip.start, None))
    intrinsics = _crop_intrinsics(wide, _source_intrinsics(clip.video.info, focal))
    pose = clip.track.world_to_camera()[0].double().numpy()
    region = head_region(head, wide.points(clip.landmarks[0]), pose, intrinsics, wide.size)
    with Segmenter(segmenter) as person:
        rows, columns = np.nonzero(coarse_matte(person, frame, wide) * region > 0.3)
    if len(rows) == 0:
        return 0.0
    x, y = project(np.zeros((1, 3)), pose, intrinsics)[0, :2]
    return float(max(columns.max() - x, x - columns.min(), y - rows.min()) * 1.6 * PORTRAIT / wide.size)


def crop_clips(
    clips: list[TrackedClip],
    settings: CropSettings,
    pool: WorkerPool,
    counter: ProgressCounter,
    problems: InputProblems,
) -> list[ClipInfo]:
    """Write the clips to the data set folder, by the workers; those that are there already are kept.

    Clips that fail are added to `problems` and left out of the result.
    """
    infos: dict[str, ClipInfo] = {}
    todo: dict[Path, list[tuple[TrackedClip, CropWindow, str]]] = {}
    for clip in clips:
        window = _crop_window(clip, settings.info.focal, settings.info.window, settings.info.size)
        key = clip_digest(settings.inputs_digest, clip)
        intrinsics = _source_intrinsics(clip.video.info, settings.info.focal)
        error = float(clip.track.error.mean()) * window.scale
        source = clip.video.path.name if clip.start == 0 else f"{clip.video.path.name} at {clip.start / FPS:.2f} s"
        jitter = camera_jitter(clip.track, settings.head, intrinsics) * window.scale
        gain = [round(value, 4) for value in clip.gain]
        infos[clip.name] = ClipInfo(clip.name, len(clip), source, round(error, 4), round(jitter, 4), gain)
        if has_current_clip(settings.out, clip, key):
            counter.add(3 * len(clip), f"kept: {clip.name}")
        else:
            todo.setdefault(clip.video.path, []).append((clip, window, key))
    jobs = []
    for work in todo.values():
        # Every part decodes the video from its start; small parts show progress and keep all workers busy.
        parts = max(min(pool.workers, len(work)), -(-len(work) // 4))
        jobs += [(settings, work[len(work) * k // parts : len(work) * (k + 1) // parts]) for k in range(parts)]
    for index, result in pool.run(_crop_clips_of_video, jobs):
        names = [clip.name for clip, _, _ in jobs[index][1]]
        counter.add(3 * sum(len(clip) for clip, _, _ in jobs[index][1]), f"cutting out heads: {names[-1]}")
        if isinstance(result, UserError):
            problems.add(result)
            for name in names:
                del infos[name]
    return list(infos.values())


def clip_digest(inputs_digest: str, clip: UntrackedClip) -> str:
    """Digest of a clip's inputs. Not of results: those differ in the last digits from run to run."""
    text = f"{ALGORITHM} {inputs_digest} {clip.video.fingerprint} {clip.start} {len(clip)}"
    return hashlib.sha256(text.encode()).hexdigest()


def has_current_clip(out: Path, clip: UntrackedClip, key: str) -> bool:
    """Whether `out` holds the clip, made from the inputs of this `key`."""
    return read_clip_key(out, clip.name) == key and (out / "audio" / f"{clip.name}.wav").is_file()


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


def _crop_clips_of_video(settings: CropSettings, work: list[tuple[TrackedClip, CropWindow, str]]) -> None:
    """Crop and write the clips of one video (in a worker)."""
    video = work[0][0].video
    sound = read_sound(video.path, video.info.sound_delay)
    frames = enumerate(read_frames(video.path, video.info))
    with Segmenter(settings.segmenter) as person:
        for clip, window, key in work:
            pictures = (frame for number, frame in frames if clip.start <= number)
            _crop_clip(settings, clip, window, key, islice(pictures, len(clip)), sound, person)


def _crop_clip(
    settings: CropSettings,
    clip: TrackedClip,
    window: CropWindow,
    key: str,
    pictures: Iterable[np.ndarray],
    sound: np.ndarray,
    person: Segmenter,
) -> None:
    from dgtalker.audio.features import extract_features

    info, count, size = settings.info, len(clip), settings.info.size
    intrinsics = _crop_intrinsics(window, _source_intrinsics(clip.video.info, info.focal))
    poses = clip.track.world_to_camera()
    images = np.empty((count, size, size, 3), np.uint8)
    alpha, unsure, upper, lower = np.empty((4, count, size, size), np.uint8)
    landmarks = window.points(clip.landmarks)
    done = 0
    for done, matte in enumerate(matte_frames(person, pictures, window, landmarks), start=1):
        t = done - 1
        pose = poses[t].double().numpy()
        region = head_region(settings.head, landmarks[t], pose, intrinsics, size)
        per_dm = intrinsics[1, 1] / pose[2, 3]
        fade = neck_fade(settings.head, pose, intrinsics, size)
        hair = hanging_hair_mask(matte.color, matte.alpha, region, fade, landmarks[t], per_dm)
        part = np.maximum(region * neck_skin_mask(matte.color, region, landmarks[t], per_dm), hair)
        head = matte.alpha * part
        alpha[t], unsure[t] = _to_byte(head), _to_byte(matte.unsure * np.maximum(region, hair))
        balanced = (matte.color * clip.gain).clip(0, 1)
        images[t] = _to_byte(head[..., None] * balanced + 1 - head[..., None])
        upper[t], lower[t] = map(_to_byte, face_masks(settings.head, pose, intrinsics, size))
    if done != count:
        raise UserError(f"{clip.video.path.name} could not be read to its end; the file is damaged.")

    samples = sound[clip.start * SAMPLES_PER_FRAME : (clip.start + count) * SAMPLES_PER_FRAME]
    samples = np.pad(samples, (0, count * SAMPLES_PER_FRAME - len(samples)))  # never shorten the pictures to the sound
    features = extract_features(samples, info.feature_kind, weights=settings.feature_weights)
    _write_sound(settings.out / "audio" / f"{clip.name}.wav", samples)
    blink = eye_blink(clip.scores, info.expression_names)
    blink = ((blink - info.blink_open) / (info.blink_closed - info.blink_open)).clip(0, 1)
    write_clip(
        settings.out,
        clip.name,
        {
            "images": torch.from_numpy(images),
            "alpha": torch.from_numpy(alpha),
            "unsure": torch.from_numpy(unsure),
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
    """Mean eyeBlink score [T] of both eyes in 0..1; scores [T,52] in the order of `names`."""
    return scores[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(1)
