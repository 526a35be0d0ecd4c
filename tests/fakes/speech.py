"""Sound that passes for speech in tests."""

import numpy as np
import soundfile

RATE = 16000


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """Harmonic bursts, four a second, with pauses between: enough to open the gate."""
    time = np.arange(round(RATE * seconds)) / RATE
    pitch = 110 + 10 * seed
    voice = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
    return (0.1 * voice * np.clip(np.sin(2 * np.pi * 2 * time), 0, 1) ** 2).astype(np.float32)


def write_speech(path, seconds: float = 1.0, rate: int = RATE, level: float = 0.3):
    """A sound file with a buzz that comes and goes three times a second; returns its path."""
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, level * np.sin(2 * np.pi * 150 * time) * (np.sin(6 * np.pi * time) > 0), rate)
    return path
