"""Coefficients of sound that comes in chunks are those of the whole sound."""

import numpy as np
import pytest
import torch
from fakes.identity import fake_head
from fakes.speech import RATE, syllables

from dgtalker.audio import whisper_weights as weights
from dgtalker.audio.features import extract_features, speech_gain
from dgtalker.errors import UserError
from dgtalker.identity import Identity
from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.navigation.speech_backbone import BackboneConfig
from dgtalker.performance.streaming import (
    LOOK_AHEAD_SECONDS,
    CoefficientStream,
    EncoderStream,
    FeatureStream,
    look_ahead_seconds,
)


def identity(with_backbone: bool, kind: str = "log-mel", dim: int = 80) -> Identity:
    torch.manual_seed(0)
    backbone = BackboneConfig(kind, dim, ("aperture", "width"), hidden=8) if with_backbone else None
    navigation = Navigation(NavigationConfig(16, dim, n_exp=3, n_lip=3, hidden=16, backbone=backbone))
    with torch.no_grad():
        for parameter in navigation.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Identity("streamed", navigation, fake_head(), {"feature_kind": kind})


def in_chunks(stream, values: np.ndarray, sizes: list[int]):
    """Everything that comes out, and after how many values each part came."""
    parts, at, k = [], 0, 0
    while at < len(values):
        size = sizes[k % len(sizes)]
        parts.append((min(at + size, len(values)), stream.push(values[at : at + size])))
        at, k = at + size, k + 1
    return [*parts, (len(values), stream.finish())]


@pytest.mark.parametrize("with_backbone", [False, True])
@pytest.mark.parametrize("samples", [RATE * 3, 47_679, 700])
def test_streaming_equals_batch_for_any_chunks(with_backbone, samples):
    who, sound = identity(with_backbone), syllables(3.0)[:samples]
    gain = speech_gain(sound)
    whole = who.encode(extract_features(sound, "log-mel", gain=gain))
    for sizes in ([640], [1, 333, 5000], [samples]):
        parts = in_chunks(CoefficientStream(who, gain), sound, sizes)
        for branch in range(2):
            streamed = np.concatenate([part[branch] for _, part in parts])
            assert streamed.shape == whole[branch].shape
            np.testing.assert_allclose(streamed, whole[branch], atol=2e-5)


@pytest.mark.parametrize("with_backbone", [False, True])
def test_no_frame_waits_longer_than_stated_and_none_comes_before_what_it_depends_on(with_backbone):
    who, sound = identity(with_backbone), syllables(4.0)
    stated = look_ahead_seconds(who)
    parts = in_chunks(CoefficientStream(who), sound, [160])
    emitted = 0
    for heard, (_, a_lip) in parts[:-1]:
        emitted += len(a_lip)
        assert (heard / RATE) - emitted / 25 < stated + 0.011  # the next frame's start is not older than that
    assert emitted > 50

    features = np.random.default_rng(0).normal(size=(200, 80)).astype(np.float32)
    changed = features.copy()
    changed[120:] += 1.0  # frame 60 on
    first = (who.encode(features)[1] != who.encode(changed)[1]).any(axis=1).argmax()
    assert 60 - first <= who.navigation.look_ahead


def test_features_come_in_whole_frames_and_stay_as_they_are():
    features = np.random.default_rng(1).normal(size=(150, 80)).astype(np.float32)
    who = identity(True)
    streamed = [part[1] for _, part in in_chunks(EncoderStream(who), features, [2, 14, 50])]
    np.testing.assert_allclose(np.concatenate(streamed), who.encode(features)[1], atol=2e-5)


def test_memory_does_not_grow_with_the_sound():
    stream = CoefficientStream(identity(True))
    for _ in range(60):
        stream.push(syllables(0.5))
    assert len(stream.features._samples) < RATE // 10 and len(stream.features._mel) < 20
    assert len(stream.encoder._rows) < 100


def test_whisper_states_stream_as_they_are_extracted():
    pytest.importorskip("ctranslate2")
    folder = weights._from_cache() or weights._from_package()
    if folder is None:
        pytest.skip("the Whisper weights are not installed")
    sound = syllables(4.3)
    whole = extract_features(sound, weights=folder, gain=1.0)
    parts = in_chunks(FeatureStream(weights=folder), sound, [4000, 9000])
    streamed = np.concatenate([rows for _, rows in parts])
    assert streamed.shape == whole.shape
    np.testing.assert_allclose(streamed, whole, atol=1e-3)
    emitted = 0
    for heard, rows in parts[:-1]:
        emitted += len(rows)
        assert heard / RATE - (emitted + 1) / 50 < LOOK_AHEAD_SECONDS["whisper-tiny.en"] + 9000 / RATE


def test_a_stream_that_has_ended_is_refused():
    stream = FeatureStream("log-mel")
    stream.push(syllables(0.2))
    stream.finish()
    with pytest.raises(UserError, match="ended"):
        stream.push(syllables(0.2))
    with pytest.raises(UserError, match="mfcc"):
        FeatureStream("mfcc")
