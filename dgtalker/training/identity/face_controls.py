"""Face controls of an identity, from its tuned generator: the response of W to the template's 52 face units.

A control is a mixture of face units (ARKit's). Its latent step is known, because w holds the units' scores; the
generator shows what the person's head makes of it. The change of the splats is kept in its own half of the face, as in
RegionalHead, and becomes one row of FaceControls for each splat that moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.errors import UserError
from dgtalker.gaussians import Gaussians
from dgtalker.head.baked import ATTRIBUTES, BakedHead, baked_from_gaussians
from dgtalker.head.face_controls import FaceControl, FaceControls
from dgtalker.head.generator import Generator
from dgtalker.head.w_plus import WPlusGenerator
from dgtalker.metrics import EYES, region_change
from dgtalker.training.identity.regional_head import APPEARANCE, BLENDED_ATTRIBUTES, RegionalHead
from dgtalker.training.stage import Stage

# The ARKit scores of each control at 1. "*" stands for Left and Right; left is the head's own left.
FACE_UNITS: dict[FaceControl, dict[str, float]] = {
    FaceControl("smile", "Smile", "lower"): {"mouthSmile*": 0.75, "cheekSquint*": 0.35, "mouthDimple*": 0.15},
    FaceControl("frown", "Mouth corners down", "lower"): {"mouthFrown*": 1.0, "mouthShrugLower": 0.3},
    FaceControl("lips_pressed", "Lips pressed", "lower"): {
        "mouthPress*": 0.6,
        "mouthRollLower": 0.5,
        "mouthRollUpper": 0.4,
    },
    FaceControl("cheeks_puffed", "Cheeks puffed", "lower"): {"cheekPuff": 1.0},
    FaceControl("jaw_left", "Jaw left", "lower"): {"jawLeft": 1.0},
    FaceControl("jaw_right", "Jaw right", "lower"): {"jawRight": 1.0},
    FaceControl("nose_wrinkle", "Nose wrinkled", "lower"): {
        "noseSneer*": 1.6,
        "mouthUpperUp*": 0.35,
        "mouthShrugLower": 0.5,
    },
    FaceControl("brows_up", "Brows up", "upper"): {"browInnerUp": 0.8, "browOuterUp*": 0.75},
    FaceControl("brows_down", "Brows down", "upper"): {"browDown*": 0.9},
    FaceControl("squint", "Squint", "upper", "move"): {"eyeSquint*": 1.0, "cheekSquint*": 0.15},
    FaceControl("wide_eyes", "Wide eyes", "upper", "move"): {"eyeWide*": 0.9},
    FaceControl("gaze_left", "Gaze left", "upper"): {"eyeLookOutLeft": 0.65, "eyeLookInRight": 0.65},
    FaceControl("gaze_right", "Gaze right", "upper"): {"eyeLookInLeft": 0.65, "eyeLookOutRight": 0.65},
    FaceControl("gaze_up", "Gaze up", "upper", "move"): {"eyeLookUp*": 1.0},
    FaceControl("gaze_down", "Gaze down", "upper", "move"): {"eyeLookDown*": 0.8},
    FaceControl("wink_left", "Wink left", "upper", "close"): {"eyeBlinkLeft": 1.0, "cheekSquintLeft": 0.2},
    FaceControl("wink_right", "Wink right", "upper", "close"): {"eyeBlinkRight": 1.0, "cheekSquintRight": 0.2},
}


@dataclass(frozen=True)
class FaceControlsBakingConfig:
    """Distillation of the face controls."""

    moved_mm: float = 0.3  # splats that a control moves less are left out ...
    recolored: float = 0.03  # ... unless it changes their colour, times opacity, by more than this
    # The same for heads of more than `large_head_splats`, whose folder would exceed 12 MiB.
    large_head_splats: int = 30_000
    large_head_moved_mm: float = 0.7
    large_head_recolored: float = 0.05
    shut_gap: float = 0.08  # gap of the lids that counts as shut, as a share of that at rest
    recess_mm: float = 2.0  # how far an eyeball moves back while its lids shut: they cross it on a straight line
    # Bounds of the changes at 1: a splat may collapse or turn about where the surface folds.
    log_scale_range: tuple[float, float] = (-1.5, 0.7)
    max_turn: float = 1.5  # radians
    max_logit: float = 3.0


@torch.no_grad()
def bake_face_controls(
    head: RegionalHead, baked: BakedHead, config: FaceControlsBakingConfig, stage: Stage
) -> FaceControls:
    """The face controls of `baked`, whose canonical head is that of `head`, with figures (see measure_controls).

    Raises UserError if the baked head is not made of the generator's splats.
    """
    texels = find_texels(baked, head)
    rest = {name: getattr(baked, f"mean_{name}") for name in ATTRIBUTES}
    opacity = rest["logit_opacities"].sigmoid()[:, 0]
    at_rest = head.generator.attributes(head.navigation.w_can[None])
    moved_mm, recolored = config.moved_mm, config.recolored
    if baked.count > config.large_head_splats:
        moved_mm, recolored = config.large_head_moved_mm, config.large_head_recolored
    found, splats, changes = [], [], []
    for number, (control, units) in enumerate(FACE_UNITS.items()):
        stage.report(0.8 * number / len(FACE_UNITS), f"face control {control.name}")
        if control.lids == "close":
            units = shut_lids(head, units, config.shut_gap)
        steps = torch.stack([expression_step(head, units, amount) for amount in (0.5, 1.0)])
        moved = baked_from_gaussians(move_region(head, at_rest, steps, control.region)[:, texels], baked.base_quats)
        # the straight line from rest that is nearest to the changes at one half and at one
        change = {name: (0.5 * (moved[name][0] - at) + (moved[name][1] - at)) / 1.25 for name, at in rest.items()}
        if control.lids == "close":
            part = baked.part == head.generator.template.part_names.index(f"eyeball_{control.name.split('_')[1]}")
            change["means"][part, 2] -= config.recess_mm / 100
        change["log_scales"] = change["log_scales"].clamp(*config.log_scale_range)
        turn = change["axis_angles"].norm(dim=-1, keepdim=True).clamp_min(1e-9)
        change["axis_angles"] = change["axis_angles"] * (config.max_turn / turn).clamp(max=1)
        change["logit_opacities"] = change["logit_opacities"].clamp(-config.max_logit, config.max_logit)
        far = change["means"].norm(dim=-1) > moved_mm / 100
        kept = (far | (change["colors"].abs().amax(-1) * opacity > recolored)).nonzero()[:, 0]
        found.append(replace(control, splats=len(kept)))
        splats.append(kept)
        changes.append({name: value[kept] for name, value in change.items()})
    controls = FaceControls(found).to(baked.base_quats.device)
    controls.splats.copy_(torch.cat(splats))
    for name in ATTRIBUTES:
        getattr(controls, f"change_{name}").copy_(torch.cat([change[name] for change in changes])[None])
    stage.report(0.8, "leakage of the face controls")
    return measure_controls(controls, baked, stage)


def shut_lids(head: RegionalHead, units: dict[str, float], gap: float) -> dict[str, float]:
    """`units` with as much of eyeBlink as leaves `gap` of the opening between the lids of the canonical head."""
    plain = _plain_generator(head)
    unit = next(name for name in units if name.startswith("eyeBlink"))
    pairs, _ = EYES[0 if unit.endswith("Right") else 1]

    def opening(amount: float) -> float:
        w = head.navigation.w_can + expression_step(head, {unit: amount}, 1.0)
        points = plain.template.landmarks(plain.vertices(w[None, : plain.w_dim])[0])
        return float(np.mean([float(points[upper, 1] - points[lower, 1]) for upper, lower in pairs]))

    at_rest, shut = opening(0.0), opening(1.0)
    amount = (1 - gap) * at_rest / max(at_rest - shut, 1e-6)
    return {**units, unit: min(max(amount, 0.3), 1.0)}


def expression_step(head: RegionalHead, units: dict[str, float], amount: float) -> Tensor:
    """The step [W] from the anchor that adds `amount` of the face units; none beyond 1 or its own score."""
    plain = _plain_generator(head)
    names = list(plain.template.expression_names)
    anchor = plain.geometry_from_w(head.navigation.w_can[: plain.w_dim])[1]
    added = torch.zeros_like(anchor)
    for pattern, score in units.items():
        for name in {pattern.replace("*", side) for side in ("Left", "Right")}:
            k = names.index(name)
            added[k] = amount * min(score, max(max(1.0, score) - float(anchor[k]), 0.0))
    step = torch.zeros_like(plain.w_mean)
    step[plain.slices["expression"]] = added / plain.expression_std
    return head.generator.to_w_plus(step) if isinstance(head.generator, WPlusGenerator) else step


def _plain_generator(head: RegionalHead) -> Generator:
    return head.generator.generator if isinstance(head.generator, WPlusGenerator) else head.generator


@torch.no_grad()
def move_region(head: RegionalHead, at_rest: dict[str, Tensor], steps: Tensor, region: str) -> Gaussians:
    """Splats [B, N] of the canonical head, whose region alone follows the latent steps [B, W] from `at_rest`."""
    gain = head.gains[0 if region == "upper" else 1]
    attributes = head.generator.attributes(head.navigation.w_can + steps)
    out = {"rest_quats": attributes["rest_quats"]}
    for name in BLENDED_ATTRIBUTES:
        rest, moved = at_rest[name], attributes[name]
        own = gain * head.appearance_gain if name in APPEARANCE and region == "upper" else gain
        out[name] = rest + own.view(-1, *[1] * (rest.ndim - 2)) * (moved - rest)
    return Generator.gaussians_from_attributes(out)


@torch.no_grad()
def find_texels(baked: BakedHead, head: RegionalHead) -> Tensor:
    """Indices [N] of the generator's splats that the baked head consists of, found by their places at rest.

    Raises UserError if they are not the generator's.
    """
    from scipy.spatial import KDTree

    canonical = head.generator(head.navigation.w_can[None])[0].means.cpu().numpy()
    distance, texels = KDTree(canonical).query(baked.get_buffer("mean_means").cpu().numpy())
    if distance.max() > 1e-3 or len(np.unique(texels)) != len(texels):
        raise UserError("The baked head was not made by this generator: its splats are not where the generator's are.")
    return torch.from_numpy(texels)


def measure_controls(
    controls: FaceControls, baked: BakedHead, stage: Stage, size: int = 256, yaw: float = 10.0
) -> FaceControls:
    """The controls with `own` and `leakage` of each: mean change of the picture at 1 in either half of the face.

    The halves are seen from `yaw` degrees: pictures of the splats' region weights, as the data sets' masks are soft.
    """
    camera = Camera.stack([orbit_camera(yaw=yaw, size=size)]).to(baked.base_quats.device)
    zero = torch.zeros(baked.coefficients, device=baked.base_quats.device)

    def picture(values: Tensor | None) -> np.ndarray:
        changes = None if values is None else controls.changes(values)
        return stage.render(baked(zero, changes), camera)[0][0].clamp(0, 1).mul(255).cpu().numpy()

    splats = baked(zero)
    colors = torch.stack([baked.upper_weight, baked.lower_weight, 0 * baked.lower_weight], dim=-1)
    halves = stage.render(replace(splats, colors=colors), camera)[0][0] - (1 - stage.render(splats, camera)[1][0])
    masks = [halves[..., k].clamp(0, 1).cpu().numpy() for k in (0, 1)]  # the white ground taken off
    rest, measured = picture(None), []
    for k, control in enumerate(controls.controls):
        moved = picture(torch.eye(len(controls.names), device=zero.device)[k])
        upper, lower = (region_change(moved, rest, mask) for mask in masks)
        own, other = (upper, lower) if control.region == "upper" else (lower, upper)
        leakage = round(other / own, 4) if own > 1e-6 else None
        measured.append(replace(control, own=round(own, 3), leakage=leakage))
    controls.controls = tuple(measured)
    return controls
