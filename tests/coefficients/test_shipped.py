"""The shipped heads' sliders: each one motion with a name of its own, and no setting breaks the head."""

import numpy as np
import pytest

from dgtalker.coefficients.describe import is_turned, voice_samples
from dgtalker.identity import Identity, list_identities

VISIBLE = 0.05  # opacity from which a splat counts
HULL_MARGIN = 0.15  # dm around the head at rest
RANDOM_SETTINGS = 300


def settings_to_try(identity: Identity, speech: np.ndarray) -> np.ndarray:
    """Every slider alone and every pair at its ends, and random settings on top of speech, as `edit` limits them."""
    ranges, size = identity.ranges, len(identity.ranges)
    alone = [np.eye(size)[k] * end for k in range(size) for end in ranges[k]]
    pairs = [a + b for i, a in enumerate(alone) for b in alone[i + 1 :] if not (a * b).any()]
    random = np.random.default_rng(0)
    spoken = speech[random.integers(0, len(speech), RANDOM_SETTINGS)]
    added = spoken + random.uniform(*ranges.T, spoken.shape)
    on_top = np.clip(added, np.minimum(ranges[:, 0], spoken), np.maximum(ranges[:, 1], spoken))
    return np.concatenate([alone, pairs, on_top]).astype(np.float32)


@pytest.mark.parametrize("name", list_identities())
def test_every_coefficient_is_one_motion_with_a_name_of_its_own(name):
    identity = Identity.from_pretrained(name)
    assert is_turned(identity) and identity.head.bounded
    rows = list(identity.descriptions.values())
    assert len({row["name"] for row in rows}) == len(rows)
    assert not any("+" in row["name"] or row["name"].startswith("mixed") for row in rows)
    assert np.mean([row["match"] for row in rows]) >= 0.79 and min(row["match"] for row in rows) > 0.6
    assert all(row["low"] <= 0 <= row["high"] and row["low"] <= row["mean"] <= row["high"] for row in rows)
    assert np.abs(identity.ranges).max() < 6  # a slider that is a little wider than the others at most


@pytest.mark.slow
@pytest.mark.parametrize("name", list_identities())
def test_no_setting_breaks_a_head(name):
    identity = Identity.from_pretrained(name)
    samples = voice_samples(identity)
    if samples is None:
        pytest.skip("the weights of the audio features are not here")

    def measure(code: np.ndarray) -> tuple[float, np.ndarray]:
        splats = identity.frame(code[: identity.n_exp], code[identity.n_exp :])
        seen = (splats.opacities > VISIBLE).numpy()
        return float(splats.scales.numpy()[seen].max()), splats.means.numpy()[seen]

    rest = identity.head.get_buffer("mean_means").numpy()
    low, high = rest.min(axis=0) - HULL_MARGIN, rest.max(axis=0) + HULL_MARGIN
    longest = max(measure(code.astype(np.float32))[0] for code in samples.values[::10])
    for code in settings_to_try(identity, samples.values):
        length, means = measure(code)
        assert length < 2 * longest, code
        assert (means > low).all() and (means < high).all(), code
