"""Films of every clock, rate, rotation and colour come out in step, upright, and in the colours of Rec. 709."""

import numpy as np
import pytest
from fakes.command_line import run_ffmpeg

from dgtalker.video.source import find_cuts, probe_video, read_frames, read_sound

FLASH = "geq=lum='if(gte(T,1),235,16)':cb=128:cr=128"  # black, then white from one second on
BEEP = "aevalsrc=if(gte(t\\,1)\\,0.5*sin(2500*t)\\,0):s=48000:d=2.4"


def make_film(path, rate="25", before_picture=(), before_sound=(), picture_filter="", options=()):
    """Two seconds that turn from black and silent to white and loud at 1 s."""
    picture = f"color=black:s=128x96:r={rate}:d=2.4,{FLASH}{picture_filter}"
    run_ffmpeg(
        *before_picture, "-f", "lavfi", "-i", picture, *before_sound, "-f", "lavfi", "-i", BEEP,
        "-map", "0:v", "-map", "1:a", "-pix_fmt", "yuv420p", *options, path,
    )  # fmt: skip
    return path


def step_of(path):
    """Seconds by which the picture's change comes after the sound's, and the time of the picture's change."""
    frames = np.stack(list(read_frames(path, probe_video(path))))
    shown = np.argmax(frames.mean((1, 2, 3)) > 100) / 25
    heard = np.argmax(np.abs(read_sound(path)) > 0.1) / 16000
    return shown - heard, shown


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mpg", "a.mov", "a.avi"])
def test_picture_and_sound_are_in_step_in_every_container(tmp_path, name):
    assert abs(step_of(make_film(tmp_path / name))[0]) < 0.03


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mpg"])
@pytest.mark.parametrize("late", ["picture", "sound"])
def test_late_start_of_one_stream_stays_late(tmp_path, name, late):
    """The clock begins with the earlier stream: of a late picture the first frame is held, of a late sound silence."""
    film = make_film(tmp_path / name, **{f"before_{late}": ["-itsoffset", "0.52"]})
    lag, shown = step_of(film)
    assert lag == pytest.approx(0.52 if late == "picture" else -0.52, abs=0.045)
    assert shown == pytest.approx(1.52 if late == "picture" else 1.0, abs=0.045)


def test_edit_list_of_a_cut_film(tmp_path):
    """A stream copy that starts between key frames marks by an edit list what is not shown."""
    film = make_film(tmp_path / "whole.mp4", options=["-g", "50"])
    run_ffmpeg("-ss", "0.6", "-i", film, "-c", "copy", tmp_path / "cut.mp4")
    lag, shown = step_of(tmp_path / "cut.mp4")
    assert abs(lag) < 0.05 and shown == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("rate", ["24", "24000/1001", "25", "30000/1001", "30", "48", "50", "60"])
def test_frame_rates(tmp_path, rate):
    lag, shown = step_of(make_film(tmp_path / "a.mp4", rate))
    assert abs(lag) < 0.03 and shown == pytest.approx(1, abs=0.041)
    count = len(list(read_frames(tmp_path / "a.mp4", probe_video(tmp_path / "a.mp4"))))
    assert abs(count - 60) <= 1


def test_every_instant_shows_the_nearest_frame(tmp_path):
    """A ramp of grey tells the time of each frame: on average none is late or early."""
    ramp = ",geq=lum='16+T*80':cb=128:cr=128"
    for rate in ("25", "30", "60"):
        make_film(tmp_path / "a.mp4", rate, picture_filter=ramp, options=["-crf", "1"])
        frames = list(read_frames(tmp_path / "a.mp4", probe_video(tmp_path / "a.mp4")))
        seconds = np.array([f.mean() for f in frames])[5:55] * 219 / 255 / 80
        assert abs((seconds - np.arange(5, 55) / 25).mean()) < 0.008


def test_variable_rate(tmp_path):
    """Frames that were left out are held until the next one: no drift."""
    few = ",select='not(mod(n\\,7))+gt(t\\,0.8)*lt(t\\,1.3)'"
    film = make_film(tmp_path / "a.mp4", "30", picture_filter=few, options=["-fps_mode", "vfr"])
    lag, shown = step_of(film)
    assert abs(lag) < 0.05 and shown == pytest.approx(1, abs=0.045)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_tags_turn_the_picture_upright(tmp_path, degrees):
    """The left half is red; a tag of 90 degrees shows it above or below."""
    run_ffmpeg("-f", "lavfi", "-i", "color=blue:s=128x64:d=0.4,drawbox=0:0:64:64:red:fill", tmp_path / "a.mp4")
    run_ffmpeg("-display_rotation", str(degrees), "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    info = probe_video(tmp_path / "b.mp4")
    frame = next(read_frames(tmp_path / "b.mp4", info))
    assert frame.shape[:2] == ((64, 128) if degrees == 180 else (128, 64)) == (info.height, info.width)
    corner = {90: (120, 30), 180: (30, 120), 270: (8, 30)}[degrees]  # counter-clockwise
    assert frame[corner][0] > 200 > 100 > frame[corner][2]


PATCHES = {"white": (255, 255, 255), "grey": (128, 128, 128), "skin": (200, 150, 125), "blue": (50, 70, 130)}


def color_card(path, filters, options):
    """Four patches in the standard picture, converted by ffmpeg's `filters`."""
    boxes = ",".join(
        f"drawbox={32 * n}:0:32:64:0x{r:02x}{g:02x}{b:02x}:fill" for n, (r, g, b) in enumerate(PATCHES.values())
    )
    card = f"color=black:s=128x64:d=0.4,format=gbrp,{boxes},format=gbrp,{filters}"
    run_ffmpeg("-f", "lavfi", "-i", card, *options, path)
    frame = next(read_frames(path, probe_video(path))).astype(int)
    return {name: frame[20:44, 32 * n + 8 : 32 * n + 24].mean((0, 1)) for n, name in enumerate(PATCHES)}


HDR_TAGS = ["-color_primaries", "bt2020", "-colorspace", "bt2020nc", "-c:v", "libx265", "-x265-params", "log-level=0"]
CARDS = {
    "8 bit": ("scale=out_color_matrix=bt709,format=yuv444p", ["-colorspace", "bt709"], 4),
    "10 bit": ("scale=out_color_matrix=bt709,format=yuv420p10le", ["-colorspace", "bt709"], 4),
    "full range": (
        "scale=out_color_matrix=bt709:out_range=full,format=yuv444p", ["-colorspace", "bt709", "-color_range", "pc"], 4,
    ),
    "Rec. 601": ("scale=out_color_matrix=smpte170m,format=yuv444p", ["-colorspace", "smpte170m"], 4),
    "BT.2020": (
        "zscale=tin=bt709:pin=bt709:min=gbr:rin=full:t=linear:p=bt709:m=gbr:npl=100,format=gbrpf32le,zscale=p=bt2020,"
        "zscale=t=bt709:m=2020_ncl:r=limited,format=yuv420p10le",
        [*HDR_TAGS, "-color_trc", "bt709"], 8,
    ),
    "HLG": (
        "zscale=tin=bt709:pin=bt709:min=gbr:rin=full:t=linear:p=bt709:m=gbr:npl=203,format=gbrpf32le,zscale=p=bt2020,"
        "zscale=t=arib-std-b67:m=2020_ncl:r=limited:npl=203,format=yuv420p10le",
        [*HDR_TAGS, "-color_trc", "arib-std-b67"], 16,
    ),
    "PQ": (
        "zscale=tin=bt709:pin=bt709:min=gbr:rin=full:t=linear:p=bt709:m=gbr:npl=203,format=gbrpf32le,zscale=p=bt2020,"
        "zscale=t=smpte2084:m=2020_ncl:r=limited:npl=203,format=yuv420p10le",
        [*HDR_TAGS, "-color_trc", "smpte2084"], 16,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CARDS)
def test_colors_of_every_kind_become_those_of_rec709(tmp_path, kind):
    filters, options, tolerance = CARDS[kind]
    seen = color_card(tmp_path / "card.mp4", filters, options)
    for name, wanted in PATCHES.items():
        assert np.abs(seen[name] - wanted).max() <= tolerance, (name, seen[name])


@pytest.mark.parametrize("tagged", [True, False])
def test_interlaced_film_has_no_combs(tmp_path, tagged):
    """A box moves sideways; in an interlaced film its edge is a comb."""
    moving = "color=gray:s=256x192:r=50:d=2,geq=lum='if(between(X,40+T*60,100+T*60),220,40)':cb=128:cr=128"
    flags = ["-flags", "+ildct+ilme"] if tagged else ["-x264opts", "fake-interlaced=0"]
    filters = f"{moving},tinterlace=mode=interleave_top" + ("" if tagged else ",setfield=prog")
    path = tmp_path / "a.mp4"
    run_ffmpeg("-f", "lavfi", "-i", filters, "-pix_fmt", "yuv420p", *flags, path)
    frame = list(read_frames(path, probe_video(path)))[20].astype(int)[20:-20, :, 1]
    comb = np.abs(2 * frame[1:-1] - frame[:-2] - frame[2:]).max(0) / 2
    assert comb.max() < 30
    run_ffmpeg("-i", path, "-vf", "select=eq(n\\,20)", "-frames:v", "1", tmp_path / "raw.png")
    from PIL import Image

    raw = np.asarray(Image.open(tmp_path / "raw.png").convert("L"), int)[20:-20]
    assert (np.abs(2 * raw[1:-1] - raw[:-2] - raw[2:]).max(0) / 2).max() > 90  # the film itself has them


def test_portrait_films_keep_their_pixels(tmp_path):
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=1080x1920:d=0.2", tmp_path / "a.mp4")
    run_ffmpeg("-f", "lavfi", "-i", "color=red:s=3840x2160:d=0.2", tmp_path / "b.mp4")
    assert [(i.width, i.height) for i in (probe_video(tmp_path / n) for n in ("a.mp4", "b.mp4"))] == [
        (1080, 1920),
        (1920, 1080),
    ]


def test_shared_film_whose_picture_starts_late(shared):
    """The mouth of the film in hard_inputs belongs to the sound half a second after the file's start."""
    path = shared / "data/hard_inputs/video_starts_late.ts"
    if not path.is_file():
        pytest.skip("hard_inputs is not there")
    frames = np.stack(list(read_frames(path, probe_video(path)))).astype(int)
    held = np.abs(np.diff(frames, axis=0)).max((1, 2, 3)) == 0
    assert 12 <= np.argmin(held) <= 14  # .53 s


def test_cuts_need_two_frames():
    assert find_cuts(np.zeros((1, 18, 32, 3)), np.zeros((1, 2)), np.ones(1)) == []
