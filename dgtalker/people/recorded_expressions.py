"""A small bank of expressions read off clips of real faces, so that a share of the training faces move as people do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker import resumable
from dgtalker.errors import UserError

FILE = "performances.safetensors"
MAX_CLIPS, FRAMES = 48, 24  # clips taken (evenly from all), frames kept of each

log = logging.getLogger(__name__)


def load_recorded_expressions(
    folder: str | Path,
    names: Sequence[str],
    clips: Sequence[str | Path] = (),
    progress: resumable.Progress = resumable.no_progress,
    cancelled: resumable.Cancelled = resumable.always_false,
) -> Tensor | None:
    """[K,52] ARKit scores kept in `folder`, read off `clips` (videos or folders of them) when those are new to it.

    Without `clips` the bank that is there, or None. Raises UserError for unreadable clips or an unwritable folder.
    """
    path = Path(folder) / FILE
    wanted = None
    if clips:
        from dgtalker.video.source import list_videos

        videos = list_videos([Path(c) for c in clips])
        chosen = [videos[i] for i in np.unique(np.linspace(0, len(videos) - 1, MAX_CLIPS).round().astype(int))]
        wanted = {"clips": [[v.name, v.stat().st_size] for v in chosen], "names": list(names), "frames": FRAMES}
    try:
        tensors, values = resumable.load_state(path)
        if wanted is None and values.get("names") != list(names):
            raise UserError(f"'{path}' is of another head template; name its clips again with --performances.")
        if wanted is None or values == wanted:
            return tensors["expressions"]
    except FileNotFoundError:
        if wanted is None:
            return None
    bank = _read(chosen, tuple(names), progress, cancelled)
    resumable.save_state(path, {"expressions": bank}, wanted)
    return bank


def _read(clips: list[Path], names: tuple[str, ...], progress, cancelled) -> Tensor:
    from dgtalker.people.talking_videos import read_performance
    from dgtalker.video.landmarks import Landmarker, usage_reports_blocked

    kept = []
    with usage_reports_blocked(), Landmarker(None, max_faces=1) as landmarker:
        for done, clip in enumerate(clips):
            if cancelled():
                raise resumable.TrainingStopped("Stopped; the same command again continues.")
            progress(done, len(clips), f"performances: {clip.stem}")
            try:
                scores = read_performance(clip, names, landmarker).expressions
            except UserError as error:
                log.warning("%s", error)
                continue
            kept.append(scores[np.unique(np.linspace(0, len(scores) - 1, FRAMES).round().astype(int))])
    progress(len(clips), len(clips), "performances")
    if not kept:
        raise UserError("No clip of --performances shows a face.")
    return torch.from_numpy(np.concatenate(kept)).float()
