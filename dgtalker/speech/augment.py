"""Augmentation of waveforms: other voices, tempi, rooms and microphones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dgtalker.media.clock import SAMPLE_RATE

TRACT = (0.85, 1.3)  # factor on formants and pitch (vocal tract length): from a large man to a child
TEMPO = (0.85, 1.2)
SNR_DB = (5.0, 35.0)
REVERB_SECONDS = (0.1, 0.5)  # RT60: time in which the reverberation falls by 60 dB
LOW_PASS = (2500.0, 7000.0)  # Hz, as of telephones and codecs
HIGH_PASS = (60.0, 350.0)
TILT_DB = 6.0  # standard deviation of a microphone's frequency response, at points an octave apart


@dataclass(frozen=True)
class SoundAugmentation:
    """How one recording is changed. `tempo` > 1 is faster: what was at t seconds comes at t / tempo."""

    tract: float = 1.0
    tempo: float = 1.0
    snr_db: float | None = None
    noise_slope: float = 0.0  # of the noise: its amplitude spectrum is f ** slope
    reverb: float | None = None  # seconds
    band: tuple[float, float] | None = None  # Hz
    tilt: tuple[float, ...] = ()  # dB at 62, 125 .. 8000 Hz
    seed: int = 0


def draw_augmentation(random: np.random.Generator) -> SoundAugmentation:
    """Draw a random voice, room and microphone."""
    tract = float(np.exp(random.uniform(*np.log(TRACT))))
    in_range = TEMPO[0] <= tract <= TEMPO[1]
    # Resampling alone changes formants and tempo by the same factor and leaves no artefacts.
    tempo = tract if in_range and random.random() < 0.5 else float(random.uniform(*TEMPO))
    return SoundAugmentation(
        tract,
        tempo,
        snr_db=float(random.uniform(*SNR_DB)) if random.random() < 0.6 else None,
        noise_slope=float(random.uniform(-1, 0.2)),
        reverb=float(random.uniform(*REVERB_SECONDS)) if random.random() < 0.4 else None,
        band=(float(random.uniform(*HIGH_PASS)), float(random.uniform(*LOW_PASS))) if random.random() < 0.4 else None,
        tilt=tuple(random.normal(0, TILT_DB, 8).tolist()),
        seed=int(random.integers(2**31)),
    )


def augment_sound(samples: np.ndarray, augmentation: SoundAugmentation) -> np.ndarray:
    """Apply an augmentation to samples (mono [S], 16 kHz): float32 [about S / tempo]."""
    random = np.random.default_rng(augmentation.seed)
    sound = _change_voice(np.asarray(samples, np.float32), augmentation.tract, augmentation.tempo)
    if augmentation.tilt:
        sound = _tilt_spectrum(sound, augmentation.tilt)
    if augmentation.reverb:
        sound = _add_reverb(sound, augmentation.reverb, random)
    if augmentation.snr_db is not None:
        noise = _coloured_noise(len(sound), augmentation.noise_slope, random)
        sound = sound + noise * _loud_level(sound) * 10 ** (-augmentation.snr_db / 20)
    if augmentation.band:
        sound = _limit_band(sound, augmentation.band)
    return sound.astype(np.float32)


def retime_curves(curves: np.ndarray, tempo: float, frames: int) -> np.ndarray:
    """Curves [T, C] at 25 frames a second of a recording -> [frames, C] of the recording at another tempo."""
    source = (np.arange(frames) + 0.5) * tempo - 0.5
    rows = np.arange(len(curves))
    return np.stack([np.interp(source, rows, curve) for curve in curves.T], axis=1).astype(np.float32)


def _change_voice(sound: np.ndarray, tract: float, tempo: float) -> np.ndarray:
    import librosa
    import soxr

    if tract != 1:
        sound = soxr.resample(sound, SAMPLE_RATE * tract, SAMPLE_RATE)
    if abs(tempo / tract - 1) > 1e-3:
        sound = librosa.effects.time_stretch(sound, rate=tempo / tract, n_fft=512)
    return sound


def _tilt_spectrum(sound: np.ndarray, gains_db: tuple[float, ...]) -> np.ndarray:
    spectrum = np.fft.rfft(sound)
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    octaves = np.log2(np.maximum(frequencies, 1.0) / 62.5)
    gains = np.interp(octaves, np.arange(len(gains_db)), gains_db)
    return np.fft.irfft(spectrum * 10 ** (gains / 20), len(sound))


def _add_reverb(sound: np.ndarray, seconds: float, random: np.random.Generator) -> np.ndarray:
    """Convolve with the direct sound and exponentially falling noise of at most half its energy."""
    from scipy.signal import fftconvolve

    count = int(seconds * SAMPLE_RATE)
    tail = random.normal(size=count) * 10 ** (-3 * np.arange(count) / count)
    tail *= np.sqrt(random.uniform(0.05, 0.5)) / np.linalg.norm(tail)
    tail[0] = 1.0
    return fftconvolve(sound, tail)[: len(sound)]


def _coloured_noise(count: int, slope: float, random: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(random.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum * np.maximum(frequencies, 50.0) ** slope, count)
    return noise / max(float(noise.std()), 1e-12)


def _limit_band(sound: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(4, band, "bandpass", fs=SAMPLE_RATE, output="sos"), sound)


def _loud_level(sound: np.ndarray) -> float:
    """RMS level of the loudest tenth of the sound."""
    usable = sound[: max(len(sound) // 400, 1) * 400]
    power = np.square(usable).reshape(-1, min(400, len(usable))).mean(axis=1)
    return float(np.sqrt(np.percentile(power, 90)))
