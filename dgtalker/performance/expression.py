"""The expression stream: its settings, another recording's stream, and variants. The lips stay out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS
from dgtalker.performance.blinks import RATE, check_rate, check_schedule, natural_blinks, scheduled_blinks

MAX_SEED = 2**32 - 1
_FADE = 12  # video frames over which a recording's end passes into its beginning
_KEPT = 0.6  # correlation of a variant with what the sound asks for
_SHIFT = 0.15  # seconds by which its movements come earlier or later, at most


@dataclass(frozen=True)
class ExpressionSettings:
    """What the upper face does while the lips speak. No field changes a lip coefficient."""

    blinks: tuple[float, ...] | None = None  # seconds at which the eyes shut; (): never; None: drawn, as people blink
    blink_rate: float = RATE  # drawn blinks a minute
    seed: int = 0  # of the drawn blinks and of the variant
    variant: int = 0  # 0: what the sound asks for; other numbers: other ways to move while saying the same

    def __post_init__(self):
        check_rate(self.blink_rate)
        if self.blinks is not None:
            object.__setattr__(self, "blinks", check_schedule(self.blinks))
        for name in ("seed", "variant"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
                raise UserError(f"The {name} must be a whole number from 0 to {MAX_SEED}, not {value}.")

    def blink_signal(self, frames: int, pauses: np.ndarray | None = None) -> np.ndarray:
        """[frames] in 0..1; drawn blinks gather in `pauses`, bool [frames]."""
        seed = (self.seed, self.variant)
        if self.blinks is not None:
            return scheduled_blinks(self.blinks, frames, seed)
        return natural_blinks(frames, seed, self.blink_rate, pauses)

    def movement(self, a_exp: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """a_exp [N, n_exp] as this variant shows it; limits [n_exp, 2]."""
        if self.variant == 0:
            return a_exp
        return vary_curves(a_exp, limits, np.random.default_rng((self.seed, self.variant, 1)))


def vary_curves(curves: np.ndarray, limits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another natural movement for the same sound: curves [N, K] -> [N, K] within limits [K, 2].

    A part stays tied to the speech, with its timing bent a little. The rest is a surrogate of the curves: random
    phases, the same for all coefficients, leave every spectrum and cross-spectrum as it was (Prichard and Theiler
    1994). So a variant moves as fast and as far as the original, and its coefficients together as they did.
    """
    frames = len(curves)
    mean = curves.mean(axis=0)
    deviation = (curves - mean).astype(np.float64)
    time = np.arange(frames)
    periods, phases = rng.uniform(2.0, 5.0, 3) * FPS, rng.uniform(0, 2 * np.pi, 3)
    bend = np.sin(2 * np.pi * time[:, None] / periods + phases).mean(axis=1) * _SHIFT * FPS  # steps stay above zero
    own = np.stack([np.interp(time + bend, time, curve) for curve in deviation.T], axis=1)
    mirrored = np.concatenate([deviation, deviation[::-1]])  # without a jump from the end to the beginning
    spectrum = np.fft.rfft(mirrored, axis=0)
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi, len(spectrum)))
    turn[0] = turn[-1] = 1.0  # the mean and the highest frequency have no phase
    other = np.fft.irfft(spectrum * turn[:, None], len(mirrored), axis=0)[:frames]
    mixed = mean + _KEPT * own + np.sqrt(1.0 - _KEPT**2) * other
    return np.clip(mixed, limits[:, 0], limits[:, 1]).astype(np.float32)


def loop_curves(curves: np.ndarray, frames: int) -> np.ndarray:
    """[M, K] -> [frames, K]: cut, or repeated from the beginning with a cross-fade over half a second."""
    count = len(curves)
    if count >= frames:
        return curves[:frames]
    fade = min(_FADE, count // 2)
    ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1))[:, None] ** 2
    out = np.zeros((frames + count, curves.shape[1]))
    start = 0
    while start < frames:
        piece = curves.astype(np.float64)
        if start > 0:
            piece[:fade] *= ramp
        if start + count - fade < frames:
            piece[count - fade :] *= ramp[::-1]
        out[start : start + count] += piece
        start += count - fade
    return out[:frames].astype(curves.dtype)
