"""The corpus of the speech backbone: recordings with their voice, words, phones and lip curves.

Lips are measured on filmed speech. Other recordings get transferred lips: from a film with the same words, warped in
time along the phones; else from the viseme model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.audio.phone_alignment import Phone, align_recording, find_transcripts, grid_transcript
from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.clock import FPS, num_frames
from dgtalker.speech.lips import lip_curves
from dgtalker.speech.tts import read_phones
from dgtalker.speech.visemes import CLASSES, VisemeModel
from dgtalker.video.dataset import Dataset
from dgtalker.video.source import VIDEO_SUFFIXES, probe_video, read_frames

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
_MIN_SHARED = 0.6  # share of phones that two recordings must have in common to transfer lips
_CLASS_OF_PHONE = {label: name for name, labels in CLASSES.items() for label in labels}

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Utterance:
    """One recording of speech."""

    name: str
    voice: str  # speaker, from the name of the folder
    samples: np.ndarray  # mono [S], 16 kHz
    text: str | None = None  # English words
    phones: tuple[Phone, ...] = ()  # empty if the words are unknown or could not be aligned
    lips: Tensor | None = None  # [N, C] measured or transferred

    @property
    def frames(self) -> int:
        """Length in video frames."""
        return num_frames(self.samples)


# -- reading ----------------------------------------------------------------------------------------------------------


def read_films(
    source: str | Path, face_landmarker: str | Path | None = None, phones: Path | None = None, aligned: bool = True
) -> list[Utterance]:
    """Read filmed speech with its lip curves from a data set of preprocess or a folder of videos.

    Words are known only for files named like those of the GRID corpus. phones: folder in which alignments are kept.
    aligned: whether to align phones. Raises UserError if there are no videos, no face is found, or MediaPipe or its
    model is missing.
    """
    source = Path(source)
    if (source / "dataset.json").is_file():
        dataset = Dataset.open(source)
        return [
            _read_film(
                clip.name, source.name, clip.audio_path, lip_curves(clip.landmarks, clip.scores), phones, aligned
            )
            for clip in dataset
        ]
    paths = sorted(p for p in source.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES) if source.is_dir() else []
    if not paths:
        raise UserError(f"{source} is neither a data set nor a folder of films.")
    from dgtalker.video.landmarks import FACE_LANDMARKER, Landmarker, find_model, usage_reports_blocked

    model = find_model(FACE_LANDMARKER, face_landmarker)
    with usage_reports_blocked(), Landmarker(model, max_faces=1) as landmarker:
        return [_read_film(p.stem, p.stem, p, _track_lips(p, landmarker), phones, aligned) for p in paths]


def read_speech(
    folders: Iterable[str | Path], phones: Path | None = None, progress: Progress | None = None
) -> list[Utterance]:
    """Read recordings with phones from folders and their direct subfolders.

    Phones are those of NAME.phones beside NAME.wav if it exists; else the transcript is aligned (see
    audio.phone_alignment.find_transcripts). Recordings without a transcript, or that do not match it, are left out.
    Raises UserError for a folder that is missing or has no usable recording.
    """
    found: list[Utterance] = []
    for given in map(Path, folders):
        if not given.is_dir():
            raise UserError(f"There is no folder of speech {given}.")
        before = len(found)
        for folder in (given, *sorted(p for p in given.iterdir() if p.is_dir())):
            texts = find_transcripts(folder)
            paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUND_SUFFIXES)
            for done, path in enumerate(paths):
                if progress:
                    progress(done, len(paths), f"phones of {folder.name}")
                utterance = _read_recording(path, folder.name, _find_text(path, texts), phones)
                if utterance.phones:
                    found.append(utterance)
        if len(found) == before:
            raise UserError(f"The folder {given} holds no speech whose words are known (see the command's help).")
    return found


def _read_film(name: str, voice: str, sound: Path, lips: Tensor, cache: Path | None, aligned: bool) -> Utterance:
    samples, text = load_audio(sound), grid_transcript(name)
    return Utterance(name, voice, samples, text, _align_phones(sound, text, cache, samples) if aligned else (), lips)


def _track_lips(path: Path, landmarker) -> Tensor:
    points, scores = [], []
    for frame in read_frames(path, probe_video(path)):
        faces = landmarker.detect(frame)
        points.append(faces[0].landmarks if faces else np.full((478, 2), np.nan))
        scores.append(faces[0].scores if faces else np.full(52, np.nan))
    if not np.isfinite(np.array([s[0] for s in scores])).any():
        raise UserError(f"No face was found in {path.name}.")
    return lip_curves(np.stack(points), np.stack(scores))


def _read_recording(path: Path, voice: str, text: str | None, cache: Path | None) -> Utterance:
    samples = load_audio(path)
    exact = path.with_suffix(".phones")
    phones = tuple(read_phones(exact)) if exact.is_file() else _align_phones(path, text, cache, samples)
    return Utterance(path.stem, voice, samples, text, phones)


def _align_phones(path: Path, text: str | None, cache: Path | None, samples: np.ndarray) -> tuple[Phone, ...]:
    if not text:
        return ()
    try:
        return tuple(align_recording(path, text, cache, samples))
    except UserError:  # other words, or one that is not in the dictionary
        return ()


def _find_text(path: Path, texts: dict[str, str]) -> str | None:
    if path.stem in texts:
        return texts[path.stem]
    return next((text for name, text in texts.items() if name.endswith(path.stem)), None)


# -- lips for recordings without a picture ----------------------------------------------------------------------------


def transfer_lips(utterance: Utterance, films: dict[str, Utterance], visemes: VisemeModel | None) -> Tensor | None:
    """Lips [N, C] for a recording without a picture, in the units of the films'; None if there are none.

    films: by words, see `films_by_words`. visemes is used where no film has the same words.
    """
    film = films.get(_normalise_words(utterance.text))
    if film is not None and (lips := warp_lips(film, utterance.phones, utterance.frames)) is not None:
        return lips
    if visemes is None or not utterance.phones:
        return None
    with torch.no_grad():
        return visemes(utterance.phones, utterance.frames)


def films_by_words(films: Sequence[Utterance]) -> dict[str, Utterance]:
    """Index the films whose words and phones are known by their words."""
    return {_normalise_words(film.text): film for film in films if film.text and film.phones and film.lips is not None}


def warp_lips(film: Utterance, phones: Sequence[Phone], frames: int) -> Tensor | None:
    """Warp the film's lips in time so that its phones fall on `phones`: [frames, C].

    None if the film has no lips or the two have too few phones in common. Time is linear between shared phones, and
    runs at the same speed before the first and after the last one.
    """
    if film.lips is None:
        return None
    classes = [[_CLASS_OF_PHONE.get(p.label, p.label) for p in side] for side in (film.phones, phones)]
    matcher = SequenceMatcher(None, *classes, autojunk=False)
    if not phones or matcher.ratio() < _MIN_SHARED:
        return None
    pairs = [
        (source, target)
        for block in matcher.get_matching_blocks()
        for k in range(block.size)
        for source, target in _phone_edges(film.phones[block.a + k], phones[block.b + k])
    ]
    source, target = (np.array(times) for times in zip(*pairs, strict=True))
    times = (np.arange(frames) + 0.5) / FPS
    warped = np.interp(times, target, source)
    warped = warped + np.minimum(times - target[0], 0) + np.maximum(times - target[-1], 0)
    rows = warped * FPS - 0.5
    known = np.arange(len(film.lips))
    return torch.from_numpy(np.stack([np.interp(rows, known, c) for c in film.lips.T.numpy()], axis=1)).float()


def _phone_edges(source: Phone, target: Phone) -> list[tuple[float, float]]:
    inset = 1e-4  # so that times increase strictly
    return [(source.start, target.start + inset), (source.end, target.end - inset)]


def _normalise_words(text: str | None) -> str:
    return "".join(c for c in (text or "").lower() if c.isalpha() or c == " ").strip()
