"""Order, sign and name an identity's coefficients: the last step of create-identity, and of describe-identity.

1. Order: inside each branch, by the motion that one training standard deviation causes.
2. Sign: positive opens the mouth (lips) or raises brows and lids (expression); otherwise it is the named motion.
3. Name: from the displacement of the splats (motions.py).
4. Purity: the share of the picture's change in the coefficient's own face half (evaluation/leakage.py).
5. Range over the training clips. 6. A sheet of pictures.

Everything is measured on the baked head. Splats are matched to the template's texels (texel_matching.py); where that
fails, because the head has another template, every name is "mixed" and the rest is the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.assets import shipped_folder
from dgtalker.camera import Camera, orbit_camera
from dgtalker.coefficients.motions import MIXED, MotionMatch, named_motions, recognise_motion
from dgtalker.coefficients.texel_matching import MatchedTexels, match_texels
from dgtalker.errors import UserError
from dgtalker.evaluation.leakage import FaceStates, pixel_leakage
from dgtalker.head.template import HeadTemplate
from dgtalker.identity import CARD_FILE, Identity
from dgtalker.metrics import EYES, INNER_PAIRS
from dgtalker.report.cards.coefficients import replace_coefficients_section
from dgtalker.report.contact_sheets.coefficients import (
    CELL,
    LEFT,
    STEPS,
    TOP,
    draw_coefficient_sheet,
    render_coefficient_vector,
)

STEP = 2.0  # standard deviations either way at which motion is measured
MILLIMETRES = 100.0  # of a decimetre
BROWS, NOSE_BRIDGE = (105, 66, 334, 296), 168  # landmarks; the bridge of the nose moves only with the whole face
SIGNIFICANT = 0.3  # opening or raising relative to the coefficient's mean motion, from which it decides the sign
PERCENTILES = (2.5, 97.5)
STATES, STATE_STD, SIZE = 3, 0.7, 192  # states beside the canonical one at which purity is measured; pixels
EXAMPLES = shipped_folder("examples")  # voices, for identities whose training range is unknown
EXAMPLE_SECONDS = 12
TRAINING, VOICES, EXTREMES = "training clips", "example voices", "training extremes"
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class CoefficientMotion:
    """Motion that each coefficient causes, per training standard deviation."""

    displacement: Tensor  # [K, N, 3] dm
    weights: Tensor  # [N] visibility of each splat of the face from the front
    mean: Tensor  # [K] root mean square over the visible face, dm


@dataclass(frozen=True)
class NamedSplatMotions:
    """Named motions on a head: names [P] of positive and negative amounts, fields on its matched splats."""

    texels: MatchedTexels
    names: list[tuple[str, str]]
    fields: Tensor  # [P, M, 3]


def describe_coefficients(
    identity: Identity, ranges: np.ndarray | None = None, progress: Progress | None = None
) -> bytes:
    """Order, sign and describe the coefficients of `identity` in place; returns the sheet (WebP) to save with it.

    ranges [K, 2]: 2.5 and 97.5 percentiles of the present coefficients over the training clips. Without it: those of an
    earlier description, else of the example voices, else the training extremes. The description is written to
    identity.config["coefficients"]. Rendered speech does not change, only numbers and signs of the coefficients.
    """
    report = progress or (lambda fraction, message: None)
    report(0.0, "motion")
    ranges, origin = (np.asarray(ranges), TRAINING) if ranges is not None else find_ranges(identity)
    motion = measure_motion(identity)
    named = match_named_motions(identity)
    signs = choose_positive_direction(identity, motion, named)
    order = order_by_motion(motion.mean, identity.n_exp)
    identity.permute_coefficients(order, signs[order])
    signed_ranges = torch.where(signs[:, None] < 0, -torch.from_numpy(ranges).flip(-1), torch.from_numpy(ranges))[order]
    motion = CoefficientMotion(
        motion.displacement[order] * signs[order][:, None, None], motion.weights, motion.mean[order]
    )
    report(0.3, "purity")
    purity = measure_purity(identity)
    matches = [_recognise_coefficient(motion, k, named) for k in range(len(order))]
    opened = measure_opening(identity, motion, named)
    rows = []
    for k, (name, share) in enumerate(zip(distinct_names(matches), purity, strict=True)):
        rows.append(
            {
                "name": name,
                "match": round(_explained_share(matches[k], name), 3),
                "purity": None if share is None else round(share, 3),
                "low": round(float(signed_ranges[k, 0]), 2),
                "high": round(float(signed_ranges[k, 1]), 2),
                "motion_mm": round(MILLIMETRES * float(motion.mean[k]), 3),
                "opens_mm": None if opened is None else round(MILLIMETRES * float(opened[k]), 3),
            }
        )
    identity.config["coefficients"] = {
        "version": 1,
        "range_from": origin,
        "named_from": "none" if named is None else "baked geometry",
        "strip": {"steps": list(STEPS), "cell": CELL, "left": LEFT, "top": TOP},
        "exp": rows[: identity.n_exp],
        "lip": rows[identity.n_exp :],
    }
    report(0.6, "pictures")
    labels = identity.labels
    return draw_coefficient_sheet(identity, [labels[name] for name in (*identity.exp_names, *identity.lip_names)])


# -- motion -----------------------------------------------------------------------------------------------------------


def measure_motion(identity: Identity) -> CoefficientMotion:
    """Displacement per standard deviation of each coefficient, from the difference between -2 and 2 of them."""
    from dgtalker.head.splats import measure_visibility
    from dgtalker.render import render

    head, size = identity.head, identity.n_exp + identity.n_lip
    rest = head(torch.zeros(size, device=identity.device))
    views = Camera.stack([orbit_camera(yaw, size=SIZE) for yaw in (-20, 0, 20)]).to(identity.device)
    seen = measure_visibility(rest, views, render).detach() * (head.upper_weight + head.lower_weight).clamp(0, 1)
    displacement = []
    for k in range(size):
        step = torch.zeros(2, size, device=identity.device)
        step[0, k], step[1, k] = STEP, -STEP
        plus, minus = head.attributes(step)["means"]
        displacement.append((plus - minus) / (2 * STEP))
    moved = torch.stack(displacement).cpu()
    seen = seen.cpu()
    return CoefficientMotion(moved, seen, ((moved.square().sum(-1) * seen).sum(1) / seen.sum().clamp_min(1e-12)).sqrt())


def order_by_motion(mean: Tensor, n_exp: int) -> Tensor:
    """Indices [K] int64 that sort the coefficients of each branch by decreasing motion; ties keep their order."""
    exp, lip = (part.argsort(descending=True, stable=True) for part in (mean[:n_exp], mean[n_exp:]))
    return torch.cat([exp, lip + n_exp])


def match_named_motions(identity: Identity) -> NamedSplatMotions | None:
    """Named motions on this head, or None if its splats cannot be matched to the template."""
    template = HeadTemplate.load()
    texels = match_texels(identity.head, template)
    if texels is None:
        return None
    motions = named_motions(template)
    return NamedSplatMotions(texels, motions.names, texels.interpolate(motions.fields))


def measure_opening(identity: Identity, motion: CoefficientMotion, named: NamedSplatMotions | None) -> Tensor | None:
    """Opening [K], decimetres per standard deviation; None without matched splats at all landmarks.

    For lips: widening of the mouth. For expression: rise of the brows relative to the nose, plus widening of the eyes.
    """
    if named is None:
        return None
    texels = named.texels

    def height(numbers: Sequence[int]) -> Tensor:
        places = [texels.splats[texels.find_near_landmark(number)] for number in numbers]
        return torch.stack([motion.displacement[:, p, 1].mean(dim=1) for p in places]).mean(dim=0)

    mouth = height([a for a, _ in INNER_PAIRS]) - height([b for _, b in INNER_PAIRS])
    lids = [pair for pairs, _ in EYES for pair in pairs]
    eyes = height([a for a, _ in lids]) - height([b for _, b in lids])
    raised = eyes + height(BROWS) - height([NOSE_BRIDGE])
    found = torch.cat([raised[: identity.n_exp], mouth[identity.n_exp :]])
    return found if bool(found.isfinite().all()) else None


def choose_positive_direction(identity: Identity, motion: CoefficientMotion, named: NamedSplatMotions | None) -> Tensor:
    """Signs [K], +-1, with which coefficients open or raise, or else perform the motion that they are named after."""
    signs = torch.ones(len(motion.mean))
    opened = measure_opening(identity, motion, named)
    if named is None or opened is None:
        return signs
    jaw = next(i for i, pair in enumerate(named.names) if pair[0] == "jaw opening")
    for k in range(len(signs)):
        if float(motion.mean[k]) <= 0:
            continue
        if float(opened[k].abs() / motion.mean[k]) >= SIGNIFICANT:
            positive = bool(opened[k] > 0)
        else:
            jaw_opening = _cosine_to_motion(motion, k, named, jaw) if k >= identity.n_exp else 0.0
            positive = (
                jaw_opening > 0
                if abs(jaw_opening) >= SIGNIFICANT
                else _recognise_coefficient(motion, k, named).positive
            )
        signs[k] = 1.0 if positive else -1.0
    return signs


def _cosine_to_motion(motion: CoefficientMotion, k: int, named: NamedSplatMotions, index: int) -> float:
    """Cosine between a displacement and a named motion, weighted by visibility."""
    root = motion.weights[named.texels.splats].sqrt()[:, None]
    a, b = ((v * root).flatten() for v in (motion.displacement[k, named.texels.splats], named.fields[index]))
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12))


def _recognise_coefficient(motion: CoefficientMotion, k: int, named: NamedSplatMotions | None) -> MotionMatch:
    if named is None:
        return MotionMatch(MIXED, 0.0)
    rows = named.texels.splats
    return recognise_motion(motion.displacement[k, rows], named.fields, named.names, motion.weights[rows])


def distinct_names(matches: Sequence[MotionMatch]) -> list[str]:
    """One distinct name per coefficient: repeated ones also name the second motion, or are numbered."""
    names: list[str] = []
    for match in matches:
        name = match.name
        if name in names and match.second:
            name = f"{match.name} + {match.second}"
        number, base = 2, name
        while name in names:
            name, number = f"{base} ({number})", number + 1
        names.append(name)
    return names


def _explained_share(match: MotionMatch, name: str) -> float:
    """Share of the motion that `name` explains."""
    both = match.second and name.startswith(f"{match.name} + {match.second}")
    return match.with_second if both else match.score


# -- purity and range -------------------------------------------------------------------------------------------------


def measure_purity(identity: Identity, seed: int = 0) -> list[float | None]:
    """Share [K] of the picture's change in the coefficient's own face half, 0..1; None: nothing changes.

    own / (own + other), each the mean change under the half's mask as in evaluation/leakage.py, for one standard
    deviation in both directions from the canonical head and a few random states. Masks are the rendered region weights.
    """
    from dgtalker.render import render_frame

    random, n_exp = np.random.default_rng(seed), identity.n_exp
    codes = random.normal(0, STATE_STD, (1 + STATES, n_exp + identity.n_lip)).astype(np.float32)
    codes[0] = 0
    codes = np.clip(codes, *identity.limits.T.astype(np.float32))
    camera = orbit_camera(size=SIZE).to(identity.device)
    masks = []
    for code in codes:
        splats = identity.gaussians(code[:n_exp], code[n_exp:])
        upper, lower = identity.head.upper_weight, identity.head.lower_weight
        splats.colors = torch.stack([upper, lower, torch.zeros_like(upper)], dim=-1)
        masks.append(render_frame(splats, camera, (0.0, 0.0, 0.0)).astype(np.float32) / 255)
    states = FaceStates(codes[:, :n_exp], codes[:, n_exp:], *(np.stack(masks)[..., i] for i in (0, 1)))
    found = pixel_leakage(
        lambda a_exp, a_lip, _: render_coefficient_vector(identity, np.concatenate([a_exp, a_lip]), camera),
        states,
        identity.exp_names,
        identity.lip_names,
    )
    ratios = [found["coefficients"][name]["ratio"] for name in (*identity.exp_names, *identity.lip_names)]
    return [float(1 / (1 + ratio)) if np.isfinite(ratio) else None for ratio in ratios]


def training_ranges(coefficients: Tensor) -> np.ndarray:
    """Percentiles [K, 2] of the training frames' coefficients [T, K]."""
    return np.percentile(coefficients.detach().cpu().numpy(), PERCENTILES, axis=0).T


def find_ranges(identity: Identity) -> tuple[np.ndarray, str]:
    """Ranges [K, 2] and their origin, for an identity without its training frames."""
    rows = identity.descriptions
    if len(rows) == identity.n_exp + identity.n_lip and identity.config["coefficients"].get("range_from") == TRAINING:
        return np.array(
            [[rows[n]["low"], rows[n]["high"]] for n in (*identity.exp_names, *identity.lip_names)]
        ), TRAINING
    try:
        return voice_ranges(identity), VOICES
    except UserError:  # no weights of the audio features, or no example voices
        return identity.limits.astype(np.float64), EXTREMES


def voice_ranges(identity: Identity) -> np.ndarray:
    """Percentiles [K, 2] over the example voices, with a blink every four seconds.

    Raises UserError if there are none, or their features cannot be computed.
    """
    from dgtalker.audio.features import extract_features
    from dgtalker.media.audio import load_audio
    from dgtalker.media.clock import FPS

    voices = sorted(EXAMPLES.glob("*.flac"))
    if not voices:
        raise UserError("There are no example voices in this installation.")
    codes = []
    for voice in voices:
        features = extract_features(load_audio(voice)[: EXAMPLE_SECONDS * 16000], identity.feature_kind)
        seconds = np.arange(len(features) // 2) / FPS
        blink = np.clip(1 - np.abs(seconds % 4 - 2) / 0.15, 0, 1)
        codes.append(np.concatenate(identity.encode(features, blink), axis=1))
    return np.percentile(np.concatenate(codes), PERCENTILES, axis=0).T


# -- the folder -------------------------------------------------------------------------------------------------------


def describe_identity_folder(folder: str | Path, progress: Progress | None = None) -> Identity:
    """Describe the identity in `folder` and replace the folder atomically.

    Raises UserError if it is not an identity, is damaged or cannot be written.
    """
    folder = Path(folder).resolve()
    identity = Identity.from_pretrained(folder)
    strip = describe_coefficients(identity, progress=progress)
    card = folder / CARD_FILE
    text = replace_coefficients_section(card.read_text(encoding="utf-8"), identity) if card.is_file() else None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            fresh, old = staging / "new", staging / "old"
            shutil.copytree(folder, fresh)
            identity.save_pretrained(fresh, card=text, coefficient_sheet=strip)
            Identity.from_pretrained(fresh)  # raises if it cannot be loaded
            os.rename(folder, old)
            try:
                os.rename(fresh, folder)
            except OSError:
                os.rename(old, folder)
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be rewritten: {error.strerror or error}.") from error
    identity.folder = folder
    return identity
