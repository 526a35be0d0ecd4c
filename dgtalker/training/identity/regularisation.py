"""The end of tuning: what no picture shows goes back to the prior, what is seen aslant only takes its kind's colour."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from dgtalker.head.generator import Generator

KEEP = 1.5  # a splat this many times less than fully seen keeps what it learned
HAIR_THERE = 0.5  # opacity from which a splat of the hair shell counts as hair
SCALP_DEPTH = 0.12  # decimetres under the hair shell that hair covers
REACH = 0.35  # decimetres within which splats of a kind lend each other colour
FEWEST = 20  # splats seen well without which a kind has no colour to lend
HUE, LIGHT = 0.4, 0.8  # standard deviations of the kind's colours nearby that one seen aslant may differ by
MIDST = (0.5, 0.7)  # share of its surroundings seen well from which a splat belongs to a face's front, and surely does
LEAST = 0.01  # standard deviation that is granted everywhere


@torch.no_grad()
def restore_unseen(generator: Generator, old: Generator, w_can: Tensor, seen: Tensor) -> None:
    """After tuning, give splats that the pivots do not show (1 - seen) back to the prior, in the person's colours.

    Places, shapes and opacities return to the old generator's; colours become the mean of seen splats of their kind
    nearby plus half of the old texture. Hair that is mostly there is made opaque, wisps go, and the scalp under opaque
    hair takes the hair's colour, so that nothing bald shines through where no picture looked.
    """
    names = list(generator.template.part_names)
    outer = torch.isin(generator.texel_part, seen.new_tensor([names.index("skin"), names.index("hair")]).long())
    # Eyes and the inside of the mouth are shown now and then, not by every pivot: they keep what they learned.
    kept = torch.where(outer, (KEEP * seen).clamp(0, 1), torch.ones_like(seen))
    for name in ("offset_mean", "log_scale_mean", "axis_angle_mean", "logit_opacity_mean"):
        new, before = getattr(generator, name), getattr(old, name)
        weight = kept if new.ndim == 1 else kept[:, None]
        new.copy_(before + weight * (new - before))
    before, after = old.attributes(w_can[None]), generator.attributes(w_can[None])
    means, colors, opacity = before["means"][0], after["colors"][0], after["logit_opacities"][0].sigmoid()
    hair = torch.zeros_like(seen, dtype=torch.bool).index_fill(0, generator.hair_texels, True)
    covers = (hair & (opacity > HAIR_THERE)).nonzero()[:, 0]
    skin = generator.texel_part == names.index("skin")
    scalp = skin & _covered(means, covers) & (kept < 0.5)
    solid = hair & (opacity > HAIR_THERE)
    for kind, source in ((hair, solid), (skin & ~scalp, skin & ~scalp), (scalp, solid)):
        mine, known = kind.nonzero()[:, 0], (source & (kept > 0.5)).nonzero()[:, 0]
        if len(known) < FEWEST or not len(mine):
            continue
        weight, known = _near(means, mine, known)
        texture = 0.5 * (before["colors"][0][mine] - weight @ before["colors"][0][known]) if kind is not scalp else 0.0
        wanted = weight @ colors[known] + texture
        generator.color_mean[mine] += (1 - kept[mine])[:, None] * (wanted - colors[mine])
    real = (opacity > HAIR_THERE) & ~find_floaters(means, solid)
    there = torch.where(real, torch.full_like(opacity, 3.0), torch.full_like(opacity, -6.0))
    change = (1 - kept) * (there - after["logit_opacities"][0])
    generator.logit_opacity_mean += torch.where(hair, change, torch.zeros_like(change))


def find_floaters(means: Tensor, solid: Tensor, reach: float = 0.15, fewest: int = 12) -> Tensor:
    """[N] bool: splats of `solid` [N] hair that hang in the air, with few others within `reach` decimetres, and what
    hangs on to those."""
    left = solid.nonzero()[:, 0].cpu()
    places = means.detach().cpu().numpy()
    while len(left):
        near = cKDTree(places[left]).query_ball_point(places[left], reach, return_length=True)
        if (near >= fewest).all():
            break
        left = left[torch.from_numpy(near >= fewest)]
    alone = solid.clone()
    alone[left.to(solid.device)] = False
    return alone


@torch.no_grad()
def regularise_grazing_colors(generator: Generator, w_can: Tensor, square: Tensor) -> None:
    """Skin and hair that no picture shows squarely (1 - square [N]) keep a colour that is usual for their kind nearby.

    At a head's sides a splat is seen edge-on: what lies behind it shines through the matte, and tuning paints it into
    blotches that only another view shows. Hue and lightness are limited in standard deviations around the mean of the
    well-seen ones; the texture within stays. Lips, nostrils and lids have faces that look aside in the midst of others
    that are seen well: they keep their colours.
    """
    after = generator.attributes(w_can[None])
    means, colors, opacity = after["means"][0], after["colors"][0], after["logit_opacities"][0].sigmoid()
    kept = (KEEP * square).clamp(0, 1)
    hair = torch.zeros_like(square, dtype=torch.bool).index_fill(0, generator.hair_texels, True)
    solid = hair & (opacity > HAIR_THERE)
    skin = generator.texel_part == list(generator.template.part_names).index("skin")
    face = skin & ~_covered(means, solid.nonzero()[:, 0])
    for kind, source in ((hair, solid), (face, face)):
        mine, known = kind.nonzero()[:, 0], (source & (kept > 0.9)).nonzero()[:, 0]
        if len(known) < FEWEST or not len(mine):
            continue
        around, some = _near(means, mine, mine)
        spared = ((around @ kept[some] - MIDST[0]) / (MIDST[1] - MIDST[0])).clamp(0, 1)
        weight, known = _near(means, mine, known)
        usual = torch.zeros_like(colors[mine])
        for own, lent, most in zip(
            _light_and_hue(colors[mine]), _light_and_hue(colors[known]), (LIGHT, HUE), strict=True
        ):
            mean = weight @ lent
            spread = (weight @ lent.square() - mean.square()).sum(dim=-1, keepdim=True).clamp_min(0).sqrt() + LEAST
            size = (own - mean).norm(dim=-1, keepdim=True).clamp_min(1e-6)
            usual += mean + (own - mean) * (most * spread / size).clamp(max=1)
        generator.color_mean[mine] += (1 - torch.maximum(kept[mine], spared))[:, None] * (usual - colors[mine])


def _covered(means: Tensor, hair: Tensor) -> Tensor:
    """[N] bool: splats close to one of splats `hair` [M], as the scalp is."""
    if not len(hair):
        return torch.zeros_like(means[:, 0], dtype=torch.bool)
    return torch.cdist(means, means[hair]).min(dim=1).values < SCALP_DEPTH


def _light_and_hue(colors: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the channels [N, 1], and the colours [N, 3] without it."""
    light = colors.mean(dim=-1, keepdim=True)
    return light, colors - light


def _near(means: Tensor, mine: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [M, L] by which splats `mine` [M] take after L <= 2000 of the splats `known`, and those; far from
    everything all count alike."""
    known = known[torch.linspace(0, len(known) - 1, min(2000, len(known))).long()]
    weight = (-torch.cdist(means[mine], means[known]).square() / (2 * REACH**2)).exp() + 1e-4
    return weight / weight.sum(dim=1, keepdim=True), known
