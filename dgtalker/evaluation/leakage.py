"""Leakage: how much a direction changes the region that is not its own.

    leakage(lip -> upper) = mean |change| in the upper face / mean |change| in the lower face, of lip directions

measured on rendered pictures under the data set's own soft masks (which leave out the nose, moved by both), for steps
of one training standard deviation either way, around the canonical head and around states the identity is really in.
Reconstruction can be perfect while leakage is total, so this figure stands beside every PSNR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dgtalker.evaluation.metrics import region_change

Renderer = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # a_exp [ke], a_lip [kl], state number -> uint8 [H,W,3]


@dataclass(frozen=True)
class States:
    """Where leakage is measured: coefficients, and the masks of the view each state is rendered in."""

    exp: np.ndarray  # [S, ke]
    lip: np.ndarray  # [S, kl]
    upper: np.ndarray  # [S, H, W] in [0, 1]
    lower: np.ndarray  # [S, H, W] in [0, 1]


def leakage(picture: Renderer, states: States, exp_names: list[str], lip_names: list[str]) -> dict:
    """Leakage figures.

    lip_to_upper, exp_to_lower: totals over all coefficients, +-1 std, all states. swap_*: whole codes exchanged between
    two states, so that directions count by how they are used together. coefficients: every one's own change (grey
    levels) and ratio.
    """
    count = len(states.exp)
    changes = {name: np.zeros(2) for name in [*exp_names, *lip_names]}  # name -> total change (upper, lower)
    swaps = {"exp": np.zeros(2), "lip": np.zeros(2)}
    for s in range(count):
        exp, lip = states.exp[s], states.lip[s]
        masks = states.upper[s], states.lower[s]
        base = picture(exp, lip, s)

        def change(a_exp, a_lip, s=s, masks=masks, base=base):
            image = picture(a_exp, a_lip, s)
            return np.array([region_change(image, base, mask) for mask in masks])

        for sign in (-1.0, 1.0):
            for i, name in enumerate(exp_names):
                changes[name] += change(exp + sign * np.eye(len(exp), dtype=exp.dtype)[i], lip)
            for i, name in enumerate(lip_names):
                changes[name] += change(exp, lip + sign * np.eye(len(lip), dtype=lip.dtype)[i])
        other = (s + 1) % count
        swaps["exp"] += change(states.exp[other], lip)
        swaps["lip"] += change(exp, states.lip[other])
    exp_total = sum((changes[n] for n in exp_names), np.zeros(2))
    lip_total = sum((changes[n] for n in lip_names), np.zeros(2))
    rows = {}
    for name, total in changes.items():
        own, other = (total if name in exp_names else total[::-1]) / (2 * count)
        rows[name] = {"own": float(own), "ratio": _ratio(other, own)}
    return {
        "lip_to_upper": _ratio(lip_total[0], lip_total[1]),
        "exp_to_lower": _ratio(exp_total[1], exp_total[0]),
        "swap_lip_to_upper": _ratio(swaps["lip"][0], swaps["lip"][1]),
        "swap_exp_to_lower": _ratio(swaps["exp"][1], swaps["exp"][0]),
        "states": count,
        "coefficients": rows,
    }


def _ratio(other: float, own: float) -> float:
    """other / own; NaN where the direction does nothing in its own region, for then it has no leakage to speak of."""
    return float(other / own) if own > 1e-6 else float("nan")
