"""Lips that survive any voice: an identity driven by the sound of people it never heard.

    recordings -> what `talk` would show -> pictures -> landmarks -> aperture and width -> figures

Recordings with a picture (GRID clips of other talkers) bring true lips to compare with. Recordings with an English
transcript bring phones: GRID's is in the file name, others are found by phones.find_transcripts. Any other recording,
in any language, counts for retrieval and for the correlation with the sound's envelope only.
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
from dgtalker.audio.phones import Phone, find_transcripts, grid_transcript, phones_if_known, require_pocketsphinx
from dgtalker.errors import UserError
from dgtalker.media.audio import FPS, SAMPLE_RATE, load_audio
from dgtalker.metrics import articulation
from dgtalker.metrics.articulation import Hits, Mouth
from dgtalker.metrics.retrieval import CANDIDATES, Heard, LipJudge, retrieval
from dgtalker.performance.curves import Performance
from dgtalker.performance.expression import ExpressionSettings
from dgtalker.report.contact_sheets.phones import draw_strip, exhibit
from dgtalker.report.figures import ReportFigures
from dgtalker.video.source import VIDEO_SUFFIXES, probe, read_frames

if TYPE_CHECKING:
    from dgtalker.identity import Identity

FaceReading = Callable[[Sequence[np.ndarray]], np.ndarray]  # uint8 pictures [T] -> landmarks [T,478,2], NaN = no face
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
PIECE = 74  # frames of a piece of speech in retrieval: the shortest GRID clip
SILENCE_SECONDS = 2.0
NOISE = 1e-3  # -60 dB: a quiet room


BLOCK, STRIPS = "unseen_audio", 6  # of the report; recordings whose lips are exhibited
HEADLINES = ("aperture_r", "closure_hit_rate", "rounding_hit_rate", "retrieval_at_10", "lag_frames")  # of the block


@dataclass(frozen=True)
class OtherVoicesConfig:
    """What to listen to, and how closely."""

    recordings: int = 10  # at most so many of a folder, spread over it
    seconds: float = 6.0  # of each
    size: int = 256  # pixels of the pictures
    face_landmarker: str | Path | None = None  # MediaPipe model; found automatically if None
    phones: Path | None = None  # folder in which phone timings are kept between runs
    strips: Path | None = None  # folder for pictures of the lips at every phone
    seed: int = 0  # of the wrong sounds in retrieval


@dataclass(frozen=True)
class Recording:
    """Somebody's speech."""

    path: Path
    voice: str  # name of its folder
    text: str | None  # English transcript

    @property
    def has_lips(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Spoken:
    """A recording, the lips that the identity made of it, and the true ones if they were filmed."""

    recording: Recording
    samples: np.ndarray  # mono, 16 kHz, as long as `made`
    made: Mouth
    true: Mouth | None
    phones: list[Phone]
    jitter: float  # of the rendered head, see articulation.rigid_jitter
    problem: str | None = None  # why there are no phones


def measure_other_voices(
    identity: Identity,
    voices: Iterable[str | Path],
    config: OtherVoicesConfig | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    faces: FaceReading | None = None,
    judge_from: Sequence[Heard] = (),
    report_figures: ReportFigures | None = None,
) -> dict:
    """The block `unseen_audio` of the evaluation's report.

    voices: folders of recordings, or folders of such folders. faces reads landmarks; None: MediaPipe. judge_from: more
    true lips for retrieval's judge to learn from, beside those filmed among `voices`. exhibits: gets the lips at the
    phones of some recordings.
    Raises UserError if there is nothing to listen to, or pocketsphinx, MediaPipe or its model is missing.
    """
    config = config or OtherVoicesConfig()
    recordings = find_recordings(voices, config.recordings)
    if any(recording.text for recording in recordings):
        require_pocketsphinx()
    if faces is None:
        from dgtalker.evaluation.face_reader import FaceReader

        with FaceReader(config.face_landmarker) as reader:
            return measure_other_voices(identity, voices, config, progress, reader, judge_from, report_figures)
    started = time.perf_counter()
    report_progress = progress or (lambda done, total, message: None)
    spoken = []
    for done, recording in enumerate(recordings):
        report_progress(done, len(recordings) + 1, f"voice {recording.voice}")
        spoken.append(speak(identity, recording, config, faces, report_figures))
    report_progress(len(recordings), len(recordings) + 1, "silence")
    silence = _silence(identity, config.size, faces, spoken[0].made)
    block = summarise(spoken, judge_from, config.seed)
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
    return [Recording(paths[i], folder.name, _text(paths[i], texts)) for i in picks]


def _text(path: Path, texts: dict[str, str]) -> str | None:
    if path.stem in texts:
        return texts[path.stem]
    if path.suffix.lower() in VIDEO_SUFFIXES and (words := grid_transcript(path.stem)):
        return words
    return next((text for name, text in texts.items() if name.endswith(path.stem)), None)  # "libri-ID" and "ID.flac"


# -- speaking ---------------------------------------------------------------------------------------------------------


def speak(
    identity: Identity,
    recording: Recording,
    config: OtherVoicesConfig,
    faces: FaceReading,
    report_figures: ReportFigures | None = None,
) -> Spoken:
    """Let the identity say a recording and read its lips, and the true ones if they were filmed."""
    samples = load_audio(recording.path)
    frames = min(len(samples) * FPS // SAMPLE_RATE, round(config.seconds * FPS))
    real, points_true = [], None
    if recording.has_lips:
        real = list(islice(read_frames(recording.path, probe(recording.path)), frames))
        frames = len(real)
        points_true = faces(real)
    performance = Performance.from_audio(identity, samples, settings=ExpressionSettings(blinks=()))
    made = _draw(identity, performance.a_exp[:frames], performance.a_lip[:frames], config.size)
    points = faces(made)
    phones, problem = phones_if_known(recording.path, recording.text, frames / FPS, config.phones)
    film = (real, points_true) if real else None
    if config.strips and phones:
        name = config.strips / f"{recording.voice}-{recording.path.stem}.png"
        draw_strip(name, phones, (made, points), film)
    if report_figures and phones and len(report_figures.strips.get(BLOCK, ())) < STRIPS:
        title = f"{recording.voice}: {recording.path.stem}, where each sound begins and in its middle"
        report_figures.add(BLOCK, exhibit(title, phones, (made, points), film))
    return Spoken(
        recording,
        samples[: frames * SAMPLE_RATE // FPS],
        articulation.mouth_of_landmarks(points),
        None if points_true is None else articulation.mouth_of_landmarks(points_true),
        phones,
        articulation.rigid_jitter(points),
        problem,
    )


def _draw(identity: Identity, a_exp: np.ndarray, a_lip: np.ndarray, size: int) -> list[np.ndarray]:
    """uint8 pictures [T] from the front."""
    from dgtalker.camera import orbit_camera
    from dgtalker.render import render_frame

    camera = orbit_camera(size=size)
    return [render_frame(identity.frame(e, a), camera) for e, a in zip(a_exp, a_lip, strict=True)]


def _silence(identity: Identity, size: int, faces: FaceReading, speaking: Mouth) -> dict:
    """How much the mouth moves, over what it does in speech, and how far it is open when nobody speaks."""
    noise = np.random.default_rng(0).normal(size=round(SILENCE_SECONDS * SAMPLE_RATE)).astype(np.float32)
    figures = {}
    for name, level in (("digital", 0.0), ("room", NOISE)):
        heard = Performance.from_audio(identity, level * noise, settings=ExpressionSettings(blinks=()))
        mouth = articulation.mouth_of_landmarks(faces(_draw(identity, heard.a_exp, heard.a_lip, size)))
        figures[name] = {
            "motion_ratio": articulation.stillness(mouth, speaking),
            "aperture": float(np.nanmedian(mouth.aperture)) if np.isfinite(mouth.aperture).any() else float("nan"),
        }
    return figures


# -- figures ----------------------------------------------------------------------------------------------------------


def summarise(spoken: Sequence[Spoken], judge_from: Sequence[Heard] = (), seed: int = 0) -> dict:
    """All figures, over all recordings and for every voice (folder) alone."""
    judge = LipJudge([*judge_from, *(_heard(s, s.true) for s in spoken if s.true is not None)])
    made = [piece for s in spoken for piece in _pieces(_heard(s, s.made))]
    true = [piece for s in spoken if s.true is not None for piece in _pieces(_heard(s, s.true))]
    (found, right), (found_true, _) = retrieval(judge, made, seed=seed), retrieval(judge, true, seed=seed)
    right_of = {}
    for piece, hit in zip(made, right, strict=False):
        right_of.setdefault(piece.voice, []).append(hit)
    block = _figures(spoken)
    block["retrieval_at_10"] = found
    block["n"]["retrieval"] = len(right)
    block["judge"] = judge.method
    block["baselines"]["true_lips"]["retrieval_at_10"] = found_true
    block["baselines"]["chance"] = {"retrieval_at_10": 1 / CANDIDATES}
    block["voices"] = {}
    for voice in dict.fromkeys(s.recording.voice for s in spoken):
        of_voice = _figures([s for s in spoken if s.recording.voice == voice])
        of_voice["retrieval_at_10"] = _mean(right_of.get(voice, []))
        of_voice["n"]["retrieval"] = len(right_of.get(voice, []))
        block["voices"][voice] = of_voice
    block["recordings"] = [_line(s) for s in spoken]
    return block


def _figures(spoken: Sequence[Spoken]) -> dict:
    filmed = [s for s in spoken if s.true is not None]
    closed, rounded = _total(_phone_hits(s.made, s.phones) for s in spoken)
    closed_true, rounded_true = _total(_phone_hits(s.true, s.phones) for s in filmed)
    shuffled_r, (closed_wrong, rounded_wrong) = _shuffled(spoken)
    loud = [articulation.envelope(s.samples, len(s.made)) for s in spoken]
    gaps = [gap for s in spoken for gap in articulation.closed_gap(s.made, s.phones)]
    gaps_true = [gap for s in filmed for gap in articulation.closed_gap(s.true, s.phones)]
    lag = metrics.best_lag([s.true.aperture for s in filmed], [s.made.aperture for s in filmed])
    return {
        "aperture_r": _mean([metrics.pearson(s.true.aperture, s.made.aperture) for s in filmed]),
        "width_r": _mean([metrics.pearson(s.true.width, s.made.width) for s in filmed]),
        "lag_frames": lag if filmed else float("nan"),
        "closure_hit_rate": closed.rate,
        "rounding_hit_rate": rounded.rate,
        "closed_gap": float(np.median(gaps)) if gaps else float("nan"),  # eye distances
        "envelope_r": _mean([metrics.pearson(e, s.made.aperture) for e, s in zip(loud, spoken, strict=True)]),
        "envelope_lag_frames": metrics.best_lag(loud, [s.made.aperture for s in spoken]),
        "jitter": _mean([s.jitter for s in spoken]),  # thousandths of the eye distance
        "n": {
            "recordings": len(spoken),
            "frames": sum(len(s.made) for s in spoken),
            "faces_found": int(sum(np.isfinite(s.made.aperture).sum() for s in spoken)),
            "filmed": len(filmed),
            "aligned": sum(bool(s.phones) for s in spoken),
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
                "envelope_r": _mean(
                    [
                        metrics.pearson(e, s.true.aperture)
                        for e, s in zip(loud, spoken, strict=True)
                        if s.true is not None
                    ]
                ),
            },
        },
    }


def _shuffled(spoken: Sequence[Spoken]) -> tuple[float, tuple[Hits, Hits]]:
    """The same with the lips made of every other recording of the voice: what the shape of the sentences gives away."""
    r, hits = [], []
    for one in spoken:
        for other in spoken:
            if other is one or other.recording.voice != one.recording.voice:
                continue
            frames = min(len(one.made), len(other.made))
            wrong = other.made.cut(0, frames)
            if one.true is not None:
                r.append(metrics.pearson(one.true.aperture[:frames], wrong.aperture))
            hits.append(_phone_hits(wrong, [p for p in one.phones if p.end <= frames / FPS]))
    return _mean(r), _total(hits)


def _phone_hits(mouth: Mouth, phones: Sequence[Phone]) -> tuple[Hits, Hits]:
    return articulation.closures(mouth, phones), articulation.roundings(mouth, phones)


def _total(pairs: Iterable[tuple[Hits, Hits]]) -> tuple[Hits, Hits]:
    closed, rounded = Hits(), Hits()
    for a, b in pairs:
        closed, rounded = closed + a, rounded + b
    return closed, rounded


def _heard(spoken: Spoken, mouth: Mouth) -> Heard:
    return Heard(str(spoken.recording.path), spoken.samples, mouth, spoken.recording.voice)


def _pieces(heard: Heard) -> list[Heard]:
    """Stretches of PIECE frames, one after the other."""
    size = PIECE * SAMPLE_RATE // FPS
    return [
        Heard(
            heard.name,
            heard.samples[k * size : (k + 1) * size],
            heard.mouth.cut(k * PIECE, (k + 1) * PIECE),
            heard.voice,
        )
        for k in range(len(heard.mouth) // PIECE)
    ]


def _line(spoken: Spoken) -> dict:
    closed, rounded = _phone_hits(spoken.made, spoken.phones)
    return {
        "name": spoken.recording.path.name,
        "voice": spoken.recording.voice,
        "frames": len(spoken.made),
        "aperture_r": float("nan")
        if spoken.true is None
        else metrics.pearson(spoken.true.aperture, spoken.made.aperture),
        "closures": [closed.hits, closed.count],
        "roundings": [rounded.hits, rounded.count],
        "phones": len(spoken.phones) or spoken.problem or "none",
    }


def _mean(values: Iterable[float]) -> float:
    values = [float(v) for v in values if np.isfinite(v)]
    return float(np.mean(values)) if values else float("nan")
