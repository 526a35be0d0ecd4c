"""Video of one person -> data set folder (format in dataset.py).

analyse  every video: faces, landmarks, scores, cuts                     (worker processes, cached)
split    into clips: one face, large enough, no cut inside
track    one identity shape and focal length, then camera and expression per frame
balance  one white balance for all clips                                 (worker processes)
crop     heads on white, masks, audio features                           (worker processes, finished clips are kept)
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.video.clips import PreprocessConfig, TrackedClip, UntrackedClip, Video, analyse_videos, split_into_clips
from dgtalker.video.crops import (
    CropSettings,
    choose_crop_side,
    choose_crop_size,
    clip_digest,
    crop_clips,
    eye_blink,
    has_current_clip,
)
from dgtalker.video.dataset import Dataset, DatasetInfo, read_info, write_info
from dgtalker.video.landmarks import FACE_LANDMARKER, SCORE_NAMES, SEGMENTER, find_model
from dgtalker.video.left_out import Report
from dgtalker.video.lip_sync import measure_sound_offset
from dgtalker.video.masks import HeadGeometry
from dgtalker.video.source import list_videos, probe_video
from dgtalker.video.tracking import IdentityFit, LandmarkModel, Track, Tracker
from dgtalker.video.white_balance import clip_skin_colors, white_balance_gains
from dgtalker.video.worker_pool import InputProblems, PreprocessStopped, Progress, ProgressCounter, WorkerPool

_CHECKED_VIDEOS = 20  # of a collection, whose sound is compared with the lips
log = logging.getLogger(__name__)

__all__ = ["PreprocessConfig", "PreprocessStopped", "preprocess"]


def preprocess(
    sources: str | Path | list[str | Path],
    out: str | Path,
    face_landmarker: str | Path | None = None,
    segmenter: str | Path | None = None,
    like: str | Path | None = None,
    config: PreprocessConfig | None = None,
    feature_weights: str | Path | None = None,
    progress: Progress = lambda done, total=None, message=None: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Dataset:
    """Make the data set folder `out` from videos (files and folders of clips) of one person.

    face_landmarker, segmenter: MediaPipe's model files (the segmenter is also looked for beside the landmarker).
    like: a data set whose identity shape, focal length, crop, colour and blink scale are used, for held-out clips.
    progress(done, total, message) counts frames; cancelled() is asked often.
    In a collection of videos, bad ones are left out with a warning (logging).
    Raises UserError if nothing usable is left, PreprocessStopped if cancelled.
    """
    config = config or PreprocessConfig()
    videos = list_videos(sources)
    out = Path(out)
    landmarker = find_model(FACE_LANDMARKER, face_landmarker)
    if segmenter is None and (landmarker.parent / SEGMENTER).is_file():
        segmenter = landmarker.parent / SEGMENTER
    segmenter = find_model(SEGMENTER, segmenter)
    reference = read_info(Path(like)) if like is not None else None
    if reference is not None:
        config = replace(config, size=reference.size, feature_kind=reference.feature_kind)
    if config.feature_kind.startswith("whisper") and feature_weights is None:
        from dgtalker.audio.whisper_weights import find_whisper

        feature_weights = find_whisper(None)  # here, because the workers have no network
    from dgtalker.head.template import HeadTemplate

    template = HeadTemplate.load()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {out} cannot be made ({error.strerror}); choose another one.") from error

    usable, problems = [], InputProblems()
    for video in videos:
        with problems:
            usable.append(Video(video, replace(probe_video(video), sound_delay=config.sound_delay)))
    problems.warn_or_raise(usable)
    counter = ProgressCounter(progress, sum(v.frames for v in usable))
    with WorkerPool(config.workers, cancelled) as pool:
        analyses = analyse_videos(usable, out / "cache", landmarker, pool, counter, problems)
        clips, left_out, people = split_into_clips(analyses, config, problems)
        problems.warn_or_raise(clips)
        offsets = _find_sound_offsets(clips, feature_weights, pool, problems)
        report = Report(sum(map(len, clips)) / FPS, tuple(left_out), offsets, people)
        report.save(out)

        inputs_digest = _inputs_digest(config, template, reference, clips)
        if _is_complete(out, clips, inputs_digest):
            counter.add(counter.total, "kept all clips")
            return Dataset.open(out)
        identity = _fit_identity(reference, template, clips)
        tracked = _track_clips(clips, template, identity, counter, cancelled)
        head = HeadGeometry.from_template(template, identity.shape)
        window = reference.window if reference else choose_crop_side(tracked, head, identity, segmenter, pool)
        names = list(template.expression_names)
        colors = clip_skin_colors(tracked, pool)
        skin = reference.skin if reference else _median_color(colors)
        balance = white_balance_gains(colors, skin).tolist()
        tracked = [replace(clip, gain=tuple(gain)) for clip, gain in zip(tracked, balance, strict=True)]
        blink = (reference.blink_open, reference.blink_closed) if reference else _blink_scale(tracked, names)
        info = DatasetInfo(
            feature_kind=config.feature_kind,
            shape=[round(float(v), 5) for v in identity.shape],
            size=config.size or choose_crop_size(tracked, identity.focal, window),
            focal=identity.focal,
            window=window,
            expression_names=names,
            landmark_offsets=[[round(float(v), 5) for v in row] for row in identity.offsets],
            blink_open=blink[0],
            blink_closed=blink[1],
            skin=skin,
        )
        settings = CropSettings(out, info, head, segmenter, feature_weights, inputs_digest)
        infos = crop_clips(tracked, settings, pool, counter, problems)
    problems.warn_or_raise(infos)
    write_info(out, replace(info, clips=infos))
    return Dataset.open(out)


def _find_sound_offsets(
    clips: list[UntrackedClip], weights: str | Path | None, pool: WorkerPool, problems: InputProblems
) -> dict[str, float]:
    """Seconds by which the sound comes too early, for each video (by name) in which it does not fit the lips."""
    if weights is None:
        from dgtalker.audio.whisper_weights import find_whisper

        try:
            weights = find_whisper(None)
        except UserError as error:
            log.warning("Whether the sound fits the lips was not checked: %s", error)
            return {}
    videos: dict[Path, list[UntrackedClip]] = {}
    for clip in clips:
        videos.setdefault(clip.video.path, []).append(clip)
    jobs = []
    for path in list(videos)[:: max(1, len(videos) // _CHECKED_VIDEOS)]:
        parts = videos[path]
        landmarks = np.full((max(c.start + len(c) for c in parts), *parts[0].landmarks.shape[1:]), np.nan, np.float32)
        for clip in parts:
            landmarks[clip.start : clip.start + len(clip)] = clip.landmarks
        runs = [(clip.start, clip.start + len(clip)) for clip in parts]
        jobs.append((path, parts[0].video.info.sound_delay, landmarks, runs, weights))
    offsets = {}
    for index, result in pool.run(measure_sound_offset, jobs):
        if not isinstance(result, float) or result == 0:
            continue
        name, delay = jobs[index][0].name, round(jobs[index][1] + result, 2)
        offsets[name] = delay
        early = "early" if result > 0 else "late"
        problems.add(
            UserError(
                f"The sound of {name} comes {abs(result):.2f} s too {early} for the lips; "
                f"run preprocess again with --sound-delay {delay:g}."
            )
        )
    return offsets


def _inputs_digest(
    config: PreprocessConfig, template, reference: DatasetInfo | None, clips: list[UntrackedClip]
) -> str:
    """Digest of what all clips of a data set depend on: settings, template, and the clips that gave the shape."""
    digest = hashlib.sha256(f"{config.size} {config.feature_kind}".encode())
    for tensor in (template.vertices, template.shape_basis, template.expression_basis, template.landmark_bary):
        digest.update(tensor.contiguous().numpy().tobytes())
    if reference is None:
        digest.update(" ".join(f"{c.video.fingerprint} {c.start} {len(c)}" for c in clips).encode())
    else:
        digest.update(json.dumps(asdict(replace(reference, clips=[]))).encode())
    return digest.hexdigest()


def _is_complete(out: Path, clips: list[UntrackedClip], inputs_digest: str) -> bool:
    """Whether `out` already is the data set of exactly these clips."""
    try:
        names = [c.name for c in read_info(out).clips]
    except UserError:
        return False
    return names == [c.name for c in clips] and all(
        has_current_clip(out, c, clip_digest(inputs_digest, c)) for c in clips
    )


def _fit_identity(reference: DatasetInfo | None, template, clips: list[UntrackedClip]) -> IdentityFit:
    if reference is not None:
        if len(reference.shape) != len(template.shape_basis) or not reference.landmark_offsets:
            raise UserError("The data set to follow was made with another head template; preprocess it again.")
        return IdentityFit(torch.tensor(reference.shape), torch.tensor(reference.landmark_offsets), reference.focal)
    landmarks = torch.from_numpy(np.concatenate([c.landmarks for c in clips]))
    scores = torch.from_numpy(np.concatenate([_template_order(c.scores, template) for c in clips]))
    sizes = torch.cat([torch.tensor([[c.video.info.width, c.video.info.height]]).expand(len(c), 2) for c in clips])
    return Tracker(LandmarkModel.from_template(template)).fit_identity(landmarks, scores, sizes.float())


def _template_order(scores: np.ndarray, template) -> np.ndarray:
    return scores[:, [SCORE_NAMES.index(name) for name in template.expression_names]]


def _track_clips(
    clips: list[UntrackedClip], template, identity: IdentityFit, counter: ProgressCounter, cancelled: Callable[[], bool]
) -> list[TrackedClip]:
    tracker = Tracker(LandmarkModel.from_template(template))
    tracked = []
    groups: dict[tuple[Path, int], list[UntrackedClip]] = {}
    for clip in clips:
        groups.setdefault((clip.video.path, clip.run), []).append(clip)
    for group in groups.values():
        if cancelled():
            raise PreprocessStopped("Preprocessing was stopped; run it again to continue.")
        info = group[0].video.info
        landmarks = np.concatenate([c.landmarks for c in group])
        scores = _template_order(np.concatenate([c.scores for c in group]), template)
        size = (info.width, info.height)
        track = tracker.track(torch.from_numpy(landmarks), torch.from_numpy(scores), size, identity)
        start = 0
        for clip in group:
            part = Track(*(getattr(track, f)[start : start + len(clip)] for f in Track.__dataclass_fields__))
            own_scores = scores[start : start + len(clip)]
            tracked.append(TrackedClip(clip.name, clip.video, clip.run, clip.start, clip.landmarks, own_scores, part))
            start += len(clip)
        counter.add(0, f"tracking: {group[0].name}")
    return tracked


def _median_color(colors: np.ndarray) -> list[float]:
    """Median over the clips, as dataset.json keeps it; empty if none could be measured."""
    known = colors[np.isfinite(colors).all(1)]
    return [round(float(value), 4) for value in np.median(known, axis=0)] if len(known) else []


def _blink_scale(clips: list[TrackedClip], names: list[str]) -> tuple[float, float]:
    """Scores that count as open and closed: the usual open eye, and the most closed moments."""
    values = np.concatenate([eye_blink(c.scores, names) for c in clips])
    opened = float(np.percentile(values, 30))
    return opened, max(float(np.percentile(values, 99.5)), opened + 0.3)
