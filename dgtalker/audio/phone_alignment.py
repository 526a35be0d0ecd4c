"""When each phone (speech sound) is spoken in a recording, for figures about lips. Needs PyPI pocketsphinx.

Pocketsphinx aligns the words of a transcript (English), and then their phones, to the sound.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.audio import load_audio
from dgtalker.media.clock import SAMPLE_RATE

ALGORITHM = 1  # raise it when the same recording would give other timings
LIP_CLOSING_PHONES = frozenset(("P", "B", "M"))  # the lips meet, in every accent and every context
# The sounds /u o w/ that are made by rounding the lips, the lax /u/ of "good" included. Left out: OY and AW, of which
# one half is rounded and the other spread; AO, unrounded by many Americans; ER and R, SH, CH, JH, rounded by some
# talkers only.
LIP_ROUNDING_PHONES = frozenset(("UW", "UH", "OW", "W"))
_FRAMES_PER_SECOND = 100  # of pocketsphinx
# A phone's score is the sum over its frames of ln(likelihood over that of the frame's best sound), in steps of
# 2^10 ln(1.0001).
_SCORE_STEP = 1024 * math.log(1.0001)
_STOPS, _LONGEST_STOP = ("P", "B", "T", "D", "K", "G"), 12  # pocketsphinx's frames, of one that begins a phrase
_PEAK = 0.5  # level of the loudest sample that pocketsphinx is given
_NO_SOUND = ("SIL", "+SPN+", "+NSN+", "+BREATH+", "+NOISE+", "+COUGH+", "+SMACK+", "+UH+", "+UM+", "[NOISE]")

_GRID_WORDS = (
    dict(b="bin", l="lay", p="place", s="set"),
    dict(b="blue", g="green", r="red", w="white"),
    dict(a="at", b="by", i="in", w="with"),
    {letter: letter for letter in "abcdefghijklmnopqrstuvwxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split(), strict=True)),
    dict(a="again", n="now", p="please", s="soon"),
)


class Phone(NamedTuple):
    """One sound of speech. Times in seconds from the start of the recording."""

    label: str  # ARPABET without stress: "B", "IH"
    start: float
    end: float
    confidence: float  # 0..1: likelihood over that of the best sound in each frame, geometric mean; 0 if guessed
    word: str = ""  # that it belongs to, if known

    @property
    def middle(self) -> float:
        """Time half-way through the phone, seconds."""
        return (self.start + self.end) / 2


def require_pocketsphinx() -> None:
    """Raises UserError if phone timings cannot be made here."""
    _decoder()


# -- alignment --------------------------------------------------------------------------------------------------------


def align_phones(samples: np.ndarray, text: str) -> list[Phone]:
    """Phones of `text` (English) where they are spoken in samples (mono [samples], 16 kHz); pauses are left out.

    Raises UserError if pocketsphinx is missing, a word is not in its dictionary or the words are not those spoken.
    """
    words = _split_words(text)
    decoder = _decoder()
    unknown = [word for word in words if decoder.lookup_word(word) is None]
    if not words or unknown:
        what = f"'{unknown[0]}' is not in the pronouncing dictionary" if unknown else "it holds no words"
        raise UserError(f"The transcript cannot be aligned: {what}.")
    raw = _pcm_bytes(samples)
    try:
        decoder.set_align_text(" ".join(words))
        _run_decoder(decoder, raw)
        if decoder.hyp() is None:
            raise RuntimeError("no path through the words")
        decoder.set_alignment()  # a second pass: words -> phones
        _run_decoder(decoder, raw)
        entries = [(word.name, list(word)) for word in decoder.get_alignment()]
    except RuntimeError as error:
        raise UserError("The transcript cannot be aligned: the recording does not seem to hold these words.") from error
    limit, found, before = len(samples) / SAMPLE_RATE, [], _NO_SOUND[0]
    for word, phones in entries:
        spelling = re.sub(r"\(\d+\)$", "", word).rstrip(".")
        for entry in phones:
            start, count = entry.start, entry.duration
            if before in _NO_SOUND and entry.name in _STOPS:  # silence before a stop sounds like the stop
                count = min(count, _LONGEST_STOP)
                start += entry.duration - count
            if entry.name not in _NO_SOUND:
                found.append(
                    _make_phone(entry.name, start, count, entry.score / max(entry.duration, 1), limit, spelling)
                )
            before = entry.name
    return found


def align_recording(
    path: str | Path, text: str, cache: str | Path | None = None, samples: np.ndarray | None = None
) -> list[Phone]:
    """align_phones of an audio or video file. cache: folder in which the answer is kept as JSON and looked up.

    samples: the file's sound, if it has been read already. Raises UserError as align_phones and load_audio do.
    """
    path = Path(path)
    kept = None
    if cache is not None:
        try:
            key = hashlib.sha256(
                f"{ALGORITHM} {' '.join(_split_words(text))} ".encode() + path.read_bytes()
            ).hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}).") from error
        kept = Path(cache) / f"{path.stem}-{key[:12]}.json"
        if (found := _read_cache(kept)) is not None:
            return found
    phones = align_phones(load_audio(path) if samples is None else samples, text)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        temporary.write_text(json.dumps({"text": text, "phones": phones}), encoding="utf-8")
        temporary.replace(kept)
    return phones


def phones_or_reason(
    path: str | Path, text: str | None, seconds: float, cache: str | Path | None = None
) -> tuple[list[Phone], str | None]:
    """Aligned phones within the first `seconds`, or the reason for none: no transcript, or one that does not fit.

    Raises UserError if pocketsphinx is missing and there is a transcript.
    """
    if not text:
        return [], "no English transcript"
    require_pocketsphinx()
    try:
        phones = align_recording(path, text, cache)
    except UserError as error:
        return [], str(error)
    return [phone for phone in phones if phone.end <= seconds], None


def _read_cache(path: Path) -> list[Phone] | None:
    try:
        return [Phone(*row) for row in json.loads(path.read_text(encoding="utf-8"))["phones"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent or damaged: made again


def _make_phone(label: str, start: int, count: int, score: float, limit: float, word: str) -> Phone:
    """`start` and `count` in pocketsphinx's frames, `score` that of a frame; `limit` is the length of the recording."""
    end = min((start + count) / _FRAMES_PER_SECOND, limit)
    confidence = round(math.exp(min(score, 0) * _SCORE_STEP), 4)
    return Phone(label, min(start / _FRAMES_PER_SECOND, end), end, confidence, word)


def _split_words(text: str) -> list[str]:
    """Lower-case words; a letter as the dictionary names it, "e." (a lone "a" or "i" of a sentence stays a word)."""
    return re.findall(r"[a-z]\.(?![a-z])|[a-z][a-z']*", text.lower().replace("’", "'"))


def _pcm_bytes(samples: np.ndarray) -> bytes:
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono [samples], not {samples.shape}")
    gain = _PEAK / max(float(np.abs(samples).max(initial=0.0)), 1e-4)
    return (np.clip(samples * gain, -1, 1) * 32767).astype("<i2").tobytes()


def _run_decoder(decoder, raw: bytes) -> None:
    decoder.reinit_feat()  # its front end remembers the recording before
    decoder.start_utt()
    decoder.process_raw(raw, full_utt=True)
    decoder.end_utt()


@lru_cache(maxsize=1)
def _decoder():
    try:
        import pocketsphinx
    except ImportError as error:
        raise UserError("Phone timings need the package pocketsphinx; install it with pip.") from error
    # The best path through the lattice may give a phone fewer frames than its model has states.
    return pocketsphinx.Decoder(lm=None, bestpath=False, cmn="batch", loglevel="FATAL")


# -- transcripts ------------------------------------------------------------------------------------------------------


def grid_transcript(name: str) -> str | None:
    """Words of a GRID clip from its file's name: "bbaf2n", "s1_bbaf2n" -> "bin blue at f. two now".

    None if it is not such a name.
    """
    code = Path(name).stem.lower().split("_")[-1]
    if len(code) != len(_GRID_WORDS) or any(c not in words for c, words in zip(code, _GRID_WORDS, strict=True)):
        return None
    words = [words[c] for c, words in zip(code, _GRID_WORDS, strict=True)]
    return " ".join([*words[:3], f"{words[3]}.", *words[4:]])


def find_transcripts(folder: str | Path) -> dict[str, str]:
    """Transcripts kept in a folder of recordings, {file stem: text}.

    Understood: LJSpeech's metadata.csv (ID|text), Sphinx's `transcription` (<s> text </s> (ID)), transcripts.txt
    (ID TEXT, LibriSpeech), and NAME.txt beside NAME.wav.
    """
    folder, found = Path(folder), {}
    for path in sorted(folder.glob("*.txt")):
        if path.name != "transcripts.txt" and (text := _read_text(path).strip()):
            found[path.stem] = text
    for line in _read_text(folder / "transcripts.txt").splitlines():
        name, _, text = line.strip().partition(" ")
        if text:
            found[name] = text
    for line in _read_text(folder / "transcription").splitlines():
        if match := re.match(r"(?:<s>)?(.*?)(?:</s>)?\s*\(([^()]+)\)\s*$", line):
            found[match.group(2)] = match.group(1).strip()
    rows = csv.reader(_read_text(folder / "metadata.csv").splitlines(), delimiter="|", quoting=csv.QUOTE_NONE)
    found.update({row[0]: row[-1] for row in rows if len(row) > 1})
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
