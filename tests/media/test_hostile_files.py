"""Files that mean harm: playlists that name other files, lengths that are lies, decoders that never end.

Each is one clear sentence, and never a sound that was not in the file; no ffmpeg is left running.
"""

import os
import stat
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes.command_line import run_command, run_ffmpeg

from dgtalker.errors import UserError
from dgtalker.media import ffmpeg
from dgtalker.media.audio import load_audio
from dgtalker.media.ffmpeg import Cancelled, input_arguments, sniff_demuxers
from dgtalker.media.probe import probe
from dgtalker.media.video_reader import read_video
from dgtalker.media.video_writer import VideoWriter
from dgtalker.video.source import probe_video, read_frames, read_sound

SECRET_HZ = 3000


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    if Path("/proc").is_dir():
        assert not [name for name in children() if "ffmpeg" in name or "sleep" in name]


def children() -> list[str]:
    """Names of this process's children, dead ones that nobody waited for included."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = status.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if int(rest.split()[1]) == os.getpid():
            found.append(name)
    return found


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    """A folder with another file of the server, in several containers."""
    folder = tmp_path_factory.mktemp("secret")
    time = np.arange(32000) / 16000
    soundfile.write(folder / "secret.wav", 0.5 * np.sin(2 * np.pi * SECRET_HZ * time), 16000)
    for suffix in ("mp3", "mp4", "ts", "mkv"):
        run_ffmpeg("-i", folder / "secret.wav", folder / f"secret.{suffix}")
    return folder


def hls(target: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"


def dash(target: str) -> str:
    return f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"
type="static" mediaPresentationDuration="PT2.0S" minBufferTime="PT2.0S"><Period id="0" start="PT0.0S">
<AdaptationSet id="0" contentType="audio"><Representation id="0" mimeType="audio/mp4" bandwidth="69000">
<SegmentList duration="2" timescale="1"><SegmentURL media="{target}"/></SegmentList>
</Representation></AdaptationSet></Period></MPD>"""


PLAYLISTS = {
    "hls": lambda f: hls(f"{f}/secret.ts"),
    "hls of a file url": lambda f: hls(f"file://{f}/secret.mp3"),
    "hls of a data url": lambda f: hls("data:audio/wav;base64,UklGRg=="),
    "hls after a byte order mark": lambda f: "\ufeff" + hls(f"{f}/secret.ts"),
    "hls after blank lines": lambda f: "\n \r\n\t" + hls(f"{f}/secret.ts"),
    "hls in utf-16": lambda f: hls(f"{f}/secret.ts").encode("utf-16"),
    "hls after an id3 tag": lambda f: b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + hls(f"{f}/secret.ts").encode(),
    "hls after many id3 tags": lambda f: 99 * (b"ID3\x04" + bytes(6)) + hls(f"{f}/secret.ts").encode(),
    "hls after zeros": lambda f: bytes(64) + hls(f"{f}/secret.ts").encode(),
    "hls with a latin-1 comment": lambda f: hls(f"{f}/secret.ts").encode() + b"# caf\xe9\n",
    "dash": lambda f: dash(f"file://{f}/secret.mp4"),
    "dash after a prolog": lambda f: '<?xml version="1.0" encoding="UTF-8"?>\n<!-- -->\n' + dash(f"{f}/secret.mp4"),
    "concat": lambda f: f"ffconcat version 1.0\nfile '{f}/secret.wav'\n",
    "sdp": lambda f: "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "subtitles": lambda f: "1\n00:00:00,000 --> 00:00:02,000\nhello\n",
    "webvtt": lambda f: "WEBVTT\n\n00:00.000 --> 00:02.000\nhello\n",
    "asx": lambda f: f'<asx version="3.0"><entry><ref href="{f}/secret.mp3"/></entry></asx>',
    "ffmetadata": lambda f: ";FFMETADATA1\ntitle=x\n",
    "svg": lambda f: f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{f}/secret.png"/></svg>',
}


def hears_secret(samples: np.ndarray) -> bool:
    spectrum = np.abs(np.fft.rfft(samples))
    frequencies = np.fft.rfftfreq(len(samples), 1 / 16000)
    return bool(np.abs(frequencies - SECRET_HZ)[spectrum.argmax()] < 20 and np.abs(samples).max() > 0.05)


def assert_refused(path: Path, *readers) -> None:
    for reader in readers:
        with pytest.raises(UserError) as error:
            reader(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 250
        assert path.name in str(error.value)


def read_all(path: Path) -> list[np.ndarray]:
    return list(read_frames(path, probe_video(path)))


def mux(path: Path) -> None:
    """Put the sound of `path` under a picture."""
    with VideoWriter(path.with_name("muxed.mp4"), 32, 32, audio=path) as writer:
        for _ in range(25):
            writer.write(np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize("name", ["x.mp3", "x.wav", "x.ts", "-x.mp4"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_and_scripts_open_nothing(tmp_path, monkeypatch, secret, kind, name):
    monkeypatch.chdir(tmp_path)
    data = PLAYLISTS[kind](secret)
    path = Path(name)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert_refused(path, load_audio, probe, lambda p: list(read_video(p)), read_all, read_sound)
    with pytest.raises((UserError, RuntimeError)):
        mux(path)
    assert not Path("muxed.mp4").exists()


@pytest.mark.parametrize("name, playlist, media", [("x.mp3", dash, "secret.mp4"), ("x.m3u8", hls, "secret.ts")])
def test_these_playlists_are_real_attacks(tmp_path, secret, name, playlist, media):
    path = tmp_path / name
    path.write_text(playlist(f"{secret}/{media}"))
    try:
        run_ffmpeg("-i", path, tmp_path / "attack.wav")
    except subprocess.CalledProcessError:
        pytest.skip("this ffmpeg does not read such playlists")
    assert hears_secret(load_audio(tmp_path / "attack.wav"))  # ffmpeg without limits
    assert_refused(path, load_audio, probe, read_sound)


@pytest.mark.parametrize("kind, as_expression", [("hls", False), ("dash", True)])
def test_talk_never_speaks_another_file(tmp_path, fake_identity, monkeypatch, secret, kind, as_expression):
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(fake_identity.parents[1]))
    voice, playlist, out = tmp_path / "voice.wav", tmp_path / "x.mp3", tmp_path / "out.mp4"
    soundfile.write(voice, 0.1 * np.sin(np.arange(8000)), 16000)
    playlist.write_text(PLAYLISTS[kind](secret))
    sounds = [voice, "--expression-audio", playlist] if as_expression else [playlist]
    code, _, error = run_command("talk", "fake", *sounds, "-o", out, "--size", 32)
    assert code != 0 and "is a text or a playlist" in error and "Traceback" not in error
    assert not out.exists()


def test_image_sequences_are_no_media(tmp_path):
    from PIL import Image

    for i in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"img{i:03d}.png")
    for name in ("img%03d.png", "one.mp4", "img*.jpg"):
        Image.new("RGB", (64, 64)).save(tmp_path / name, "jpeg" if name.endswith("jpg") else "png")
        assert_refused(tmp_path / name, load_audio, probe, read_all)
    with pytest.raises(UserError, match="does not exist"):
        probe(tmp_path / "img%02d.png")


@pytest.mark.parametrize("name", ["-i.wav", "a:b.wav", "%03d.wav", "data:x.mp3", "concat:a|b.wav", "a b'c.mp3"])
def test_strange_names_of_honest_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    time = np.arange(16000) / 16000
    soundfile.write("plain.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 16000)
    run_ffmpeg("-i", "plain.wav", "plain.mp3")
    os.replace(f"plain{Path(name).suffix}", name)
    assert abs(len(load_audio(Path(name))) - 16000) < 1200 and probe(name).audio
    mux(Path(name))
    assert probe("muxed.mp4").audio


KINDS = "wav flac ogg mp3 m4a mp4 mkv webm aac ts mpg avi flv aiff au caf opus ac3 wma w64 mov 3gp mka mp2".split()


@pytest.mark.parametrize("kind", KINDS)
def test_honest_containers_are_read_under_any_name(tmp_path, kind):
    soundfile.write(tmp_path / "source.wav", 0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100), 44100)
    run_ffmpeg("-i", tmp_path / "source.wav", *(["-c:a", "aac"] if kind == "3gp" else []), tmp_path / f"tone.{kind}")
    os.replace(tmp_path / f"tone.{kind}", tmp_path / "tone.txt")
    samples = load_audio(tmp_path / "tone.txt")
    assert 0.9 < len(samples) / 16000 < 1.2 and samples[4000:12000].std() > 0.2
    mux(tmp_path / "tone.txt")
    assert load_audio(tmp_path / "muxed.mp4")[4000:12000].std() > 0.2


def test_no_input_may_be_more_than_its_container(tmp_path, secret):
    for path in secret.iterdir():
        arguments = input_arguments(path)
        assert arguments[arguments.index("-protocol_whitelist") + 1] == "file,pipe"
        allowed = set(arguments[arguments.index("-format_whitelist") + 1].split(","))
        assert not allowed & {"hls", "dash", "concat", "sdp", "rtsp", "image2", "tedcaptions", "webm_dash_manifest"}
        assert arguments[-1].startswith("file:/") or os.name == "nt"
    assert sniff_demuxers(secret / "secret.mp4") == "mov"


# -- media in other files ---------------------------------------------------------------------------------------------


def with_external_data(mp4: bytes, name: str) -> bytes:
    """An mp4 whose track says that its media lie in the file `name` beside it (a data reference of type `alis`)."""
    alias = bytearray(b"\0\0\0\0" + bytes(10) + bytes([0]) + bytes(27) + bytes(12))
    alias += bytes([len(name)]) + name.encode().ljust(63, b"\0") + bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">hH", 2, len(name)) + name.encode() + (b"\0" if len(name) % 2 else b"")
    alias += struct.pack(">hH", -1, 0) + bytes(max(0, 160 - len(alias)))
    entry = struct.pack(">I", 8 + len(alias)) + b"alis" + alias
    place = mp4.index(b"dref") - 4
    size = struct.unpack(">I", mp4[place : place + 4])[0]
    box = struct.pack(">I", 16 + len(entry)) + b"dref" + bytes(4) + struct.pack(">I", 1) + entry
    out = bytearray(mp4[:place] + box + mp4[place + size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = mp4.rindex(parent, 0, place) - 4
        out[at : at + 4] = struct.pack(">I", struct.unpack(">I", out[at : at + 4])[0] + len(box) - size)
    return bytes(out)


def test_an_mp4_cannot_borrow_the_sound_of_another_file(tmp_path, secret):
    name = "secret.mp4"
    (tmp_path / name).write_bytes((secret / name).read_bytes())
    path = tmp_path / "x.mp4"
    media = with_external_data((secret / name).read_bytes(), name)
    start = media.index(b"mdat") + 4
    stop = start - 8 + struct.unpack(">I", media[start - 8 : start - 4])[0]
    path.write_bytes(media[:start] + bytes(stop - start) + media[stop:])  # none of its own
    run_ffmpeg("-enable_drefs", "1", "-use_absolute_path", "1", "-i", path, tmp_path / "attack.wav")
    assert hears_secret(load_audio(tmp_path / "attack.wav"))  # ffmpeg would, if asked
    try:
        samples = load_audio(path)
    except UserError:
        return
    assert not hears_secret(samples)


# -- lengths that are lies --------------------------------------------------------------------------------------------

SINE = ["-f", "lavfi", "-i", "sine=d=8"]
HOUR_GAPS = ["-af", "asetpts=PTS+floor(T)*3600/TB", "-c:a", "libopus"]


@pytest.fixture(scope="module")
def long_files(tmp_path_factory) -> Path:
    """8 seconds of sound or picture spread over seven hours."""
    folder = tmp_path_factory.mktemp("long")
    for suffix in ("ogg", "mkv", "mp4"):
        run_ffmpeg(*SINE, *HOUR_GAPS, folder / f"gaps.{suffix}")
    run_ffmpeg(*SINE, *HOUR_GAPS, "-live", "1", folder / "no_length.mkv")
    film = ["-f", "lavfi", "-i", "testsrc=d=8:s=96x64:r=25", "-vf", "setpts=PTS+floor(T)*3600/TB", "-c:v", "libx264"]
    run_ffmpeg(*SINE, *film, "-fps_mode", "passthrough", folder / "film.mp4")
    run_ffmpeg(*SINE, *film, "-fps_mode", "passthrough", "-live", "1", folder / "film.mkv")
    return folder


@pytest.mark.parametrize("name", ["gaps.ogg", "gaps.mkv", "gaps.mp4", "no_length.mkv"])
def test_gaps_of_hours_are_refused(long_files, name):
    path = long_files / name
    assert_refused(path, lambda p: load_audio(p, max_seconds=60))
    if name != "no_length.mkv":
        assert_refused(path, load_audio, probe)


@pytest.mark.parametrize("name", ["gaps.ogg", "no_length.mkv"])
def test_the_encoder_takes_no_more_sound_than_asked(tmp_path, long_files, name):
    with VideoWriter(tmp_path / "out.mp4", 32, 32, audio=long_files / name, audio_seconds=2.0) as writer:
        for _ in range(25):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    assert probe(tmp_path / "out.mp4").seconds < 2.2


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_films_of_a_few_kilobytes_do_not_last_for_hours(long_files, name):
    assert_refused(long_files / name, read_all, lambda p: list(read_video(p)))


def test_headers_that_lie_about_the_length(tmp_path):
    tone = 0.5 * np.sin(np.arange(16000))
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    wav = bytearray((tmp_path / "a.wav").read_bytes())
    place = wav.index(b"data") + 4
    wav[place : place + 4] = struct.pack("<I", 2**32 - 1)  # more than there is: what is there counts
    (tmp_path / "long.wav").write_bytes(wav)
    assert len(load_audio(tmp_path / "long.wav")) == 16000
    soundfile.write(tmp_path / "a.flac", tone, 16000)
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    flac[21] |= 0x0F  # of STREAMINFO's 36-bit number of samples
    (tmp_path / "long.flac").write_bytes(flac)
    assert_refused(tmp_path / "long.flac", load_audio)
    for rate, channels in ((1, 1), (2**31 - 1, 1), (16000, 65535)):
        header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 2036, b"WAVE", b"fmt ", 16, 1, channels, rate, rate, 1, 8,
                             b"data", 2000)  # fmt: skip
        (tmp_path / "odd.wav").write_bytes(header + bytes(2000))
        assert_refused(tmp_path / "odd.wav", load_audio)


def test_silence_that_packs_well_is_refused_before_all_is_decoded(tmp_path):
    soundfile.write(tmp_path / "hours.flac", np.zeros(2 * 3600 * 8000, np.int16), 8000)
    assert_refused(tmp_path / "hours.flac", load_audio)
    run_ffmpeg("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "200", "-b:a", "8k", tmp_path / "long.mp3")
    assert_refused(tmp_path / "long.mp3", lambda p: load_audio(p, max_seconds=100))
    assert len(load_audio(tmp_path / "long.mp3")) > 199 * 16000


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def endless_ffmpeg(tmp_path, monkeypatch):
    """An ffmpeg that writes half a second of silence and then hangs."""
    if os.name == "nt":
        pytest.skip("needs a shell")
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nhead -c 32000 /dev/zero\nexec sleep 600\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(ffmpeg, "ffmpeg_exe", lambda: str(program))
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1", tmp_path / "a.mp3")
    return tmp_path / "a.mp3"


def test_cancelling_ends_the_decoder(endless_ffmpeg):
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        load_audio(endless_ffmpeg, cancelled=cancelled)


def test_cancelling_a_talking_video_ends_the_decoder(endless_ffmpeg, identity, tmp_path):
    from dgtalker.talk import talk

    seen = []

    def cancelled() -> bool:
        seen.extend(name for name in children() if name == "sleep")
        return bool(seen)

    assert talk(identity, endless_ffmpeg, tmp_path / "out.mp4", cancelled=cancelled) is None
    assert seen and not (tmp_path / "out.mp4").exists()


def test_cancelling_ends_libsndfile(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    with pytest.raises(Cancelled):
        load_audio(tmp_path / "a.wav", cancelled=lambda: True)


def test_a_decoder_that_hangs_is_given_up(endless_ffmpeg, monkeypatch):
    monkeypatch.setattr(ffmpeg, "_PATIENCE_SECONDS", 0.2)
    assert_refused(endless_ffmpeg, load_audio, probe)


def test_closing_the_generator_ends_the_decoder(endless_ffmpeg):
    blocks = ffmpeg.decode(endless_ffmpeg, block=16000)
    assert len(next(blocks)) == 16000
    assert children()
    blocks.close()
