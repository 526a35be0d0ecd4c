"""What a media file says about itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dgtalker.errors import UserError
from dgtalker.media.ffmpeg import decode, plausible_seconds


@dataclass(frozen=True)
class MediaInfo:
    """Length and first streams of a media file."""

    seconds: float  # 0 if unknown
    seconds_measured: bool  # not estimated from a bit rate or from time stamps that may jump
    width: int  # pixels as stored; 0 without a picture
    height: int
    fps: float
    pixel_aspect: float  # width of a pixel over its height
    rotation: int  # degrees, of the picture when shown
    video: str  # ffmpeg's line about the first video stream, "" if none
    audio: str  # about the first audio stream, "" if none
    field_order: str = ""  # "" progressive; "flagged": frames say it; "tff", "bff": found by looking (find_field_order)
    matrix: str = ""  # ffmpeg's names of the colour matrix, the primaries and the transfer; "" or "unknown"
    primaries: str = ""
    transfer: str = ""
    full_range: bool = False
    is_yuv: bool = True
    channels: int = 0  # of the sound; 0 if ffmpeg's line does not tell


def probe(path: str | Path, cancelled: Callable[[], bool] | None = None) -> MediaInfo:
    """Duration, size and streams of a media file.

    Raises UserError if it is none, or if it claims to last longer than its size allows; ffmpeg.Cancelled.
    """
    path = Path(path)
    run = decode(path, log_level="info", cancelled=cancelled)
    try:
        while True:
            next(run)
    except StopIteration as end:
        text: str = end.value
    video, audio = (_first_match(rf"Stream #0.*?{kind}: (.*)", text) for kind in ("Video", "Audio"))
    if not video and not audio:
        raise UserError(
            f"{path.name} is not an audio or video file that can be read; convert it to WAV, FLAC, MP3 or MP4."
        )
    clock = re.search(r"Duration: (\d+):(\d+):([\d.]+)", text)
    seconds = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else 0.0
    if seconds > plausible_seconds(path):
        raise UserError(
            f"{path.name} claims to last {seconds / 3600:.1f} hours but holds only {path.stat().st_size >> 10} KB: "
            "it is damaged; convert it again from its source."
        )
    estimated = re.search(r"duration from bitrate|Input #0, (mpegts|mpeg|mpegvideo),", text, re.IGNORECASE)
    size = re.search(r"[, ](\d{2,5})x(\d{2,5})[, ]", video + " ")
    width, height = (int(size[1]), int(size[2])) if size else (0, 0)
    aspect = re.search(r"SAR (\d+):(\d+)", video)
    matrix, primaries, transfer = _color_tags(video)
    return MediaInfo(
        seconds=seconds,
        seconds_measured=not estimated,
        width=width,
        height=height,
        fps=float(_first_match(r"([\d.]+) fps", video) or 0),
        pixel_aspect=int(aspect[1]) / int(aspect[2]) if aspect and int(aspect[1]) and int(aspect[2]) else 1.0,
        rotation=round(float(_first_match(r"rotation of (-?[\d.]+) degrees", text) or 0)),
        video=video,
        audio=audio,
        field_order="flagged" if re.search(r"\b(top|bottom) (coded )?first\b", video) else "",
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        full_range=bool(re.search(r"\(pc\b|yuvj4", video)),
        is_yuv=not re.search(r", (rgb|bgr|gbr|argb|rgba|abgr|bgra|pal8|0rgb|0bgr)", video),
        channels=_count_channels(audio),
    )


def find_field_order(path: str | Path, frames: int = 60) -> str:
    """Which field of untagged interlaced frames comes first, "tff" or "bff"; "" for progressive pictures."""
    output = ["-map", "0:v:0", "-vf", "idet", "-frames:v", str(frames), "-f", "null", "-"]
    run = decode(path, output, log_level="info")
    try:
        while True:
            next(run)
    except StopIteration as end:
        text: str = end.value
    counts = re.findall(r"Single frame detection: TFF:\s*(\d+) BFF:\s*(\d+) Progressive:\s*(\d+)", text)
    if not counts:
        return ""
    top, bottom, progressive = map(int, counts[-1])
    if max(top, bottom) < max(frames // 12, 4 * progressive, 4 * min(top, bottom)):
        return ""
    return "tff" if top > bottom else "bff"


def _color_tags(video: str) -> tuple[str, str, str]:
    """Matrix, primaries and transfer in ffmpeg's line about a video stream, as in "yuv420p(tv, bt709, progressive)"."""
    inside = re.search(r"\b(?:yuv|gray|gbr|rgb|bgr|nv|p0|p2|pal)\w*\(([^)]*)\)", video)
    for tag in inside[1].split(", ") if inside else ():
        if tag.count("/") == 2:
            matrix, primaries, transfer = tag.split("/")
            return matrix, primaries, transfer
        if re.fullmatch(r"(bt|smpte|iec|arib|fcc|film|gbr|ycgco|linear|log)[\w-]*", tag):
            return tag, tag, tag
    return "", "", ""


def _count_channels(audio: str) -> int:
    if found := re.search(r"(\d+) channels", audio):
        return int(found[1])
    if found := re.search(r"Hz, (\d)\.(\d)\b", audio):
        return int(found[1]) + int(found[2])
    return 2 if re.search(r"\bstereo\b", audio) else 1 if re.search(r"\bmono\b", audio) else 0


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else ""
