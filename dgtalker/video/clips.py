"""Which parts of the source videos become clips: faces in every frame, cuts, and runs with one large face."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.video.landmarks import LANDMARKS, SCORE_NAMES, FaceFollower, Landmarker
from dgtalker.video.source import VideoInfo, find_cuts, read_frames, thumbnail
from dgtalker.video.tracking import Track
from dgtalker.video.worker_pool import InputProblems, ProgressCounter, WorkerPool

ALGORITHM = 4  # raise it when the same video would give other numbers
SIZES = (256, 384, 512)  # pixels, sides of head crops


@dataclass(frozen=True)
class PreprocessConfig:
    """How videos become a data set."""

    size: int | None = None  # side of the head crops, pixels; None: the largest of SIZES that the videos can fill
    feature_kind: str = "whisper-tiny.en"  # audio features: whisper-tiny.en or log-mel
    min_face: int = 64  # smallest usable face in the source, pixels
    min_frames: int = 25  # shorter shots are left out
    max_frames: int = 250  # longer shots are divided
    max_gap: int = 5  # frames without a face that are interpolated
    workers: int = 2  # processes that decode, find landmarks and cut out heads


@dataclass(frozen=True)
class Video:
    """A source video and what its header says."""

    path: Path
    info: VideoInfo

    @property
    def frames(self) -> int:
        """Number of frames at 25 a second, by the header."""
        return max(1, round(self.info.seconds * FPS))

    @property
    def fingerprint(self) -> str:
        """Digest of the file's place, size and time stamp, and of the version of the algorithm."""
        stat = self.path.stat()
        text = f"{ALGORITHM} {self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Analysis:
    """What was found in one video. Frames without a face hold NaN."""

    video: Video
    landmarks: np.ndarray  # [T,478,2] pixels of the source
    scores: np.ndarray  # [T,52] in SCORE_NAMES order
    second: np.ndarray  # [T] size of the second largest face relative to the largest
    thumbnails: np.ndarray  # [T,18,32,3] uint8

    @property
    def sizes(self) -> np.ndarray:
        """Larger side of the face [T], pixels."""
        return np.ptp(self.landmarks, axis=1).max(-1)


@dataclass(frozen=True)
class UntrackedClip:
    """A run of frames of a video that becomes one clip of the data set."""

    name: str
    video: Video
    run: int  # clips of the same run are pieces of one shot and tracked together
    start: int  # first frame in the video
    landmarks: np.ndarray  # [T,478,2] pixels of the source
    scores: np.ndarray  # [T,52] in SCORE_NAMES order; of a tracked clip in the template's

    def __len__(self) -> int:
        return len(self.landmarks)


@dataclass(frozen=True)
class TrackedClip(UntrackedClip):
    """A clip with the head's motion and expression."""

    track: Track
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)  # white balance, factors of red, green and blue


def analyse_videos(
    videos: list[Video],
    cache: Path,
    landmarker: Path,
    pool: WorkerPool,
    counter: ProgressCounter,
    problems: InputProblems,
) -> list[Analysis]:
    """Faces and thumbnails of every video, by the workers; `cache` is the folder that keeps them for a later run.

    What cannot be read is added to `problems` and left out.
    """
    cache.mkdir(parents=True, exist_ok=True)
    jobs, owners = [], []
    for number, video in enumerate(videos):
        # A long video is shared among the workers; the last part runs to the end, wherever that is.
        parts = max(pool.workers, video.frames // 1500) if video.frames > 1000 else 1
        bounds = [video.frames * k // parts for k in range(parts)] + [None]
        for start, stop in zip(bounds, bounds[1:], strict=False):
            path = cache / f"{video.fingerprint}-{start}-{stop}.npz"
            jobs.append((video, start, stop, landmarker, path))
            owners.append(number)
    parts_of: dict[int, dict[int, dict]] = {}
    for index, result in pool.run(_analyse_part, jobs):
        video, start = jobs[index][0], jobs[index][1]
        counter.add(video.frames / owners.count(owners[index]), f"finding faces: {video.path.name}")
        if isinstance(result, UserError):
            problems.add(result)
            continue
        with np.load(jobs[index][4]) as arrays:
            parts_of.setdefault(owners[index], {})[start] = dict(arrays)
    analyses = []
    for number, parts in sorted(parts_of.items()):
        if len(parts) == owners.count(number):
            joined = [np.concatenate([parts[s][key] for s in sorted(parts)]) for key in _ANALYSIS_KEYS]
            if len(joined[0]) == 0:
                problems.add(UserError(f"{videos[number].path.name} has no readable picture; the file is damaged."))
            else:
                analyses.append(Analysis(videos[number], *joined))
    return analyses


_ANALYSIS_KEYS = ("landmarks", "scores", "second", "thumbnails")


def _analyse_part(video: Video, start: int, stop: int | None, landmarker: Path, path: Path) -> None:
    """Write landmarks, scores, second-face sizes and thumbnails of frames start..stop to `path` (in a worker)."""
    if path.is_file():
        return
    if not video.info.has_sound:
        raise UserError(f"{video.path.name} has no sound; a talking head needs the speech of the video.")
    landmarks, scores, second, thumbnails = [], [], [], []
    with Landmarker(landmarker) as model:
        finder = FaceFollower(model)
        for frame in islice(read_frames(video.path, video.info), start, stop):
            faces = finder.detect(frame)
            landmarks.append(faces[0].landmarks if faces else np.full((LANDMARKS, 2), np.nan, np.float32))
            scores.append(faces[0].scores if faces else np.full(len(SCORE_NAMES), np.nan, np.float32))
            second.append(faces[1].size / faces[0].size if len(faces) > 1 else 0.0)
            thumbnails.append((thumbnail(frame) * 255).round().astype(np.uint8))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(
        temporary,
        landmarks=np.array(landmarks, np.float32).reshape(-1, LANDMARKS, 2),
        scores=np.array(scores, np.float32).reshape(-1, len(SCORE_NAMES)),
        second=np.array(second, np.float32),
        thumbnails=np.array(thumbnails, np.uint8).reshape(-1, 18, 32, 3),
    )
    temporary.replace(path)


def split_into_clips(
    analyses: list[Analysis], config: PreprocessConfig, problems: InputProblems
) -> list[UntrackedClip]:
    """Clips of at most config.max_frames from the usable runs; what is left out is added to `problems`."""
    clips, used = [], set()
    for analysis in analyses:
        source = analysis.video.path
        runs = find_usable_runs(
            analysis.landmarks, analysis.second, analysis.thumbnails, source.name, config, problems.add
        )
        pieces = [(number, start, stop) for number, run in enumerate(runs) for start, stop in _divide_run(*run, config)]
        for index, (number, start, stop) in enumerate(pieces):
            name = source.stem if len(pieces) == 1 else f"{source.stem}-{index + 1:03d}"
            while name in used:
                name += "x"
            used.add(name)
            landmarks = _interpolate_gaps(analysis.landmarks[start:stop])
            scores = _interpolate_gaps(analysis.scores[start:stop])
            clips.append(UntrackedClip(name, analysis.video, number, start, landmarks, scores))
    return clips


def find_usable_runs(
    landmarks: np.ndarray,
    second: np.ndarray,
    thumbnails: np.ndarray,
    name: str,
    config: PreprocessConfig = PreprocessConfig(),
    report: Callable[[UserError], None] = lambda error: None,
) -> list[tuple[int, int]]:
    """Frame ranges (start, stop) without cuts, each showing one face that is large enough.

    landmarks [T,478,2] (NaN: no face); second [T] relative size of a second face; thumbnails uint8 [T,18,32,3].
    report is called with a one-sentence UserError, once for each reason that something is left out.
    """
    sizes = np.ptp(landmarks, axis=1).max(-1)
    cuts = find_cuts(thumbnails.astype(np.float32) / 255, landmarks.mean(1), sizes)
    reasons = np.full(len(landmarks), "", object)
    reasons[np.nan_to_num(sizes) < config.min_face] = "small"
    reasons[second > 0.4] = "two"
    reasons[np.isnan(sizes)] = "none"
    runs, reported = [], set()

    def report_once(text: str, kind: str) -> None:  # once per kind and video
        if kind not in reported:
            reported.add(kind)
            report(UserError(text))

    for start, stop in zip([0, *cuts], [*cuts, len(landmarks)], strict=True):
        shot = reasons[start:stop].copy()
        if (shot == "two").mean() > 0.2:
            shot[:] = "two"  # the second face is not always found
        for a, b in _true_ranges(shot != ""):
            if b - a <= config.max_gap and a > 0 and b < len(shot) and not (shot[a:b] == "small").any():
                shot[a:b] = ""  # short enough to interpolate
        for a, b in _true_ranges(shot != ""):
            if b - a > config.max_gap or not (shot == "").any():
                report_once(*_describe_fault(shot[a:b], name, start + a, sizes[start + a : start + b], config))
        good = [(start + a, start + b) for a, b in _true_ranges(shot == "")]
        runs += [(a, b) for a, b in good if b - a >= config.min_frames]
        for a, b in good:
            if b - a < config.min_frames:
                report_once(
                    f"{name} shows one face for only {(b - a) / FPS:.1f} s at {a / FPS:.1f} s; "
                    f"at least {config.min_frames / FPS:.1f} s without a cut are needed.",
                    "short",
                )
    return runs


def _describe_fault(
    reasons: np.ndarray, name: str, start: int, sizes: np.ndarray, config: PreprocessConfig
) -> tuple[str, str]:
    """One sentence and the kind of complaint."""
    kinds, counts = np.unique(reasons.astype(str), return_counts=True)
    worst, where = kinds[counts.argmax()], f"{name} at {start / FPS:.1f} s"
    if worst == "two":
        return f"There are two faces in {where}; use video of one person alone.", worst
    if worst == "small":
        found, needed = f"{np.nanmedian(sizes):.0f} pixels", f"at least {config.min_face}"
        return f"The face in {where} is too small ({found}); it must be {needed}.", worst
    return f"No face was found in {where}; use video in which one large face is always visible.", worst


def _true_ranges(flags: np.ndarray) -> list[tuple[int, int]]:
    """Ranges (start, stop) in which flags [T] is true."""
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _divide_run(start: int, stop: int, config: PreprocessConfig) -> Iterable[tuple[int, int]]:
    count = -(-(stop - start) // config.max_frames)
    bounds = [start + (stop - start) * k // count for k in range(count + 1)]
    return zip(bounds, bounds[1:], strict=False)


def _interpolate_gaps(values: np.ndarray) -> np.ndarray:
    """Interpolate over frames of NaN along the first axis; the nearest value at the ends."""
    flat = values.reshape(len(values), -1)
    bad = np.isnan(flat).any(1)
    if not bad.any():
        return values
    time, known = np.arange(len(values)), np.flatnonzero(~bad)
    filled = np.stack([np.interp(time, known, column[known]) for column in flat.T], 1)
    return filled.reshape(values.shape).astype(values.dtype)
