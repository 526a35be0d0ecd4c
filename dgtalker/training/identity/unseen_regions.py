"""Regularisation at the end of tuning, for the sides that a video hardly shows.

Unseen splats return to the prior in the person's colours; what one side shows is mirrored to the other; colours seen
edge-on, or mixed with the background where the neck fades out, become usual ones.
"""

from __future__ import annotations

import torch
from scipy.spatial import KDTree
from torch import Tensor

from dgtalker.head.generator import Generator

KEEP_GAIN = 1.5  # a splat seen to 1 / KEEP_GAIN keeps all that it learned
HAIR_OPACITY = 0.5  # opacity from which a splat of the hair shell counts as hair
SCALP_DEPTH = 0.12  # decimetres under hair within which skin is covered by it
COLOR_REACH = 0.35  # decimetres, standard deviation of the weights by which colours of nearby splats count
MIN_SEEN = 20  # well-seen splats that a kind needs to give the others its colour
MAX_HUE, MAX_LIGHTNESS = 0.4, 0.8  # allowed difference from the colours nearby, in their standard deviations
FRONT = (0.5, 0.7)  # share of well-seen splats around one from which it begins to count, and counts, as frontal
MIRROR_REACH = 0.06  # decimetres between a splat and the mirror image of its partner
MIRROR_SMOOTHING = 600  # a share of 1 / 600 of the splats is a neighbourhood: over it is averaged how well they show
LIGHT_REACH = 0.5  # decimetres, standard deviation of the weights by which the sides' difference in light is averaged
HEM = 0.1, 0.35  # decimetres above the cut of the neck below which colours count as unseen, above which as they are
SURE = 0.9, 0.5  # shares of a splat's visibility from which its colour serves the others: the first with enough of them
MAX_STRAND = 0.05  # the largest difference of unseen hair from the colour of seen hair
MIN_STD = 0.01  # lower bound of the colours' standard deviation


@torch.no_grad()
def restore_unseen(generator: Generator, old: Generator, w_can: Tensor, seen: Tensor) -> None:
    """After tuning, return splats that the pivots do not show (1 - seen [N]) to the prior, in the person's colours.

    Positions, shapes and opacities become those of the old generator. Colours become the mean of nearby seen splats of
    the same kind plus half of the old texture. Hair splats are made opaque, or clear where they are faint or floaters.
    Scalp under opaque hair takes the colour of the hair, so that no skin shines through.
    """
    names = list(generator.template.part_names)
    outer = torch.isin(generator.texel_part, seen.new_tensor([names.index("skin"), names.index("hair")]).long())
    # Eyes and the inside of the mouth are shown by some pivots only: they keep what they learned.
    kept = torch.where(outer, (KEEP_GAIN * seen).clamp(0, 1), torch.ones_like(seen))
    for name in ("offset_mean", "log_scale_mean", "axis_angle_mean", "logit_opacity_mean"):
        new, before = getattr(generator, name), getattr(old, name)
        weight = kept if new.ndim == 1 else kept[:, None]
        new.copy_(before + weight * (new - before))
    before, after = old.attributes(w_can[None]), generator.attributes(w_can[None])
    means, colors, opacity = before["means"][0], after["colors"][0], after["logit_opacities"][0].sigmoid()
    hair = torch.zeros_like(seen, dtype=torch.bool).index_fill(0, generator.hair_texels, True)
    covers = (hair & (opacity > HAIR_OPACITY)).nonzero()[:, 0]
    skin = generator.texel_part == names.index("skin")
    scalp = skin & _is_near_hair(means, covers) & (kept < 0.5)
    solid = hair & (opacity > HAIR_OPACITY)
    for kind, source in ((hair, solid), (skin & ~scalp, skin & ~scalp), (scalp, solid)):
        mine = kind.nonzero()[:, 0]
        known = next((k for least in SURE if len(k := (source & (kept > least)).nonzero()[:, 0]) >= MIN_SEEN), None)
        if known is None or not len(mine):
            continue
        weight, known = _neighbour_weights(means, mine, known)
        texture = 0.5 * (before["colors"][0][mine] - weight @ before["colors"][0][known])
        if kind is hair:  # the prior's partings are light lines
            texture = texture.clamp(-MAX_STRAND, MAX_STRAND)
        wanted = weight @ colors[known] + (0.0 if kind is scalp else texture)
        generator.color_mean[mine] += (1 - kept[mine])[:, None] * (wanted - colors[mine])
    real = (opacity > HAIR_OPACITY) & ~find_floaters(means, solid)
    target = torch.where(real, torch.full_like(opacity, 3.0), torch.full_like(opacity, -6.0))
    change = (1 - kept) * (target - after["logit_opacities"][0])
    generator.logit_opacity_mean.add_(torch.where(hair, change, torch.zeros_like(change)))


@torch.no_grad()
def mirror_colors(generator: Generator, w_can: Tensor, frontal: Tensor) -> Tensor:
    """Skin and hair that no picture shows frontally take the colours of the other side, where that one is shown.

    Heads are nearly symmetric: a sideburn or a beard on one side tells more about the other than the mean of what is
    nearby. Light is not: the difference between the sides is added, averaged over pairs that are both shown. Hair takes
    the other side's opacity too, and where neither side shows it the mean one of its neighbours. frontal [N] says how
    frontally each splat is shown; returned is the same with what is known by now.
    """
    after = generator.attributes(w_can[None])
    colors, opacity = after["colors"][0], after["logit_opacities"][0]
    places = generator.surface.positions(generator.vertices(w_can[None]))[0]
    kept = (KEEP_GAIN * frontal).clamp(0, 1) * _above_hem(generator, places)
    hair = torch.zeros_like(frontal, dtype=torch.bool).index_fill(0, generator.hair_texels, True)
    skin = generator.texel_part == list(generator.template.part_names).index("skin")
    flip = places.new_tensor([-1.0, 1.0, 1.0])
    for kind in (skin, hair):
        mine = kind.nonzero()[:, 0]
        tree, points = KDTree(places[mine].cpu().numpy()), places[mine].cpu().numpy()
        distance, nearest = tree.query(points * flip.cpu().numpy())
        around = torch.from_numpy(tree.query(points, max(8, len(mine) // MIRROR_SMOOTHING))[1]).to(mine.device)
        shown = kept[mine][around].mean(dim=1)  # where sides meet, neighbours go together
        nearest = torch.from_numpy(nearest).to(mine.device)
        partner, own, other = mine[nearest], shown, shown[nearest]
        both = (own > 0.9) & (other > 0.9)
        near = torch.from_numpy(distance < MIRROR_REACH).to(own)
        share = ((other - own) / 0.5).clamp(0, 1) * near
        difference = torch.zeros_like(colors).index_copy(0, mine, colors[mine] - colors[partner])
        light = torch.zeros_like(colors[mine])
        for side in (places[mine, 0] > 0, places[mine, 0] <= 0):
            if not len(pairs := mine[both & side]):
                share = share * ~side
                continue
            weight, known = _neighbour_weights(places, mine[side], pairs, LIGHT_REACH)
            light[side] = weight @ difference[known]
        generator.color_mean[mine] += share[:, None] * (colors[partner] + light - colors[mine])
        if kind is hair:
            wanted = opacity[mine].lerp(opacity[partner], share)
            usual = wanted[around].sigmoid().mean(dim=1).clamp(1e-3, 1 - 1e-3).logit()  # no dots beside the ears
            sure = torch.maximum(shown, share)
            generator.logit_opacity_mean[mine] += usual.lerp(wanted, sure) - opacity[mine]
            sizes = after["log_scales"][0][mine]
            larger = sizes.maximum(sizes[around].mean(dim=1))
            generator.log_scale_mean[mine] += (1 - sure)[:, None] * (larger - sizes)
        kept[mine] = torch.maximum(kept[mine], share)
    return kept / KEEP_GAIN


def _above_hem(generator: Generator, places: Tensor) -> Tensor:
    """[N] 0 near the cut of the neck, where the head fades into the background, rising to 1; places [N, 3]."""
    *normal, offset = generator.template.neck_plane
    normal = places.new_tensor(normal)
    distance = (places @ normal + offset) / normal.norm()
    return ((distance - HEM[0]) / (HEM[1] - HEM[0])).clamp(0, 1)


def find_floaters(means: Tensor, solid: Tensor, reach: float = 0.15, fewest: int = 12) -> Tensor:
    """Bool [N]: splats among `solid` [N] that have fewer than `fewest` others within `reach` decimetres.

    Repeated until none is left, so that chains of floaters are found too. means [N, 3].
    """
    left = solid.nonzero()[:, 0].cpu()
    places = means.detach().cpu().numpy()
    while len(left):
        near = KDTree(places[left]).query_ball_point(places[left], reach, return_length=True)
        if (near >= fewest).all():
            break
        left = left[torch.from_numpy(near >= fewest)]
    alone = solid.clone()
    alone[left.to(solid.device)] = False
    return alone


@torch.no_grad()
def regularise_grazing_colors(generator: Generator, w_can: Tensor, frontal: Tensor) -> None:
    """Limit colours of skin and hair that no picture shows frontally (1 - frontal [N]) to those usual nearby.

    At the sides of a head splats are seen edge-on: the background bleeds into them, and tuning turns it into blotches
    that only show in other views. Hue and lightness are limited in standard deviations around the mean of well-seen
    splats; texture within these limits stays. Splats of lips, nostrils and lids that face aside, among others that are
    seen well, keep their colours.
    """
    after = generator.attributes(w_can[None])
    means, colors, opacity = after["means"][0], after["colors"][0], after["logit_opacities"][0].sigmoid()
    kept = (KEEP_GAIN * frontal).clamp(0, 1)
    hair = torch.zeros_like(frontal, dtype=torch.bool).index_fill(0, generator.hair_texels, True)
    solid = hair & (opacity > HAIR_OPACITY)
    skin = generator.texel_part == list(generator.template.part_names).index("skin")
    face = skin & ~_is_near_hair(means, solid.nonzero()[:, 0])
    for kind, source in ((hair, solid), (face, face)):
        mine, known = kind.nonzero()[:, 0], (source & (kept > 0.9)).nonzero()[:, 0]
        if len(known) < MIN_SEEN or not len(mine):
            continue
        around, neighbours = _neighbour_weights(means, mine, mine)
        is_front = ((around @ kept[neighbours] - FRONT[0]) / (FRONT[1] - FRONT[0])).clamp(0, 1)
        weight, known = _neighbour_weights(means, mine, known)
        usual = torch.zeros_like(colors[mine])
        for own, seen_colors, limit in zip(
            _lightness_and_hue(colors[mine]), _lightness_and_hue(colors[known]), (MAX_LIGHTNESS, MAX_HUE), strict=True
        ):
            mean = weight @ seen_colors
            spread = (weight @ seen_colors.square() - mean.square()).sum(dim=-1, keepdim=True).clamp_min(
                0
            ).sqrt() + MIN_STD
            size = (own - mean).norm(dim=-1, keepdim=True).clamp_min(1e-6)
            usual += mean + (own - mean) * (limit * spread / size).clamp(max=1)
        generator.color_mean[mine] += (1 - torch.maximum(kept[mine], is_front))[:, None] * (usual - colors[mine])


def _is_near_hair(means: Tensor, hair: Tensor) -> Tensor:
    """Bool [N]: splats within SCALP_DEPTH of one of the splats `hair` [M]."""
    if not len(hair):
        return torch.zeros_like(means[:, 0], dtype=torch.bool)
    return torch.cdist(means, means[hair]).min(dim=1).values < SCALP_DEPTH


def _lightness_and_hue(colors: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the channels [N, 1], and the colours [N, 3] without it."""
    light = colors.mean(dim=-1, keepdim=True)
    return light, colors - light


def _neighbour_weights(means: Tensor, mine: Tensor, known: Tensor, reach: float = COLOR_REACH) -> tuple[Tensor, Tensor]:
    """Weights [M, L] of L <= 2000 of the splats `known` for splats `mine` [M], and the indices of those L.

    Weights fall with distance; far from all of them they are equal.
    """
    known = known[torch.linspace(0, len(known) - 1, min(2000, len(known))).long()]
    weight = (-torch.cdist(means[mine], means[known]).square() / (2 * reach**2)).exp() + 1e-4
    return weight / weight.sum(dim=1, keepdim=True), known
