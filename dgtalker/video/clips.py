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
from dgtalker.media.clock import FPS, SAMPLES_PER_FRAME
from dgtalker.video import faults
from dgtalker.video.landmarks import LANDMARKS, SCORE_NAMES, Face, FaceFollower, Landmarker
from dgtalker.video.left_out import LeftOut, count_left_out
from dgtalker.video.people import BONE_LANDMARKS, bone_distances, group_people, skin_and_hair_colors
from dgtalker.video.source import VideoInfo, find_cuts, read_frames, read_sound, thumbnail
from dgtalker.video.tracking import Track
from dgtalker.video.worker_pool import InputProblems, ProgressCounter, WorkerPool

ALGORITHM = 5  # raise it when the same video would give other numbers
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
    sound_delay: float = 0.0  # seconds by which the sound of all videos is moved back
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
        delay = f" {self.info.sound_delay}" if self.info.sound_delay else ""
        text = f"{ALGORITHM} {self.path.resolve()} {stat.st_size} {stat.st_mtime_ns}{delay}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Analysis:
    """What was found in one video. Frames without a face hold NaN."""

    video: Video
    landmarks: np.ndarray  # [T,478,2] pixels of the source
    scores: np.ndarray  # [T,52] in SCORE_NAMES order
    second: np.ndarray  # [T] size of the second largest face relative to the largest
    thumbnails: np.ndarray  # [T,18,32,3] uint8
    patches: np.ndarray  # [T,30,24,3] uint8, faults.face_patch; zero without a face
    portraits: np.ndarray  # [T,259] people.bone_distances and skin_and_hair_colors
    yaws: np.ndarray  # [T] degrees that the face is turned to a side
    loudness: np.ndarray  # [T] RMS of each frame's sound

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


_ANALYSIS_KEYS = ("landmarks", "scores", "second", "thumbnails", "patches", "portraits", "yaws", "loudness")


def _analyse_part(video: Video, start: int, stop: int | None, landmarker: Path, path: Path) -> None:
    """Write the arrays of Analysis for frames start..stop to `path` (in a worker)."""
    if path.is_file():
        return
    if not video.info.has_sound:
        raise UserError(f"{video.path.name} has no sound; a talking head needs the speech of the video.")
    sound = read_sound(video.path, video.info.sound_delay)
    rows: dict[str, list] = {key: [] for key in _ANALYSIS_KEYS}
    with Landmarker(landmarker) as model:
        finder = FaceFollower(model)
        for frame in islice(read_frames(video.path, video.info), start, stop):
            faces = finder.detect(frame)
            for key, value in _describe_frame(frame, faces).items():
                rows[key].append(value)
    count = len(rows["second"])
    heard = sound[start * SAMPLES_PER_FRAME : (start + count) * SAMPLES_PER_FRAME]
    heard = np.pad(heard, (0, count * SAMPLES_PER_FRAME - len(heard))).reshape(count, SAMPLES_PER_FRAME)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(
        temporary,
        landmarks=np.array(rows["landmarks"], np.float32).reshape(-1, LANDMARKS, 2),
        scores=np.array(rows["scores"], np.float32).reshape(-1, len(SCORE_NAMES)),
        second=np.array(rows["second"], np.float32),
        thumbnails=np.array(rows["thumbnails"], np.uint8).reshape(-1, 18, 32, 3),
        patches=np.array(rows["patches"], np.uint8).reshape(-1, *_NO_PATCH.shape),
        portraits=np.array(rows["portraits"], np.float32).reshape(-1, _PORTRAIT),
        yaws=np.array(rows["yaws"], np.float32),
        loudness=np.sqrt(np.square(heard).mean(1)).astype(np.float32),
    )
    temporary.replace(path)


_NO_PATCH = np.zeros((faults.PATCH_HEIGHT, faults.PATCH_WIDTH, 3), np.uint8)
_PORTRAIT = len(BONE_LANDMARKS) * (len(BONE_LANDMARKS) - 1) // 2 + 6


def _describe_frame(frame: np.ndarray, faces: list[Face]) -> dict[str, object]:
    """What Analysis keeps of a frame [H,W,3], its loudness apart; `faces` are those found in it."""
    known: dict[str, object] = {
        "second": faces[1].size / faces[0].size if len(faces) > 1 else 0.0,
        "thumbnails": (thumbnail(frame) * 255).round().astype(np.uint8),
    }
    if not faces:
        return known | {
            "landmarks": np.full((LANDMARKS, 2), np.nan, np.float32),
            "scores": np.full(len(SCORE_NAMES), np.nan, np.float32),
            "patches": _NO_PATCH,
            "portraits": np.full(_PORTRAIT, np.nan, np.float32),
            "yaws": np.nan,
        }
    face = faces[0]
    depth = face.depth if face.depth is not None else np.zeros(LANDMARKS, np.float32)
    across = face.landmarks[454, 0] - face.landmarks[234, 0], depth[454] - depth[234]  # from cheek to cheek
    colors = skin_and_hair_colors(frame, face.landmarks)
    return known | {
        "landmarks": face.landmarks,
        "scores": face.scores,
        "patches": faults.face_patch(frame, face.landmarks),
        "portraits": np.concatenate([bone_distances(face.landmarks, depth), colors]),
        "yaws": np.degrees(np.arctan2(across[1], across[0])),
    }


def split_into_clips(
    analyses: list[Analysis], config: PreprocessConfig, problems: InputProblems
) -> tuple[list[UntrackedClip], list[LeftOut], int]:
    """Clips of at most config.max_frames from the usable runs of the person seen longest; what is left out; people.

    What is left out is also said in one sentence a kind and video, added to `problems`.
    """
    found = [_find_runs(analysis, config, problems) for analysis in analyses]
    runs = [(index, run) for index, (video_runs, _) in enumerate(found) for run in video_runs]
    portraits = [np.nanmedian(analyses[index].portraits[slice(*run)], axis=0) for index, run in runs]
    people = group_people(portraits, [stop - start for _, (start, stop) in runs])
    clips, used, left_out = [], set(), []
    for index, analysis in enumerate(analyses):
        source = analysis.video.path
        kept = []
        reasons = found[index][1]
        for (owner, run), person in zip(runs, people, strict=True):
            if owner != index:
                continue
            if person == 0:
                kept.append(run)
                continue
            reasons[slice(*run)] = "person"
            problems.add(
                UserError(
                    f"{source.name} shows another person from {run[0] / FPS:.1f} to {run[1] / FPS:.1f} s; "
                    "only the one who is seen longest is kept."
                )
            )
        left_out += count_left_out(source.name, reasons.tolist())
        pieces = [(number, start, stop) for number, run in enumerate(kept) for start, stop in _divide_run(*run, config)]
        for piece, (number, start, stop) in enumerate(pieces):
            name = source.stem if len(pieces) == 1 else f"{source.stem}-{piece + 1:03d}"
            while name in used:
                name += "x"
            used.add(name)
            landmarks = _interpolate_gaps(analysis.landmarks[start:stop])
            scores = _interpolate_gaps(analysis.scores[start:stop])
            clips.append(UntrackedClip(name, analysis.video, number, start, landmarks, scores))
    return clips, left_out, max(people, default=0) + 1


def _find_runs(
    analysis: Analysis, config: PreprocessConfig, problems: InputProblems
) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Usable frame ranges of a video, and for each frame [T] why it is left out, "" if it is not."""
    name = analysis.video.path.name
    found, dissolves = find_faults(analysis)
    runs = find_usable_runs(
        analysis.landmarks, analysis.second, analysis.thumbnails, name, config, problems.add, found, dissolves
    )
    reasons = _frame_reasons(analysis.landmarks, analysis.second, config, found)
    reasons[reasons == ""] = "short"
    for start, stop in runs:
        reasons[start:stop] = ""
    return runs, reasons


def find_faults(analysis: Analysis) -> tuple[np.ndarray, list[int]]:
    """For each frame a key of left_out.KINDS or "" [T], and the frames at which dissolves are cut."""
    info = analysis.video.info
    reasons = np.full(len(analysis.landmarks), "", object)
    if analysis.loudness.max(initial=0.0) < faults.SILENT:
        reasons[:] = "silent"
        return reasons, []
    thumbnails, patches = analysis.thumbnails, analysis.patches
    centres = analysis.landmarks.mean(1)
    cuts = find_cuts(thumbnails.astype(np.float32) / 255, centres, analysis.sizes)
    reasons[faults.find_cut_faces(analysis.landmarks, info.width, info.height)] = "edge"
    seen = np.isfinite(analysis.yaws)
    if seen.any() and np.median(np.abs(analysis.yaws[seen])) > _PROFILE:
        reasons[np.abs(analysis.yaws) > _PROFILE] = "profile"
    sunglasses = faults.find_sunglasses(patches)
    if sunglasses.any() and sunglasses.sum() > 0.5 * seen.sum():
        reasons[sunglasses] = "sunglasses"
    reasons[faults.find_dark(patches)] = "dark"
    reasons[faults.find_frozen(thumbnails, analysis.landmarks, analysis.loudness)] = "frozen"
    dissolves = faults.find_dissolves(thumbnails)
    for start, stop in dissolves:
        reasons[start:stop] = "dissolve"
    for start, stop in zip([0, *cuts], [*cuts, len(reasons)], strict=True):
        reasons[start:stop][faults.find_covered_mouths(patches[start:stop])] = "covered"
        reasons[start:stop][faults.find_fades(thumbnails[start:stop], patches[start:stop])] = "fade"
    reasons[faults.find_black(thumbnails)] = "black"
    return reasons, [(start + stop) // 2 for start, stop in dissolves]


_PROFILE = 55.0  # degrees; a film that shows the face no less turned is a profile


def _frame_reasons(
    landmarks: np.ndarray, second: np.ndarray, config: PreprocessConfig, found: np.ndarray | None
) -> np.ndarray:
    """Why each frame [T] cannot be used, "" if it can; `found` are the reasons of find_faults."""
    sizes = np.ptp(landmarks, axis=1).max(-1)
    reasons = np.full(len(landmarks), "", object)
    reasons[np.nan_to_num(sizes) < config.min_face] = "small"
    reasons[second > 0.4] = "two"
    reasons[np.isnan(sizes)] = "none"
    return reasons if found is None else np.where(found != "", found, reasons)


def find_usable_runs(
    landmarks: np.ndarray,
    second: np.ndarray,
    thumbnails: np.ndarray,
    name: str,
    config: PreprocessConfig = PreprocessConfig(),
    report: Callable[[UserError], None] = lambda error: None,
    found: np.ndarray | None = None,
    more_cuts: Iterable[int] = (),
) -> list[tuple[int, int]]:
    """Frame ranges (start, stop) without cuts, each showing one face that is large enough.

    landmarks [T,478,2] (NaN: no face); second [T] relative size of a second face; thumbnails uint8 [T,18,32,3].
    report is called with a one-sentence UserError, once for each reason that something is left out.
    found, more_cuts: what find_faults gives.
    """
    sizes = np.ptp(landmarks, axis=1).max(-1)
    cuts = find_cuts(thumbnails.astype(np.float32) / 255, landmarks.mean(1), sizes)
    cuts = sorted({*cuts, *more_cuts})
    reasons = _frame_reasons(landmarks, second, config, found)
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
            if b - a <= config.max_gap and a > 0 and b < len(shot) and np.isin(shot[a:b], ("none", "two")).all():
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


_SENTENCES = {  # {where} is the video and the time
    "edge": "The edge of the picture cuts the face in {where}; use video that shows the whole head.",
    "profile": "{where} shows the face from the side only; use video of a person who looks at the camera.",
    "dark": "The face in {where} is too dark; use video with light on the face.",
    "sunglasses": "The eyes in {where} are behind dark glasses; use video without sunglasses.",
    "covered": "The mouth in {where} is covered; use video in which nothing is before the face.",
    "black": "The picture is black in {where}; that part is left out.",
    "fade": "The picture fades in {where}; that part is left out.",
    "dissolve": "One picture dissolves into another in {where}; that part is left out.",
    "frozen": "The picture stands still while the sound goes on in {where}; that part is left out.",
    "silent": "The sound track is silent in {where}; a talking head needs the speech of the video.",
}


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
    if worst in _SENTENCES:
        return _SENTENCES[worst].format(where=where), worst
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
