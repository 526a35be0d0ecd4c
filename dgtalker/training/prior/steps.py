"""Training steps of the prior: draw a global batch, take this process's share of it, return its weighted losses.

Losses are means over a batch. Those of a share are weighted by its size: summed over processes they are the losses of
the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from dgtalker.head.generator import Generator
from dgtalker.metrics.image_loss import image_loss
from dgtalker.people.target_cache import TexelTargets, Views
from dgtalker.render import render
from dgtalker.training.prior.distributed import ProcessGroup
from dgtalker.training.prior.losses import TotalVariation, regularisation_losses, uv_loss

UV_EVERY, UV_WEIGHT = 4, 0.2  # steps between UV losses in the image stage, and their weight


def latents_with_expressions(
    generator: Generator, w_rest: Tensor, expressions: Tensor
) -> Tensor:  # [B,W], [B,52] -> [B,W]
    """Latents of people at rest (`w_rest`) with ARKit scores set, on the generator's device."""
    w = w_rest.to(generator.w_mean.device, copy=True)
    w[:, generator.slices["expression"]] = expressions.to(w) / generator.expression_std
    return w


class PriorBatches:
    """Random batches of people and their losses, in the UV map and in pictures."""

    def __init__(
        self,
        generator: Generator,
        people: Sequence[TexelTargets],
        pictures: Sequence[Views],
        w_rest: Tensor,  # [P,W]
        rng: np.random.Generator,
        processes: ProcessGroup,
    ):
        self.generator, self.people, self.pictures, self.w_rest = generator, people, pictures, w_rest
        self.rng, self.processes = rng, processes
        self.variation = TotalVariation(generator)

    def uv_losses(self, batch: int) -> dict[str, Tensor]:
        """Losses in the UV map of `batch` random people; empty, if this process has no share of them."""
        who = self.rng.integers(len(self.people), size=batch)
        face = self.rng.integers(len(self.people[0].expressions), size=batch)
        mine = self.processes.take_share(list(zip(who.tolist(), face.tolist(), strict=True)))
        if not mine:
            return {}
        some = [(self.people[i], k) for i, k in mine]
        device = self.generator.w_mean.device
        w = latents_with_expressions(
            self.generator,
            self.w_rest[[i for i, _ in mine]],
            torch.stack([person.expressions[k] for person, k in some]),
        )
        losses = uv_loss(
            self.generator,
            self.generator.attributes(w, return_residuals=True),
            torch.stack([person.positions[k] for person, k in some]).to(device).float(),
            torch.stack([person.color for person, _ in some]).to(device).float() / 255,
            torch.stack([person.opacity for person, _ in some]).to(device).float() / 255,
        )
        return {name: value * (len(mine) / batch) for name, value in losses.items()}

    def image_losses(self, step: int, batch: int, views_per_step: int) -> dict[str, Tensor]:
        """Losses in pictures of `batch` random people, and every UV_EVERY steps in the UV map of others."""
        chosen = []
        for _ in range(batch):
            person = int(self.rng.integers(len(self.pictures)))
            views = self.pictures[person]
            face = int(self.rng.integers(len(views.expressions)))
            of_face = (views.expression_index == face).nonzero()[:, 0].numpy()
            chosen.append((person, views, face, torch.from_numpy(self.rng.permutation(of_face)[:views_per_step])))
        parts = self._render_losses(self.processes.take_share(chosen), batch)
        if step % UV_EVERY == 0:  # holds the splats on the true surface, above all where no picture shows them
            uv = self.uv_losses(batch)
            parts |= {"uv": UV_WEIGHT * uv["loss"]} if uv else {}
        return {"loss": reduce(torch.add, parts.values()), **parts} if parts else {}

    def _render_losses(self, mine: Sequence[tuple[int, Views, int, Tensor]], batch: int) -> dict[str, Tensor]:
        if not mine:
            return {}
        generator = self.generator
        device, share = generator.w_mean.device, len(mine) / batch
        w = latents_with_expressions(
            generator,
            self.w_rest[[person for person, *_ in mine]],
            torch.stack([views.expressions[face] for _, views, face, _ in mine]),
        )
        attributes = generator.attributes(w, return_residuals=True)
        gaussians = generator.gaussians_from_attributes(attributes)
        image = torch.zeros((), device=device)
        for item, (_, views, _, pick) in enumerate(mine):
            pictures, _ = render(gaussians[item], views.cameras[pick].to(device))
            target = views.images(pick).to(device).float() / 255
            image = image + image_loss(pictures, target) / batch
        regular = regularisation_losses(generator, attributes, self.variation)
        return {"image": image, **{name: value * share for name, value in regular.items()}}
