"""An identity driven by other people's voices, which it was not trained on.

    recordings -> what `talk` would show -> pictures -> landmarks -> aperture and width -> metrics

Films (GRID clips of other talkers) have true lips to compare with. Recordings with an English transcript have phones:
GRID's is in the file name, others are found by phones.find_transcripts. All others, in any language, count only for
retrieval and for the correlation with the sound's envelope.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dgtalker import metrics
from dgtalker.audio.phone_alignment import (
    Phone,
    find_transcripts,
    grid_transcript,
    phones_or_reason,
    require_pocketsphinx,
)
from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.clock import FPS, SAMPLE_RATE
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import MouthCurves, PhoneHits
from dgtalker.metrics.retrieval import CANDIDATES, LipClip, LipPredictor, retrieval_rate
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.report.contact_sheets.phones import phone_strip, write_phone_sheet
from dgtalker.report.figures import ReportFigures
from dgtalker.video.source import VIDEO_SUFFIXES, probe_video, read_frames

if TYPE_CHECKING:
    from dgtalker.evaluation.context import ReadLandmarks
    from dgtalker.identity import Identity

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
PIECE = 74  # frames of a piece of speech in retrieval: the shortest GRID clip
SILENCE_SECONDS = 2.0
NOISE = 1e-3  # -60 dB: a quiet room

REPORT_KEY, STRIPS = "unseen_audio", 6  # of the block; recordings whose lips are shown on the page
HEADLINES = ("aperture_r", "closure_hit_rate", "rounding_hit_rate", "retrieval_at_10", "lag_frames")  # of the block


@dataclass(frozen=True)
class OtherVoicesConfig:
    """Which recordings to use, and how."""

    recordings: int = 10  # at most so many of a folder, spread over it
    seconds: float = 6.0  # of each
    size: int = 256  # pixels of the pictures
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None
    phones: Path | None = None  # folder in which phone timings are kept between runs
    sheets: Path | None = None  # folder for contact sheets of the lips at every phone
    seed: int = 0  # of the wrong sounds in retrieval


@dataclass(frozen=True)
class Recording:
    """Somebody's speech."""

    path: Path
    voice: str  # name of its folder
    text: str | None  # English transcript

    @property
    def is_filmed(self) -> bool:
        """Whether it has a picture."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class DrivenRecording:
    """A recording, the lips that the identity made of it, and the true ones if it is a film."""

    recording: Recording
    samples: np.ndarray  # mono, 16 kHz, as long as `made`
    made: MouthCurves
    true: MouthCurves | None
    phones: list[Phone]
    jitter: float  # of the rendered head, see articulation.rigid_jitter
    problem: str | None = None  # why there are no phones


def measure_other_voices(
    identity: Identity,
    voices: Iterable[str | Path],
    config: OtherVoicesConfig | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    read_landmarks: ReadLandmarks | None = None,
    extra_lips: Sequence[LipClip] = (),
    report_figures: ReportFigures | None = None,
) -> dict:
    """The block `unseen_audio` of the evaluation's report.

    Args:
        identity: what is measured.
        voices: folders of recordings, or folders of such folders.
        config: which recordings to use.
        progress: called with (done, total, message); may raise to stop.
        read_landmarks: None: MediaPipe.
        extra_lips: true lips for retrieval's predictor to learn from, beside those of the films among `voices`.
        report_figures: gets the lips at the phones of some recordings.

    Raises:
        UserError: there are no recordings, or pocketsphinx, MediaPipe or its model is missing.
    """
    config = config or OtherVoicesConfig()
    recordings = find_recordings(voices, config.recordings)
    if any(recording.text for recording in recordings):
        require_pocketsphinx()
    if read_landmarks is None:
        from dgtalker.evaluation.landmark_reader import LandmarkReader

        with LandmarkReader(config.face_landmarker) as reader:
            return measure_other_voices(identity, voices, config, progress, reader, extra_lips, report_figures)
    started = time.perf_counter()
    report_progress = progress or (lambda done, total, message: None)
    driven = []
    for done, recording in enumerate(recordings):
        report_progress(done, len(recordings) + 1, f"voice {recording.voice}")
        driven.append(drive_recording(identity, recording, config, read_landmarks, report_figures))
    report_progress(len(recordings), len(recordings) + 1, "silence")
    silence = _silence(identity, config.size, read_landmarks, driven[0].made)
    block = summarise_voices(driven, extra_lips, config.seed)
    block["silence"] = silence
    block["seconds"] = time.perf_counter() - started
    report_progress(len(recordings) + 1, len(recordings) + 1, "done")
    return block


# -- recordings -------------------------------------------------------------------------------------------------------


def find_recordings(voices: Iterable[str | Path], limit: int) -> list[Recording]:
    """At most `limit` recordings of every folder, spread over it. Raises UserError if a folder is missing or empty."""
    found = []
    for given in map(Path, voices):
        if not given.is_dir():
            raise UserError(f"There is no folder of voices {given}.")
        folders = [given, *sorted(path for path in given.iterdir() if path.is_dir())]
        here = [recording for folder in folders for recording in _recordings(folder, limit)]
        if not here:
            raise UserError(f"The folder {given} holds no recordings ({', '.join(SOUND_SUFFIXES + VIDEO_SUFFIXES)}).")
        found += here
    if not found:
        raise UserError("No voices were given; name a folder of recordings.")
    return found


def _recordings(folder: Path, limit: int) -> list[Recording]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUND_SUFFIXES + VIDEO_SUFFIXES)
    texts = find_transcripts(folder)
    picks = np.unique(np.linspace(0, len(paths) - 1, min(limit, len(paths))).round().astype(int)) if paths else []
    return [Recording(paths[i], folder.name, _find_transcript(paths[i], texts)) for i in picks]


def _find_transcript(path: Path, texts: dict[str, str]) -> str | None:
    if path.stem in texts:
        return texts[path.stem]
    if path.suffix.lower() in VIDEO_SUFFIXES and (words := grid_transcript(path.stem)):
        return words
    return next((text for name, text in texts.items() if name.endswith(path.stem)), None)  # "libri-ID" and "ID.flac"


# -- driving ----------------------------------------------------------------------------------------------------------


def drive_recording(
    identity: Identity,
    recording: Recording,
    config: OtherVoicesConfig,
    read_landmarks: ReadLandmarks,
    report_figures: ReportFigures | None = None,
) -> DrivenRecording:
    """Drive the identity with a recording and read its lips, and the true ones of a film."""
    samples = load_audio(recording.path)
    frames = min(len(samples) * FPS // SAMPLE_RATE, round(config.seconds * FPS))
    film, true = None, None
    if recording.is_filmed:
        real = list(islice(read_frames(recording.path, probe_video(recording.path)), frames))
        frames, points_true = len(real), read_landmarks(real)
        film, true = (real, points_true) if real else None, articulation.mouth_from_landmarks(points_true)
    performance = Performance.from_audio(identity, samples, settings=ExpressionSettings(blinks=()))
    made = _render_frontal(identity, performance.a_exp[:frames], performance.a_lip[:frames], config.size)
    points = read_landmarks(made)
    phones, problem = phones_or_reason(recording.path, recording.text, frames / FPS, config.phones)
    if config.sheets and phones:
        name = config.sheets / f"{recording.voice}-{recording.path.stem}.png"
        write_phone_sheet(name, phones, (made, points), film)
    if report_figures and phones and len(report_figures.strips.get(REPORT_KEY, ())) < STRIPS:
        title = f"{recording.voice}: {recording.path.stem}, where each sound begins and in its middle"
        report_figures.add(REPORT_KEY, phone_strip(title, phones, (made, points), film))
    return DrivenRecording(
        recording,
        samples[: frames * SAMPLE_RATE // FPS],
        articulation.mouth_from_landmarks(points),
        true,
        phones,
        articulation.rigid_jitter(points),
        problem,
    )


def _render_frontal(identity: Identity, a_exp: np.ndarray, a_lip: np.ndarray, size: int) -> list[np.ndarray]:
    """Render uint8 pictures [T] from the front."""
    from dgtalker.camera import orbit_camera
    from dgtalker.render import render_frame

    camera = orbit_camera(size=size)
    return [render_frame(identity.frame(e, a), camera) for e, a in zip(a_exp, a_lip, strict=True)]


def _silence(identity: Identity, size: int, read_landmarks: ReadLandmarks, speaking: MouthCurves) -> dict:
    """Motion of the mouth in silence over that in speech, and its median aperture in silence."""
    noise = np.random.default_rng(0).normal(size=round(SILENCE_SECONDS * SAMPLE_RATE)).astype(np.float32)
    figures = {}
    for name, level in (("digital", 0.0), ("room", NOISE)):
        performance = Performance.from_audio(identity, level * noise, settings=ExpressionSettings(blinks=()))
        mouth = articulation.mouth_from_landmarks(
            read_landmarks(_render_frontal(identity, performance.a_exp, performance.a_lip, size))
        )
        figures[name] = {
            "motion_ratio": articulation.motion_ratio(mouth, speaking),
            "aperture": float(np.nanmedian(mouth.aperture)) if np.isfinite(mouth.aperture).any() else float("nan"),
        }
    return figures


# -- metrics ----------------------------------------------------------------------------------------------------------


def summarise_voices(driven: Sequence[DrivenRecording], extra_lips: Sequence[LipClip] = (), seed: int = 0) -> dict:
    """All metrics, over all recordings and for every voice (folder) alone."""
    predictor = LipPredictor([*extra_lips, *(_lip_clip(s, s.true) for s in driven if s.true is not None)])
    made = [piece for s in driven for piece in _split_into_pieces(_lip_clip(s, s.made))]
    true = [piece for s in driven if s.true is not None for piece in _split_into_pieces(_lip_clip(s, s.true))]
    (found, right), (found_true, _) = (
        retrieval_rate(predictor, made, seed=seed),
        retrieval_rate(predictor, true, seed=seed),
    )
    right_of = {}
    for piece, hit in zip(made, right, strict=False):
        right_of.setdefault(piece.voice, []).append(hit)
    block = _metrics(driven)
    block["retrieval_at_10"] = found
    block["n"]["retrieval"] = len(right)
    block["judge"] = predictor.method
    block["baselines"]["true_lips"]["retrieval_at_10"] = found_true
    block["baselines"]["chance"] = {"retrieval_at_10": 1 / CANDIDATES}
    block["voices"] = {}
    for voice in dict.fromkeys(s.recording.voice for s in driven):
        of_voice = _metrics([s for s in driven if s.recording.voice == voice])
        of_voice["retrieval_at_10"] = metrics.finite_mean(right_of.get(voice, []))
        of_voice["n"]["retrieval"] = len(right_of.get(voice, []))
        block["voices"][voice] = of_voice
    block["recordings"] = [_recording_row(s) for s in driven]
    return block


def _metrics(driven: Sequence[DrivenRecording]) -> dict:
    filmed = [(s, s.true) for s in driven if s.true is not None]
    closed, rounded = _add_hits(_phone_hits(s.made, s.phones) for s in driven)
    closed_true, rounded_true = _add_hits(_phone_hits(true, s.phones) for s, true in filmed)
    shuffled_r, (closed_wrong, rounded_wrong) = _measure_shuffled(driven)
    loud = [articulation.loudness_envelope(s.samples, len(s.made)) for s in driven]
    gaps = [gap for s in driven for gap in articulation.closure_gaps(s.made, s.phones)]
    gaps_true = [gap for s, true in filmed for gap in articulation.closure_gaps(true, s.phones)]
    lag = metrics.best_lag([true.aperture for _, true in filmed], [s.made.aperture for s, _ in filmed])
    return {
        "aperture_r": metrics.finite_mean([metrics.pearson(true.aperture, s.made.aperture) for s, true in filmed]),
        "width_r": metrics.finite_mean([metrics.pearson(true.width, s.made.width) for s, true in filmed]),
        "lag_frames": lag if filmed else float("nan"),
        "closure_hit_rate": closed.rate,
        "rounding_hit_rate": rounded.rate,
        "closed_gap": float(np.median(gaps)) if gaps else float("nan"),  # eye distances
        "envelope_r": metrics.finite_mean(
            [metrics.pearson(e, s.made.aperture) for e, s in zip(loud, driven, strict=True)]
        ),
        "envelope_lag_frames": metrics.best_lag(loud, [s.made.aperture for s in driven]),
        "jitter": metrics.finite_mean([s.jitter for s in driven]),  # thousandths of the eye distance
        "n": {
            "recordings": len(driven),
            "frames": sum(len(s.made) for s in driven),
            "faces_found": int(sum(np.isfinite(s.made.aperture).sum() for s in driven)),
            "filmed": len(filmed),
            "aligned": sum(bool(s.phones) for s in driven),
            "closures": closed.count,
            "roundings": rounded.count,
        },
        "baselines": {
            "random_times": {"closure_hit_rate": closed.random, "rounding_hit_rate": rounded.random},
            "shuffled": {
                "aperture_r": shuffled_r,
                "closure_hit_rate": closed_wrong.rate,
                "rounding_hit_rate": rounded_wrong.rate,
            },
            "true_lips": {
                "closure_hit_rate": closed_true.rate,
                "rounding_hit_rate": rounded_true.rate,
                "closed_gap": float(np.median(gaps_true)) if gaps_true else float("nan"),
                "envelope_r": metrics.finite_mean(
                    [
                        metrics.pearson(e, s.true.aperture)
                        for e, s in zip(loud, driven, strict=True)
                        if s.true is not None
                    ]
                ),
            },
        },
    }


def _measure_shuffled(driven: Sequence[DrivenRecording]) -> tuple[float, tuple[PhoneHits, PhoneHits]]:
    """The same with the lips made of every other recording of the voice: what like sentences have in common."""
    r, hits = [], []
    for own in driven:
        for other in driven:
            if other is own or other.recording.voice != own.recording.voice:
                continue
            frames = min(len(own.made), len(other.made))
            wrong = other.made.cut(0, frames)
            if own.true is not None:
                r.append(metrics.pearson(own.true.aperture[:frames], wrong.aperture))
            hits.append(_phone_hits(wrong, [p for p in own.phones if p.end <= frames / FPS]))
    return metrics.finite_mean(r), _add_hits(hits)


def _phone_hits(mouth: MouthCurves, phones: Sequence[Phone]) -> tuple[PhoneHits, PhoneHits]:
    return articulation.count_closures(mouth, phones), articulation.count_roundings(mouth, phones)


def _add_hits(pairs: Iterable[tuple[PhoneHits, PhoneHits]]) -> tuple[PhoneHits, PhoneHits]:
    closed, rounded = PhoneHits(), PhoneHits()
    for a, b in pairs:
        closed, rounded = closed + a, rounded + b
    return closed, rounded


def _lip_clip(driven: DrivenRecording, mouth: MouthCurves) -> LipClip:
    return LipClip(str(driven.recording.path), driven.samples, mouth, driven.recording.voice)


def _split_into_pieces(clip: LipClip) -> list[LipClip]:
    """Split a clip into pieces of PIECE frames; the rest is left out."""
    size = PIECE * SAMPLE_RATE // FPS
    return [
        LipClip(
            clip.name,
            clip.samples[k * size : (k + 1) * size],
            clip.mouth.cut(k * PIECE, (k + 1) * PIECE),
            clip.voice,
        )
        for k in range(len(clip.mouth) // PIECE)
    ]


def _recording_row(driven: DrivenRecording) -> dict:
    closed, rounded = _phone_hits(driven.made, driven.phones)
    return {
        "name": driven.recording.path.name,
        "voice": driven.recording.voice,
        "frames": len(driven.made),
        "aperture_r": float("nan")
        if driven.true is None
        else metrics.pearson(driven.true.aperture, driven.made.aperture),
        "closures": [closed.hits, closed.count],
        "roundings": [rounded.hits, rounded.count],
        "phones": len(driven.phones) or driven.problem or "none",
    }
