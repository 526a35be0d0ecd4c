"""A head whose mouth opens too little in speech opens as far as the video's after calibration; its rest stays."""

import pytest
import torch
from fakes.identity_data import tiny_generator, write_fake_dataset

from dgtalker.navigation.model import Navigation, NavigationConfig
from dgtalker.training.identity.articulation import (
    ArticulationConfig,
    LipOpening,
    calibrate_articulation,
    close_lips_at_rest,
)
from dgtalker.training.identity.coefficient_axes import training_coefficients
from dgtalker.training.identity.frames import DatasetFrames
from dgtalker.video.dataset import Dataset


def timid_navigation(generator, frames, share):
    """Directions "brows", "jaw" and two that do nothing; the lips open `share` as far as they were tracked."""
    torch.manual_seed(0)
    features = torch.cat(frames.features)
    navigation = Navigation(NavigationConfig(generator.w_dim, features.shape[1], n_exp=1, n_lip=3, hidden=16))
    jaw = generator.slices["expression"].start + list(generator.template.expression_names).index("jawOpen")
    directions = torch.zeros(generator.w_dim, 4)
    directions[[jaw - 1, jaw, -1, -2], [0, 1, 2, 3]] = 1.0
    navigation.blendshapes.set_directions(directions, torch.ones(4))
    navigation.w_can.copy_(generator.w_from_geometry(torch.tensor(frames.dataset.info.shape)))
    navigation.w_scale.copy_(generator.w_std)
    opened = generator.w_from_geometry(expression=frames.expression)[:, jaw] - generator.w_mean[jaw]
    target = torch.stack([share * opened / generator.w_std[jaw], *torch.randn(2, len(opened))], dim=1)
    optimizer = torch.optim.Adam(navigation.lip_encoder.parameters(), lr=5e-3)
    for _ in range(300):
        lips = torch.cat([navigation.lips(clip[None])[0] for clip in frames.features])
        loss = (lips - target)[:, 0].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return navigation.eval().requires_grad_(False)


@pytest.mark.parametrize("regional", [True, False])
def test_the_mouth_opens_as_far_as_in_the_video(tmp_path, regional):
    generator = tiny_generator().requires_grad_(False)
    frames = DatasetFrames(Dataset.open(write_fake_dataset(tmp_path, generator, clips=2)))
    navigation = timid_navigation(generator, frames, share=0.6)
    before = training_coefficients(navigation, frames)[1] * navigation.unit[1:]
    figures = calibrate_articulation(navigation, generator, frames, ArticulationConfig(), regional)
    assert figures["correlation"] > 0.95
    assert 0.5 < figures["amplitude_before"] < 0.7 and 0.95 < figures["amplitude"] < 1.05
    assert figures["gain"] * figures["amplitude_before"] == pytest.approx(1, abs=0.1)
    after = training_coefficients(navigation, frames)[1]
    # One standard deviation is the unit again, and the limits hold what was met.
    torch.testing.assert_close(after.std(dim=0), torch.ones(3), atol=1e-3, rtol=0)
    low, high = navigation.limits[1:].T
    assert (after >= low - 1e-4).all() and (after <= high + 1e-4).all()
    emitted = after * navigation.unit[1:]
    gained = (emitted - emitted.mean(0)).std(0) / (before - before.mean(0)).std(0)
    assert gained[0] == pytest.approx(figures["gain"], rel=0.1)


def test_a_mouth_that_opens_enough_or_goes_its_own_way_is_left_alone(tmp_path):
    generator = tiny_generator().requires_grad_(False)
    frames = DatasetFrames(Dataset.open(write_fake_dataset(tmp_path, generator, clips=2)))
    navigation = timid_navigation(generator, frames, share=1.0)
    assert calibrate_articulation(navigation, generator, frames, ArticulationConfig())["gain"] == pytest.approx(
        1, abs=0.1
    )
    frames.landmarks = frames.landmarks.flip(0)  # a film that does not fit its sound
    state = {name: value.clone() for name, value in navigation.state_dict().items()}
    figures = calibrate_articulation(navigation, generator, frames, ArticulationConfig())
    assert figures["correlation"] < 0.15 and figures["gain"] == 1
    assert all(torch.equal(value, state[name]) for name, value in navigation.state_dict().items())


def test_lips_that_stand_open_at_rest_are_closed_and_speech_stays(tmp_path):
    generator = tiny_generator().requires_grad_(False)
    frames = DatasetFrames(Dataset.open(write_fake_dataset(tmp_path, generator, clips=2)))
    navigation = timid_navigation(generator, frames, share=1.0)
    navigation.move_origin(torch.zeros(1), torch.tensor([0.8, 0.0, 0.0]))
    features, blink = frames.features[0][None], frames.blink[None, : len(frames.clips[0])]

    def latents():
        w = navigation.latent(navigation.expression(features, blink), navigation.lips(features))
        return w[:, 2:-2]  # the ends are smoothed with zeros

    before, opening = latents(), LipOpening(generator, navigation, True)
    spoken = training_coefficients(navigation, frames)[1]
    wanted = float(opening(spoken).quantile(0.1))
    was, now = close_lips_at_rest(navigation, opening, spoken, share=0.1)
    assert was > wanted + 0.01
    assert float(LipOpening(generator, navigation, True)(torch.zeros(1, 3))) == pytest.approx(now, abs=1e-4)
    assert now == pytest.approx(wanted, abs=0.25 * (was - wanted))
    torch.testing.assert_close(latents(), before, atol=1e-4, rtol=1e-4)
    assert (
        close_lips_at_rest(navigation, opening, training_coefficients(navigation, frames)[1], share=0.3)[0]
        <= now + 1e-4
    )
