"""The commands as processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_command(*argv, **options) -> subprocess.Popen:
    """Start `dgtalker ARGV`; options go to Popen."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment.pop("DGTALKER_DEBUG", None)
    return subprocess.Popen(
        [sys.executable, "-m", "dgtalker", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def run_command(*argv) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of `dgtalker ARGV`."""
    process = start_command(*argv)
    out, err = process.communicate(timeout=180)
    return process.returncode, out, err


def run_ffmpeg(*argv) -> None:
    """The packaged ffmpeg; files are overwritten."""
    import imageio_ffmpeg

    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, argv)], check=True)
