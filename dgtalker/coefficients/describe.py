"""Turn, order, sign and name an identity's coefficients: the last step of create-identity, and of describe-identity.

0. Axes: turned inside each branch, once, until each coefficient is one named motion (axes.py); bounds for the head.
1. Order: inside each branch, by the motion that one training standard deviation causes.
2. Sign: positive opens the mouth (lips) or raises brows and lids (expression); otherwise it is the named motion.
3. Name: from the displacement of the splats, no two the same (motions.py).
4. Purity: the share of the picture's change in the coefficient's own face half (evaluation/leakage.py).
5. Range and mean over the training clips. 6. A sheet of pictures.

Everything is measured on the baked head. Splats are matched to the template's texels (texel_matching.py); where that
fails, because the head has another template, every name is "mixed" and the rest is the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.assets import shipped_folder
from dgtalker.camera import Camera, orbit_camera
from dgtalker.coefficients.axes import find_named_axes
from dgtalker.coefficients.motions import (
    MIN_MATCH,
    MIXED,
    MotionFields,
    MotionMatch,
    assign_motions,
    named_motions,
    select_own_motions,
)
from dgtalker.coefficients.texel_matching import MatchedTexels, match_texels
from dgtalker.errors import UserError
from dgtalker.evaluation.leakage import FaceStates, pixel_leakage
from dgtalker.head.template import HeadTemplate
from dgtalker.identity import CARD_FILE, SLIDER_STD, Identity
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
PERCENTILES = (0.5, 99.5)  # between which a coefficient's range lies
TURNS = 2
FAINT_SHARE, VISIBLE = 0.015, 10  # of the head's pixels that a slider changes by so many grey levels
FOLD_PSNR, FOLD_STATES = (
    55.0,
    120,
)  # dB inside the head, and moments of speech, at which a faint coefficient may be left out
SAFE_STEP = 2.5  # standard deviations that one coefficient alone may take the head to
BOUND_SAMPLES, BOUND_MARGIN = 400, 0.15
STATES, STATE_STD, SIZE = 3, 0.7, 192  # states beside the canonical one at which purity is measured; pixels
EXAMPLES = shipped_folder("examples")  # voices, for identities whose training range is unknown
EXAMPLE_SECONDS = 12
TRAINING, VOICES, EXTREMES = "training clips", "example voices", "training extremes"
VERSION = 2  # of the record: since 2 axes are turned, and ranges hold 99 %
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


@dataclass(frozen=True)
class CoefficientSamples:
    """Coefficients [T, K] of speech, in the identity's units, and where they are from."""

    values: np.ndarray
    origin: str

    @property
    def ranges(self) -> np.ndarray:
        """The middle 99 % of each coefficient, [K, 2]."""
        return np.percentile(self.values, PERCENTILES, axis=0).T


def describe_coefficients(
    identity: Identity, training: np.ndarray | None = None, progress: Progress | None = None
) -> bytes:
    """Turn, order, sign and describe the coefficients of `identity` in place; returns the sheet (WebP) to save with it.

    training [T, K]: the present coefficients of the training clips. Without them: units, ranges and bounds come from an
    earlier description, else from the example voices, else from the training extremes. The description is written to
    identity.config["coefficients"]. Rendered speech does not change, only the coefficients that it is written in.
    """
    report = progress or (lambda fraction, message: None)
    report(0.0, "axes")
    named = match_named_motions(identity)
    samples = None if training is None else CoefficientSamples(np.asarray(training), TRAINING)
    turned = is_turned(identity)
    if not turned or samples is not None or not identity.head.bounded:
        samples = samples or voice_samples(identity)
    if samples is not None and not turned:
        for _ in range(TURNS):  # splats count by how far they move, which new units change a little
            samples = turn_axes(identity, samples, named)
    if samples is not None and named is not None:
        samples = fold_faint_coefficients(identity, samples)
    if samples is not None and (not turned or not identity.head.bounded):
        bound_head(identity, samples)
    ranges, means, origin = find_ranges(identity, samples if not turned or training is not None else None)
    report(0.2, "motion")
    motion = measure_motion(identity)
    signs = choose_positive_direction(identity, motion, named)
    order = order_by_motion(motion.mean, identity.n_exp)
    identity.permute_coefficients(order, signs[order])
    flip, places = signs.numpy() < 0, order.numpy()
    ranges = np.where(flip[:, None], -ranges[:, ::-1], ranges)[places]
    means = np.where(flip, -means, means)[places]
    motion = CoefficientMotion(
        motion.displacement[order] * signs[order][:, None, None], motion.weights, motion.mean[order]
    )
    report(0.4, "purity")
    purity = measure_purity(identity)
    opened = measure_opening(identity, motion, named)
    rows = []
    for k, (match, share) in enumerate(zip(name_coefficients(identity, motion, named), purity, strict=True)):
        rows.append(
            {
                "name": match.name,
                "match": round(match.score, 3),
                "purity": None if share is None else round(share, 3),
                "low": round(float(ranges[k, 0]), 2),
                "high": round(float(ranges[k, 1]), 2),
                "mean": round(float(means[k]), 2),
                "motion_mm": round(MILLIMETRES * float(motion.mean[k]), 3),
                "opens_mm": None if opened is None else round(MILLIMETRES * float(opened[k]), 3),
            }
        )
    identity.config["coefficients"] = {
        "version": VERSION,
        "turned": turned or samples is not None,
        "range_from": origin,
        "named_from": "none" if named is None else "baked geometry",
        "strip": {"steps": list(STEPS), "cell": CELL, "left": LEFT, "top": TOP},
        "exp": rows[: identity.n_exp],
        "lip": rows[identity.n_exp :],
    }
    report(0.6, "pictures")
    labels = identity.labels
    return draw_coefficient_sheet(identity, [labels[name] for name in (*identity.exp_names, *identity.lip_names)])


# -- axes and bounds --------------------------------------------------------------------------------------------------


def is_turned(identity: Identity) -> bool:
    """Whether the axes were turned before: they are turned once, so that describing again changes nothing."""
    record = identity.config.get("coefficients")
    return bool(identity.descriptions) and isinstance(record, Mapping) and record.get("turned") is True


def turn_axes(identity: Identity, samples: CoefficientSamples, named: NamedSplatMotions | None) -> CoefficientSamples:
    """Turn the axes of each branch towards named motions, in place; returns the samples in the new coefficients.

    The new units are the standard deviations of the samples. Branches that would not gain stay as they are, and all do
    on a head of another template (named: None).
    """
    if named is None:
        return samples
    motion, scales = measure_motion(identity), identity.navigation.blendshapes.scales.cpu()
    rotations = []
    for part in (slice(0, identity.n_exp), slice(identity.n_exp, None)):
        fields = _own_fields(identity, motion, named, part)
        steps = motion.displacement[part][:, named.texels.splats] / scales[part][:, None, None]
        found = find_named_axes(steps, fields)
        rotations.append((found.rotation if found.better else torch.eye(len(steps))).double())
    old = torch.from_numpy(samples.values).double()
    turned = old * scales.double() @ torch.block_diag(*rotations)
    std = turned.std(dim=0).clamp_min(1e-3)
    turned = turned / std
    limits = _turned_limits(identity, old, turned, samples.origin)
    identity.rotate_coefficients(*rotations, std, limits)
    return CoefficientSamples(turned.numpy(), samples.origin)


def _turned_limits(identity: Identity, old: Tensor, turned: Tensor, origin: str) -> Tensor:
    """Training range [K, 2] of turned coefficients [T, K].

    A few seconds of other voices do not reach what training did: then each coefficient is given as many standard
    deviations to either side of its mean as the old ones of its branch had, in the mean.
    """
    low, high = turned.amin(dim=0).clamp(max=0.0), turned.amax(dim=0).clamp(min=0.0)
    if origin != TRAINING:
        limits = torch.from_numpy(identity.limits).double()
        reach = (limits - old.mean(dim=0)[:, None]).abs() / old.std(dim=0).clamp_min(1e-3)[:, None]
        parts = reach.mean(dim=1).split([identity.n_exp, identity.n_lip])
        reach = torch.cat([part.mean().repeat(len(part)) for part in parts]) * turned.std(dim=0)
        low, high = low.minimum(turned.mean(dim=0) - reach), high.maximum(turned.mean(dim=0) + reach)
    return torch.stack([low, high], dim=-1)


def fold_faint_coefficients(identity: Identity, samples: CoefficientSamples) -> CoefficientSamples:
    """Fold away, in place, coefficients that hardly show; returns the samples of those kept.

    Such a one changes less than FAINT_SHARE of the head's pixels over its whole range, and without it pictures of
    speech are within FOLD_PSNR of what they are with it. It rests at zero; each branch keeps at least two.
    """
    camera, n_exp = orbit_camera(size=SIZE).to(identity.device), identity.n_exp
    size = n_exp + identity.n_lip
    shown = [shown_share(identity, k, ends, camera) for k, ends in enumerate(samples.ranges)]
    moments = samples.values[:: max(1, len(samples.values) // FOLD_STATES)].astype(np.float32)
    pictures = [render_coefficient_vector(identity, code, camera) for code in moments]
    kept = np.ones(size, bool)
    for k in np.argsort(shown):
        branch = slice(0, n_exp) if k < n_exp else slice(n_exp, size)
        if shown[k] >= FAINT_SHARE or kept[branch].sum() <= 2:
            continue
        without = moments * (kept & (np.arange(size) != k))
        changed = [render_coefficient_vector(identity, code, camera) for code in without]
        error = np.mean([_head_error(a, b) for a, b in zip(pictures, changed, strict=True)])
        kept[k] = 10 * np.log10(255**2 / max(error, 1e-9)) < FOLD_PSNR
    if kept.all():
        return samples
    identity.select_coefficients(torch.from_numpy(kept.nonzero()[0]))
    return CoefficientSamples(samples.values[:, kept], samples.origin)


def shown_share(identity: Identity, k: int, ends: np.ndarray, camera: Camera) -> float:
    """Share of the head's pixels that coefficient k changes by more than VISIBLE grey levels over its slider."""
    codes = np.zeros((3, identity.n_exp + identity.n_lip), np.float32)
    codes[1, k], codes[2, k] = min(ends[0], -SLIDER_STD), max(ends[1], SLIDER_STD)
    rest, low, high = (render_coefficient_vector(identity, code, camera).astype(int) for code in codes)
    change = np.max([np.abs(a - b) for a, b in ((rest, low), (rest, high), (low, high))], axis=0).max(axis=-1)
    return float((change > VISIBLE)[_head_pixels(rest)].mean())


def _head_pixels(picture: np.ndarray) -> np.ndarray:
    """Where a picture on white is not white, bool [H, W]."""
    return picture.min(axis=-1) < 250


def _head_error(picture: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference in grey levels inside the head."""
    return float(np.square(picture.astype(float) - other)[_head_pixels(picture)].mean())


def bound_head(identity: Identity, samples: CoefficientSamples, seed: int = 0) -> None:
    """Bound the head by what speech asks for, lips and expression mixed, and by each coefficient alone.

    Alone they count up to the ends of their samples and SAFE_STEP, whichever is more.
    """
    random, n_exp = np.random.default_rng(seed), identity.n_exp
    values = samples.values[random.integers(0, len(samples.values), BOUND_SAMPLES)]
    values[:, :n_exp] = samples.values[random.integers(0, len(samples.values), BOUND_SAMPLES), :n_exp]
    values = np.concatenate([values, samples.values[:BOUND_SAMPLES]])
    ends = samples.ranges
    alone = [np.diag(np.minimum(ends[:, 0], -SAFE_STEP)), np.diag(np.maximum(ends[:, 1], SAFE_STEP))]
    codes = torch.from_numpy(np.concatenate([values, *alone])).float().to(identity.device)
    identity.head.set_bounds(codes, BOUND_MARGIN)


def _own_fields(identity: Identity, motion: CoefficientMotion, named: NamedSplatMotions, part: slice) -> MotionFields:
    """The motions that may name the coefficients `part`: those of one branch."""
    rows = named.texels.splats
    own = identity.head.upper_weight if part.start == 0 else identity.head.lower_weight
    speech = motion.displacement[part][:, rows].square().sum(dim=(0, 2)).sqrt()
    return select_own_motions(named.names, named.fields, motion.weights[rows], own.cpu()[rows], speech)


def name_coefficients(
    identity: Identity, motion: CoefficientMotion, named: NamedSplatMotions | None
) -> list[MotionMatch]:
    """A match with a name of its own for each of the K coefficients."""
    if named is None:
        count = identity.n_exp + identity.n_lip
        return [MotionMatch(name, 0.0) for name in number_repeated([MIXED] * count)]
    matches: list[MotionMatch] = []
    for part in (slice(0, identity.n_exp), slice(identity.n_exp, None)):
        fields = _own_fields(identity, motion, named, part)
        moved = fields.flatten(motion.displacement[part][:, named.texels.splats])
        wanted = torch.nn.functional.normalize(fields.flatten(fields.fields), dim=1)
        cosines = torch.nn.functional.normalize(moved, dim=1) @ wanted.T
        chosen, scores = assign_motions(cosines, fields)
        for k, (index, score) in enumerate(zip(chosen.tolist(), scores.tolist(), strict=True)):
            positive = bool(cosines[k, index] > 0)
            name = fields.names[index][0 if positive else 1] if score >= MIN_MATCH else MIXED
            matches.append(MotionMatch(name, score, positive=positive))
    names = number_repeated([match.name for match in matches])
    return [replace(match, name=name) for match, name in zip(matches, names, strict=True)]


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
    for k, match in enumerate(name_coefficients(identity, motion, named)):
        if float(motion.mean[k]) <= 0:
            continue
        jaw_opening = _cosine_to_motion(motion, k, named, jaw) if k >= identity.n_exp else 0.0
        if float(opened[k].abs() / motion.mean[k]) >= SIGNIFICANT:
            positive = bool(opened[k] > 0)
        else:
            positive = jaw_opening > 0 if abs(jaw_opening) >= SIGNIFICANT else match.positive
        signs[k] = 1.0 if positive else -1.0
    return signs


def _cosine_to_motion(motion: CoefficientMotion, k: int, named: NamedSplatMotions, index: int) -> float:
    """Cosine between a displacement and a named motion, weighted by visibility."""
    root = motion.weights[named.texels.splats].sqrt()[:, None]
    a, b = ((v * root).flatten() for v in (motion.displacement[k, named.texels.splats], named.fields[index]))
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-12))


def number_repeated(names: Sequence[str]) -> list[str]:
    """The same names, the second "mixed" as "mixed (2)", so that no two are the same."""
    counts: dict[str, int] = {}
    numbered = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        numbered.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return numbered


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


def find_ranges(identity: Identity, samples: CoefficientSamples | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Range [K, 2] and mean [K] of each coefficient in speech, and where they are from."""
    if samples is not None:
        return samples.ranges, samples.values.mean(axis=0), samples.origin
    if is_turned(identity):
        rows = [identity.descriptions[name] for name in (*identity.exp_names, *identity.lip_names)]
        ranges, means = [[row["low"], row["high"]] for row in rows], [row["mean"] for row in rows]
        return np.array(ranges), np.array(means), identity.config["coefficients"]["range_from"]
    return identity.limits.astype(np.float64), np.zeros(len(identity.limits)), EXTREMES


def clip_samples(identity: Identity, clips: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Coefficients [T, K] of clips (features [2N, D], blink [N])."""
    return np.concatenate([np.concatenate(identity.encode(*clip), axis=1) for clip in clips])


def voice_samples(identity: Identity) -> CoefficientSamples | None:
    """Coefficients of the example voices, with a blink every four seconds.

    None if there are no voices in this installation, or their features cannot be computed.
    """
    from dgtalker.audio.features import extract_features
    from dgtalker.media.audio import load_audio
    from dgtalker.media.clock import FPS

    clips = []
    for voice in sorted(EXAMPLES.glob("*.flac")):
        try:
            features = extract_features(load_audio(voice)[: EXAMPLE_SECONDS * 16000], identity.feature_kind)
        except UserError:  # no weights of the audio features
            return None
        seconds = np.arange(len(features) // 2) / FPS
        clips.append((features, np.clip(1 - np.abs(seconds % 4 - 2) / 0.15, 0, 1)))
    return CoefficientSamples(clip_samples(identity, clips), VOICES) if clips else None


# -- the folder -------------------------------------------------------------------------------------------------------


def describe_identity_folder(
    folder: str | Path, progress: Progress | None = None, dataset: str | Path | None = None
) -> Identity:
    """Describe the identity in `folder` and replace the folder atomically.

    dataset: the data set that it was trained on, for units and ranges. Raises UserError if it is not an identity, is
    damaged or cannot be written, or the data set has other audio features.
    """
    folder = Path(folder).resolve()
    identity = Identity.from_pretrained(folder)
    training, before = None, (identity.n_exp, identity.n_lip)
    if dataset is not None:
        from dgtalker.video.dataset import Dataset

        data = Dataset.open(dataset)
        if data.feature_kind != identity.feature_kind:
            raise UserError(f"'{identity.name}' hears {identity.feature_kind}, the data set has {data.feature_kind}.")
        training = clip_samples(identity, ((clip.features, clip.blink) for clip in data))
    strip = describe_coefficients(identity, training, progress)
    card = folder / CARD_FILE
    text = None
    if card.is_file():
        count = "{} expression and {} lip coefficients"  # some may have been folded away
        text = card.read_text(encoding="utf-8").replace(
            count.format(*before), count.format(identity.n_exp, identity.n_lip)
        )
        text = replace_coefficients_section(text, identity)
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
