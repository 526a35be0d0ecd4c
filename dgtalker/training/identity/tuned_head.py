"""Load the inverted and tuned head from the work folder of a create-identity run, to train navigation on it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dgtalker.errors import UserError
from dgtalker.files import file_sha256
from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.navigation.warm_start import Response
from dgtalker.resumable import load_state, select_prefix
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.training.identity.inversion import tracked_deviation
from dgtalker.training.identity.response import measure_splat_response

STAGE_FILES = ("tuning.safetensors", "all_frames.safetensors")


@dataclass(frozen=True)
class TunedHead:
    """One person's tuned generator and the latents of the training frames."""

    generator: Generator | WPlusGenerator  # tuned, frozen
    w_can: Tensor  # [W] the anchor
    deviations: Tensor  # [T, W] of all frames, whitened
    seen: Tensor  # [N] in 0..1: how visible each splat is
    digest: str  # SHA-256 of the files it was read from

    @staticmethod
    def load(work: Path, prior_folder: Path, frames: DatasetFrames) -> TunedHead:
        """Read `work` (NAME.work), onto the frames' device.

        Raises UserError if stages are missing, or were made from another prior or another data set.
        """
        try:
            tuned, latents = (load_state(work / name)[0] for name in STAGE_FILES)
        except FileNotFoundError as error:
            raise UserError(
                f"{work} is not the work folder of a create-identity run that has tuned a head: "
                f"it has no {Path(str(error)).name}."
            ) from None
        generator = Generator.from_pretrained(prior_folder).to(frames.device)
        pivots, deviations = select_prefix("pivots", tuned), latents["deviations"].to(frames.device)
        if len(deviations) != len(frames) or not _same_tracking(generator, frames, pivots):
            raise UserError(f"{work} was made from another data set than {frames.dataset.folder}.")
        try:
            generator.load_state_dict(select_prefix("generator", tuned))
        except RuntimeError:
            raise UserError(f"{work} was made from another prior than {prior_folder}; name it with --prior.") from None
        generator.requires_grad_(False).eval()
        digest = hashlib.sha256("".join(file_sha256(work / name) for name in STAGE_FILES).encode()).hexdigest()
        w_can, seen = pivots["w_can"].to(frames.device), tuned["seen"].to(frames.device)
        return TunedHead(generator, w_can, deviations, seen, digest)

    @cached_property
    def response(self) -> Response:
        """How its splats respond to steps in the latent."""
        return measure_splat_response(self.generator, self.w_can, self.seen, self.deviations)

    @cached_property
    def in_w_plus(self) -> TunedHead:
        """The same head with latents in W+; itself, if they are already."""
        if isinstance(self.generator, WPlusGenerator):
            return self
        layered = WPlusGenerator(self.generator)
        return replace(
            self, generator=layered, w_can=layered.to_w_plus(self.w_can), deviations=layered.to_w_plus(self.deviations)
        )


def _same_tracking(generator: Generator, frames: DatasetFrames, pivots: dict[str, Tensor]) -> bool:
    """Whether the frames' tracked expressions are those that inversion started from; True where that is unknown."""
    index, tracked = pivots["index"].tolist(), pivots["tracked"]
    if max(index) >= len(frames):
        return False
    found = tracked_deviation(generator, frames, index).cpu()
    return found.shape != tracked.shape or torch.allclose(found, tracked, atol=1e-3)  # other shapes: another prior
