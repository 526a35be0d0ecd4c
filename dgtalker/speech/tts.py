"""Synthetic voices: the speech synthesizer Festival Lite (flite), which also gives the time of each phone.

    FOLDER/VOICE/NAME.wav, NAME.txt (the sentence) and NAME.phones (one "LABEL START END" a line, seconds)

flite 2.2 is free software (Debian: flite) with the voices awb, kal16, rms and slt built in.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from dgtalker.audio.phone_alignment import Phone
from dgtalker.errors import UserError

VOICES = ("awb", "kal16", "rms", "slt")
_LABEL_MAP = {"AX": "AH", "PAU": "", "SIL": ""}


def require_flite() -> str:
    """Return the path of flite. Raises UserError if it is not installed."""
    found = shutil.which("flite")
    if found is None:
        raise UserError("Synthetic voices need flite: install it (Debian: apt install flite) or name a folder of them.")
    return found


def speak_sentences(
    folder: str | Path,
    sentences: Sequence[tuple[str, str]],
    voices: Sequence[str] = VOICES,
    each: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Speak every sentence (name, text) with `each` of the voices in turn; existing files are kept.

    Raises UserError without flite.
    """
    program, folder = require_flite(), Path(folder)
    turns = [(k + j) % len(voices) for k in range(len(sentences)) for j in range(min(each, len(voices)))]
    repeated = [sentence for sentence in sentences for _ in range(min(each, len(voices)))]
    tasks = [(voices[turn], *sentence) for turn, sentence in zip(turns, repeated, strict=True)]
    for done, (voice, name, text) in enumerate(tasks):
        _speak(program, folder / voice, voice, name, text)
        if progress:
            progress(done + 1, len(tasks))


def _speak(program: str, folder: Path, voice: str, name: str, text: str) -> None:
    phones = folder / f"{name}.phones"
    if phones.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    command = [program, "-voice", voice, "-psdur", "-o", str(folder / f"{name}.wav"), "-t", f" {text} "]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(f"flite could not say '{text[:60]}': {done.stderr.strip()[:200]}")
    (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    lines = [f"{p.label} {p.start:.3f} {p.end:.3f}" for p in parse_durations(done.stdout)]
    phones.write_text("\n".join(lines) + "\n", encoding="utf-8")  # written last: it marks the others as complete


def parse_durations(text: str) -> list[Phone]:
    """Parse flite's "pau:0.216 b:0.247 ..." (label and end in seconds) into phones; pauses are left out."""
    phones, at = [], 0.0
    for label, end in re.findall(r"([a-z]+)\d?:([0-9.]+)", text):
        label = label.upper()
        label = _LABEL_MAP.get(label, label)
        if label:
            phones.append(Phone(label, at, float(end), 1.0))
        at = float(end)
    return phones


def read_phones(path: str | Path) -> list[Phone]:
    """Read NAME.phones. Raises UserError if it is damaged."""
    try:
        rows = [line.split() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Phone(label, float(start), float(end), 1.0) for label, start, end in rows]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: a line must read LABEL START END.") from error
