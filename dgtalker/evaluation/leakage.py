"""Leakage: how much a direction changes the region that is not its own.

    pixel_leakage(lip -> upper) = change in the upper face / change in the lower face, of lip directions

for steps of one training standard deviation either way, around the canonical head and around states from the held-out
clips. In pixels, change is the mean difference of rendered pictures under the data set's soft masks (which leave out
the nose, moved by both); in landmarks, how far they move (landmark_leakage.py).
Reconstruction can be perfect while leakage is total, so it is reported beside every PSNR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dgtalker.evaluation.context import EvaluationContext, render_coefficients, soft_mask
from dgtalker.head.face_controls import FaceControl
from dgtalker.metrics import region_change

Renderer = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # a_exp [ke], a_lip [kl], state number -> uint8 [H,W,3]
STATES = 6  # the canonical head and five states from the held-out clips


@dataclass(frozen=True)
class FaceStates:
    """States that leakage is measured around: coefficients, and the masks of the view each is rendered in."""

    exp: np.ndarray  # [S, ke]
    lip: np.ndarray  # [S, kl]
    upper: np.ndarray  # [S, H, W] in [0, 1]
    lower: np.ndarray  # [S, H, W] in [0, 1]


def sample_face_states(context: EvaluationContext, seed: int, count: int = STATES) -> tuple[FaceStates, list]:
    """The canonical head and count - 1 random moments of the held-out clips, and the camera [S] of each."""
    rng = np.random.default_rng(seed)
    exp, lip, upper, lower, cameras = [], [], [], [], []
    for number in range(count):
        clip = context.clips[int(rng.integers(len(context.clips)))]
        t = int(rng.integers(len(clip)))
        a_exp, a_lip = context.coefficients[clip.name]
        exp.append(a_exp[t] if number else np.zeros_like(a_exp[t]))
        lip.append(a_lip[t] if number else np.zeros_like(a_lip[t]))
        upper.append(soft_mask(clip.mask_upper, t))
        lower.append(soft_mask(clip.mask_lower, t))
        cameras.append(clip.camera(t))
    return FaceStates(*(np.stack(x) for x in (exp, lip, upper, lower))), cameras


def measure_leakage(context: EvaluationContext, states: FaceStates, cameras: list) -> dict:
    """Leakage in pixels of `context.identity`, in mean grey levels; "controls" has that of its face controls."""
    identity = context.identity
    picture = lambda a_exp, a_lip, s, c=None: render_coefficients(identity, a_exp, a_lip, cameras[s], c)  # noqa: E731
    report = pixel_leakage(picture, states, identity.exp_names, identity.lip_names)
    return report | ({"controls": control_leakage(picture, states, identity.controls)} if identity.controls else {})


def control_leakage(
    picture: Callable[[np.ndarray, np.ndarray, int, np.ndarray | None], np.ndarray],
    states: FaceStates,
    controls: Sequence[FaceControl],
) -> dict[str, dict[str, float]]:
    """Own change and ratio of each face control at 1, mean over the states: {"smile": {own, ratio}}.

    picture: (a_exp [ke], a_lip [kl], state number, values [K] of the controls) -> uint8 [H, W, 3].
    """
    totals = np.zeros((len(controls), 2))  # change (upper, lower)
    for s, (a_exp, a_lip) in enumerate(zip(states.exp, states.lip, strict=True)):
        base = picture(a_exp, a_lip, s, None)
        for k, row in enumerate(np.eye(len(controls), dtype=np.float32)):
            moved = picture(a_exp, a_lip, s, row)
            totals[k] += [region_change(moved, base, mask) for mask in (states.upper[s], states.lower[s])]
    rows = {}
    for control, total in zip(controls, totals / len(states.exp), strict=True):
        own, other = total if control.region == "upper" else total[::-1]
        rows[control.name] = {"own": float(own), "ratio": _ratio(other, own)}
    return rows


def pixel_leakage(picture: Renderer, states: FaceStates, exp_names: list[str], lip_names: list[str]) -> dict:
    """Leakage in pixels, see `measure_region_leakage`; changes are mean grey levels under the states' masks."""

    def change(base: np.ndarray, image: np.ndarray, s: int) -> np.ndarray:
        return np.array([region_change(image, base, mask) for mask in (states.upper[s], states.lower[s])])

    return measure_region_leakage(picture, change, states.exp, states.lip, exp_names, lip_names) | {
        "unit": "grey levels"
    }


def measure_region_leakage(
    observe: Callable[[np.ndarray, np.ndarray, int], Any],
    change: Callable[[Any, Any, int], np.ndarray],
    exp: np.ndarray,
    lip: np.ndarray,
    exp_names: list[str],
    lip_names: list[str],
) -> dict:
    """Leakage of anything that can be observed in the upper and in the lower face.

    Args:
        observe: (a_exp [ke], a_lip [kl], state number) -> an observation.
        change: (before, after, state number) -> how much [upper, lower] differ, NaN where that cannot be observed.
        exp: [S, ke] of the states.
        lip: [S, kl] of the states.
        exp_names: of the coefficients.
        lip_names: of the coefficients.

    Returns:
        lip_to_upper, exp_to_lower: totals over all coefficients, +-1 std, all states. matrix: the mean changes behind
        them, and each divided by its row's own. swap_*: whole vectors exchanged between two states, so that directions
        count as they are used together. coefficients: own change and ratio of each. lost: steps not observed.
    """
    count, lost = len(exp), 0
    changes = {name: np.zeros(2) for name in [*exp_names, *lip_names]}  # name -> total change (upper, lower)
    swaps = {"exp": np.zeros(2), "lip": np.zeros(2)}
    for s in range(count):
        base = observe(exp[s], lip[s], s)

        def step(a_exp, a_lip, s=s, base=base):
            nonlocal lost
            found = change(base, observe(a_exp, a_lip, s), s)
            lost += not np.isfinite(found).all()
            return np.nan_to_num(found)

        for sign in (-1.0, 1.0):
            for i, name in enumerate(exp_names):
                changes[name] += step(exp[s] + sign * np.eye(len(exp[s]), dtype=exp.dtype)[i], lip[s])
            for i, name in enumerate(lip_names):
                changes[name] += step(exp[s], lip[s] + sign * np.eye(len(lip[s]), dtype=lip.dtype)[i])
        other = (s + 1) % count
        swaps["exp"] += step(exp[other], lip[s])
        swaps["lip"] += step(exp[s], lip[other])
    totals = [sum((changes[n] for n in names), np.zeros(2)) for names in (exp_names, lip_names)]
    rows = {}
    for name, total in changes.items():
        own, other = (total if name in exp_names else total[::-1]) / (2 * count)
        rows[name] = {"own": float(own), "ratio": _ratio(other, own)}
    means = [total / (2 * count * len(names)) for total, names in zip(totals, (exp_names, lip_names), strict=True)]
    ratios = [[_ratio(x, mean[own]) for x in mean] for own, mean in enumerate(means)]
    return {
        "lip_to_upper": ratios[1][0],
        "exp_to_lower": ratios[0][1],
        "matrix": {
            "rows": ["expression", "lips"],
            "columns": ["upper", "lower"],
            "change": [[float(x) for x in mean] for mean in means],
            "ratio": ratios,
        },
        "swap_lip_to_upper": _ratio(swaps["lip"][0], swaps["lip"][1]),
        "swap_exp_to_lower": _ratio(swaps["exp"][1], swaps["exp"][0]),
        "states": count,
        "lost": lost,
        "coefficients": rows,
    }


def _ratio(other: float, own: float) -> float:
    """Divide other by own; NaN where the direction does nothing in its own region: its leakage is undefined."""
    return float(other / own) if own > 1e-6 else float("nan")
