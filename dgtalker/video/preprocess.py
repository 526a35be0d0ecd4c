"""Video of one person -> data set folder (format in dataset.py).

analyse  every video: faces, landmarks, scores, cuts                     (worker processes, cached)
split    into clips: one face, large enough, no cut inside
track    one identity shape and focal length, then camera and expression per frame
balance  one white balance for all clips                                 (worker processes)
draw     head crops on white, masks, audio features                      (worker processes, finished clips are kept)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from dgtalker.errors import UserError
from dgtalker.video.clips import ClipWork, PreprocessConfig, Video, analyse_all, split_all
from dgtalker.video.crops import Drawing, draw_all, eye_blink, is_drawn, key_of, window_side
from dgtalker.video.dataset import Dataset, DatasetInfo, read_info, write_info
from dgtalker.video.landmarks import FACE_LANDMARKER, SCORE_NAMES, SEGMENTER, find_model
from dgtalker.video.masks import HeadGeometry
from dgtalker.video.source import list_videos, probe_video
from dgtalker.video.tracking import Identity, LandmarkModel, Track, Tracker
from dgtalker.video.white_balance import clip_colors, gains
from dgtalker.video.workers import Counter, Pool, PreprocessStopped, Problems, Progress

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

    usable, problems = [], Problems()
    for video in videos:
        with problems:
            usable.append(Video(video, probe_video(video)))
    problems.give_up_unless(usable)
    counter = Counter(progress, sum(v.frames for v in usable))
    with Pool(config.workers, cancelled) as pool:
        analyses = analyse_all(usable, out / "cache", landmarker, pool, counter, problems)
        clips = split_all(analyses, config, problems)
        problems.give_up_unless(clips)

        basis = _basis(config, template, reference, clips)
        if _finished(out, clips, basis):
            counter.add(counter.total, "kept all clips")
            return Dataset.open(out)
        identity = _identity(reference, template, clips)
        clips = _track_all(clips, template, identity, counter, cancelled)
        head = HeadGeometry.from_template(template, identity.shape)
        window = reference.window if reference else window_side(clips, head, identity, segmenter, pool)
        names = list(template.expression_names)
        colors = clip_colors(clips, pool)
        skin = reference.skin if reference else _usual_color(colors)
        balance = gains(colors, skin).tolist()
        clips = [replace(clip, gain=tuple(gain)) for clip, gain in zip(clips, balance, strict=True)]
        blink = (reference.blink_open, reference.blink_closed) if reference else _blink_scale(clips, names)
        info = DatasetInfo(
            feature_kind=config.feature_kind,
            shape=[round(float(v), 5) for v in identity.shape],
            size=config.size,
            focal=identity.focal,
            window=window,
            expression_names=names,
            landmark_offsets=[[round(float(v), 5) for v in row] for row in identity.offsets],
            blink_open=blink[0],
            blink_closed=blink[1],
            skin=skin,
        )
        drawing = Drawing(out, info, head, segmenter, feature_weights, basis)
        infos = draw_all(clips, drawing, pool, counter, problems)
    problems.give_up_unless(infos)
    write_info(out, replace(info, clips=infos))
    return Dataset.open(out)


def _basis(config: PreprocessConfig, template, reference: DatasetInfo | None, clips: list[ClipWork]) -> str:
    """Digest of what all clips of a data set depend on: settings, template, and the clips that gave the shape."""
    digest = hashlib.sha256(f"{config.size} {config.feature_kind}".encode())
    for tensor in (template.vertices, template.shape_basis, template.expression_basis, template.landmark_bary):
        digest.update(tensor.contiguous().numpy().tobytes())
    if reference is None:
        digest.update(" ".join(f"{c.video.fingerprint} {c.start} {len(c)}" for c in clips).encode())
    else:
        digest.update(json.dumps(asdict(replace(reference, clips=[]))).encode())
    return digest.hexdigest()


def _finished(out: Path, clips: list[ClipWork], basis: str) -> bool:
    """Whether `out` already is the data set of exactly these clips."""
    try:
        names = [c.name for c in read_info(out).clips]
    except UserError:
        return False
    return names == [c.name for c in clips] and all(is_drawn(out, c, key_of(basis, c)) for c in clips)


def _identity(reference: DatasetInfo | None, template, clips: list[ClipWork]) -> Identity:
    if reference is not None:
        if len(reference.shape) != len(template.shape_basis) or not reference.landmark_offsets:
            raise UserError("The data set to follow was made with another head template; preprocess it again.")
        return Identity(torch.tensor(reference.shape), torch.tensor(reference.landmark_offsets), reference.focal)
    landmarks = torch.from_numpy(np.concatenate([c.landmarks for c in clips]))
    scores = torch.from_numpy(np.concatenate([_template_order(c.scores, template) for c in clips]))
    sizes = torch.cat([torch.tensor([[c.video.info.width, c.video.info.height]]).expand(len(c), 2) for c in clips])
    return Tracker(LandmarkModel.from_template(template)).fit_identity(landmarks, scores, sizes.float())


def _template_order(scores: np.ndarray, template) -> np.ndarray:
    return scores[:, [SCORE_NAMES.index(name) for name in template.expression_names]]


def _track_all(
    clips: list[ClipWork], template, identity: Identity, counter: Counter, cancelled: Callable[[], bool]
) -> list[ClipWork]:
    tracker = Tracker(LandmarkModel.from_template(template))
    tracked = []
    groups: dict[tuple[Path, int], list[ClipWork]] = {}
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
            tracked.append(replace(clip, scores=scores[start : start + len(clip)], track=part))
            start += len(clip)
        counter.add(0, f"tracking: {group[0].name}")
    return tracked


def _usual_color(colors: np.ndarray) -> list[float]:
    """Median over the clips, as dataset.json keeps it; empty if none could be measured."""
    known = colors[np.isfinite(colors).all(1)]
    return [round(float(value), 4) for value in np.median(known, axis=0)] if len(known) else []


def _blink_scale(clips: list[ClipWork], names: list[str]) -> tuple[float, float]:
    """Scores that count as open and closed: the usual open eye, and the most closed moments."""
    values = np.concatenate([eye_blink(c.scores, names) for c in clips])
    opened = float(np.percentile(values, 30))
    return opened, max(float(np.percentile(values, 99.5)), opened + 0.3)
