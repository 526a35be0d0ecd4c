"""Any audio file (or the sound of a video) -> mono float32 samples, in constant working memory."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np

from dgtalker.errors import UserError
from dgtalker.media.clock import FPS, MAX_SECONDS, SAMPLE_RATE, num_frames
from dgtalker.media.ffmpeg import Cancelled, both_streams, decode, sniff_demuxers, sound_filter
from dgtalker.media.probe import probe

_BLOCK_SECONDS = 30
_BLOCK_VALUES = 1 << 25  # at most, over all channels
# What libsndfile is asked to open. Its mp3 and Ogg decoders drop damaged parts; ffmpeg, which puts the sound into the
# video, keeps their time.
_SOUNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"FORM", b"caff", b".snd")
_SOUNDFILE_RATES, _SOUNDFILE_CHANNELS = (1000, 768_000), 64  # what a header can honestly say
_FULL_SCALE = 8.0  # largest magnitude that is kept
_CANCELLING = 0.3  # energy of the mean of the channels, relative to that of unrelated channels
_QUIET = 0.02  # RMS below which the channels of a film are looked at one by one
_RUMBLE_HZ, _VOICE_HZ = 40.0, 80.0
_RUMBLE_SHARE = 20.0  # energy below _RUMBLE_HZ over that above _VOICE_HZ; what thumps in a studio reaches 7


def load_audio(
    path: str | Path,
    rate: int = SAMPLE_RATE,
    max_seconds: float = MAX_SECONDS,
    cancelled: Callable[[], bool] | None = None,
) -> np.ndarray:
    """Read an audio file, or the sound track of a video, as mono float32 [samples] at `rate` Hz.

    libsndfile reads wav, flac and aiff; the bundled ffmpeg reads the rest, and what libsndfile finds damaged. Silence
    is legal. Of channels that cancel each other the loudest is taken, and rumble below the voice is filtered out.
    Raises UserError for a file that is missing, empty, not decodable, without sound, wrongly scaled, or longer than
    `max_seconds`, and ffmpeg.Cancelled once cancelled() is true.
    """
    path = Path(path)
    sniff_demuxers(path)

    def collect(stream: Generator[np.ndarray, None, None]) -> np.ndarray:
        limit = int(max_seconds * rate) + rate // FPS
        blocks: list[np.ndarray] = []
        total = 0
        try:
            for block in stream:
                if cancelled and cancelled():
                    raise Cancelled
                blocks.append(block)
                total += len(block)
                if total > limit:
                    raise _too_long(path, None, max_seconds)
        finally:
            stream.close()
        if total == 0 or num_frames(total, rate) == 0:
            raise UserError(f"Audio file {path.name} holds less than one video frame (1/25 s) of sound.")
        return np.concatenate(blocks)

    samples = None
    if _is_for_soundfile(path, max_seconds):
        mix = _Downmix()
        try:
            samples = collect(_read_soundfile(path, rate, mix))
            if mix.cancels:
                samples = collect(_read_soundfile(path, rate, _Downmix(mix.loudest)))
        except _DamagedSound:
            samples = None
    if samples is None:
        samples = collect(_ffmpeg_blocks(path, rate, max_seconds, cancelled))
        if (channel := find_uncancelled_channel(path, samples, max_seconds, cancelled)) is not None:
            samples = collect(_ffmpeg_blocks(path, rate, max_seconds, cancelled, channel))
    return clean_samples(samples, rate, path.name)


def clean_samples(samples: np.ndarray, rate: int, name: str) -> np.ndarray:
    """Mono samples float32 [samples] without NaN, infinity, rumble or offset; honest ones are returned as they are.

    Raises UserError if the samples of the file `name` are those of integers.
    """
    # Float files may carry NaN or infinity; one such sample would poison every feature after it.
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    if np.abs(samples).max() > _FULL_SCALE and np.percentile(np.abs(samples), 99) > _FULL_SCALE:
        raise UserError(
            f"The samples of {name} are far outside -1 to 1 (up to {np.abs(samples).max():.0f}), as if integers had "
            "been stored as floats: divide them by 32768, or export the file again as 16-bit WAV."
        )
    return remove_rumble(np.clip(samples, -_FULL_SCALE, _FULL_SCALE), rate)


def remove_rumble(samples: np.ndarray, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Samples [samples] without offset and rumble, if these are strong enough to disturb level and features.

    Steps, wind and a DC offset lie below the voice and are not heard. The filter (Butterworth, run both ways) keeps
    time. Samples without much rumble are returned as they are.
    """
    low, voice, size = 0.0, 0.0, _BLOCK_SECONDS * rate
    for start in range(0, len(samples), size):
        block = samples[start : start + size]
        power, frequency = np.abs(np.fft.rfft(block)) ** 2, np.fft.rfftfreq(len(block), 1 / rate)
        low += float(power[frequency < _RUMBLE_HZ].sum())
        voice += float(power[frequency >= _VOICE_HZ].sum())
    if low <= _RUMBLE_SHARE * voice or low == 0:
        return samples
    from scipy.signal import butter, sosfiltfilt

    filtered = sosfiltfilt(
        butter(4, 60.0, "highpass", fs=rate, output="sos"), samples, padlen=min(len(samples) - 1, rate)
    )
    return filtered.astype(np.float32)


class _DamagedSound(Exception):
    """libsndfile cannot read on."""


class _Downmix:
    """Channels to one: their mean, or one of them. Knows afterwards whether the mean lost what the channels had."""

    def __init__(self, channel: int | None = None):
        self.channel = channel
        self.mixed, self.energies = 0.0, np.zeros(1)

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Mono [samples] of a block [samples, channels]."""
        mono = block.mean(axis=1) if self.channel is None else block[:, self.channel]
        if block.shape[1] > 1:
            with np.errstate(over="ignore", invalid="ignore"):
                self.energies = self.energies + np.square(block, dtype=np.float64).sum(0)
                self.mixed += float(np.square(mono, dtype=np.float64).sum())
        return mono

    @property
    def cancels(self) -> bool:
        """Whether the channels are opposed to each other."""
        return self.channel is None and self.mixed < _CANCELLING * self.energies.sum() / len(self.energies) ** 2

    @property
    def loudest(self) -> int:
        """Number of the channel with most energy."""
        return int(self.energies.argmax())


def find_uncancelled_channel(
    path: Path, mono: np.ndarray, max_seconds: float, cancelled: Callable[[], bool] | None = None
) -> int | None:
    """The loudest channel of a file whose channels cancel each other in `mono`, read by ffmpeg; None for others."""
    if np.sqrt(np.square(mono).mean()) > _QUIET or (channels := probe(path, cancelled).channels) < 2:
        return None
    mix = _Downmix()
    for block in decode_sound(path, sound_filter("", max_seconds + 1), cancelled=cancelled, channels=channels):
        mix(block)
    return mix.loudest if mix.cancels else None


def _too_long(path: Path, seconds: float | None, max_seconds: float) -> UserError:
    length = f"{seconds / 60:.0f} min long" if seconds else "too long"
    return UserError(f"Audio file {path.name} is {length}; the limit is {max_seconds / 60:g} min: cut it into parts.")


def _is_for_soundfile(path: Path, max_seconds: float) -> bool:
    """Whether libsndfile opens the file and knows its length."""
    import soundfile

    with open(path, "rb") as file:
        if not file.read(4).startswith(_SOUNDFILE_MAGIC):
            return False
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError):  # TypeError: named .raw
        return False
    lowest, highest = _SOUNDFILE_RATES
    if not 0 < info.frames < 2**62:  # a FLAC file that was written to a pipe does not say its length
        return False
    if not lowest <= info.samplerate <= highest or info.channels > _SOUNDFILE_CHANNELS:
        return False
    if info.frames / info.samplerate > max_seconds + 1 / FPS:
        raise _too_long(path, info.frames / info.samplerate, max_seconds)
    return True


def _read_soundfile(path: Path, rate: int, mix: _Downmix) -> Generator[np.ndarray, None, None]:
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(str(path)) as file:
            resampler = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
            size = min(_BLOCK_SECONDS * file.samplerate, _BLOCK_VALUES // file.channels)
            while True:
                block = file.read(size, dtype="float32", always_2d=True)
                last = len(block) == 0
                yield resampler.resample_chunk(np.ascontiguousarray(mix(block)), last=last)
                if last:
                    return
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _DamagedSound from error


def _ffmpeg_blocks(
    path: Path, rate: int, max_seconds: float, cancelled: Callable[[], bool] | None, channel: int | None = None
) -> Generator[np.ndarray, None, None]:
    """Decode with ffmpeg through a pipe; whatever could be decoded of a truncated file is kept."""
    info = probe(path, cancelled)
    if not info.audio:
        raise UserError(f"{path.name} has no audio track.")
    if info.seconds_measured and info.seconds > max_seconds + 1:
        raise _too_long(path, info.seconds, max_seconds)
    filters = sound_filter(f"{rate}:", max_seconds + 1)
    yield from decode_sound(path, filters if channel is None else f"{filters},{pick_channel(channel)}", rate, cancelled)


def pick_channel(channel: int) -> str:
    """Ffmpeg's filter that keeps one channel."""
    return f"pan=mono|c0=c{channel}"


def decode_sound(
    path: str | Path,
    filters: str,
    rate: int = SAMPLE_RATE,
    cancelled: Callable[[], bool] | None = None,
    with_picture: bool = False,
    channels: int = 1,
) -> Generator[np.ndarray, None, None]:
    """Mono float32 blocks [samples] at `rate` Hz of the first sound track, by ffmpeg, after its audio `filters`.

    channels: more than one gives blocks [samples, channels] instead.
    with_picture: count time from where the earlier of picture and sound starts, as decode_frames does.
    Raises UserError if there is nothing that can be decoded, ffmpeg.Cancelled.
    """
    output = ["-map", "0:a:0", "-af", filters, "-ac", str(channels), "-ar", str(rate), "-f", "f32le", "pipe:1"]
    if with_picture:
        output += both_streams("v")
    got_sound = False
    frame = 4 * channels  # bytes
    blocks = decode(path, output, frame * rate * _BLOCK_SECONDS, frame * rate, cancelled)
    try:
        for data in blocks:
            got_sound = True
            values = np.frombuffer(data[: len(data) // frame * frame], np.float32)
            yield values if channels == 1 else values.reshape(-1, channels)
    finally:
        blocks.close()
    if not got_sound:
        raise UserError(f"{Path(path).name} holds no sound that can be decoded; convert it to WAV, FLAC or MP3.")
