"""Random ARKit expressions for training the prior, and the normal factors z that stand for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SPEECH = (
    "jawOpen mouthFunnel mouthPucker mouthStretch mouthSmile mouthPress mouthRollLower mouthRollUpper "
    "mouthShrugLower mouthShrugUpper mouthLowerDown mouthUpperUp mouthFrown mouthDimple tongueOut"
).split()
GAZE = {"left": ("eyeLookOutLeft", "eyeLookInRight"), "right": ("eyeLookInLeft", "eyeLookOutRight")}
GAZE |= {way.lower(): (f"eyeLook{way}Left", f"eyeLook{way}Right") for way in ("Up", "Down")}

# e = GAIN * max(0, z - THRESHOLD), at most 1: about a fifth of the units of a random z is active.
THRESHOLD, GAIN = 0.8, 0.45


def factors_from_expression(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # [...,52] -> [...,52]
    """Factors whose expression is `scores`; where a score is 0 any value below the threshold will do, so draw one."""
    below = rng.standard_normal(scores.shape)
    # A draw above the threshold is reflected below it, which keeps the factor's spread near one.
    below = np.where(below > THRESHOLD, 2 * THRESHOLD - below, below)
    return np.where(scores > 0, THRESHOLD + scores / GAIN, below).astype(np.float32)


def sample_expression(rng: np.random.Generator, names: Sequence[str]) -> np.ndarray:  # -> [52] float32
    """One of: rest, speech, a mimic of a few units, or anything at all; with blinks and gaze on top."""
    scores = dict.fromkeys(names, 0.0)

    def put(unit: str, value: float, lopsided: float = 0.0) -> None:
        for side in ("", "Left", "Right"):
            if unit + side in scores:
                scores[unit + side] = float(np.clip(value * (1 + lopsided * rng.uniform(-1, 1)), 0, 1))

    kind = rng.choice(["rest", "speech", "mimic", "any"], p=[0.1, 0.4, 0.25, 0.25])
    units = sorted({name.removesuffix("Left").removesuffix("Right") for name in names})
    face = [u for u in units if not u.startswith(("eyeLook", "eyeBlink"))]
    if kind == "speech":
        put("jawOpen", rng.beta(1.2, 2.2))
        for unit in rng.choice(SPEECH, size=rng.integers(1, 5), replace=False):
            put(unit, rng.beta(1.2, 1.8), 0.1)
    elif kind == "mimic":
        for unit in rng.choice(face, size=rng.integers(2, 7), replace=False):
            put(unit, rng.uniform(0.2, 1.0), 0.15)
    elif kind == "any":
        for name in names:
            if rng.random() < 0.15:
                scores[name] = float(rng.uniform(0, 1))
    if rng.random() < 0.3:
        put("eyeBlink", rng.choice([1.0, rng.uniform(0.2, 1.0)]), 0.1)
    if rng.random() < 0.4:
        for name in GAZE[rng.choice(["left", "right"])] + GAZE[rng.choice(["up", "down"])]:
            if name in scores:
                scores[name] = float(rng.uniform(0, 0.8))
    if "mouthClose" in scores:  # it seals an open jaw: more of it than there is to close turns the lips inside out
        scores["mouthClose"] = float(rng.uniform(0.6, 1.0) * scores["jawOpen"]) if rng.random() < 0.25 else 0.0
    return np.array([scores[name] for name in names], dtype=np.float32)
