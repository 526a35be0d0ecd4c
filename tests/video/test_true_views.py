"""Pictures from aside kept beside a film: which moments, of whom, and that they are what the cameras say."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("anny", reason="synthetic people need the package anny")


def test_moments_differ_from_one_another():
    from dgtalker.people.talking_videos import choose_distinct_frames

    expressions = np.zeros((20, 52))
    expressions[7, 0], expressions[12, 3] = 1.0, 0.8
    chosen = choose_distinct_frames(expressions, 3)
    assert {7, 12} < set(chosen) and len(chosen) == 3 and (np.diff(chosen) > 0).all()
    assert len(choose_distinct_frames(np.zeros((5, 52)), 3)) == 1  # nothing else to be seen


@pytest.mark.slow
def test_views_are_the_films_person_from_all_sides(person_assets, tmp_path):
    from dgtalker.errors import UserError
    from dgtalker.people import capture, sample_person
    from dgtalker.people.talking_videos import capture_views
    from dgtalker.video.true_views import YAWS, TrueViews

    film = tmp_path / "film.mp4"
    person, other = (sample_person(np.random.default_rng(seed), person_assets) for seed in (1, 2))
    expressions = torch.zeros(6, 52)
    expressions[4, person_assets.template.expression_names.index("jawOpen")] = 0.6
    truth = {"expression": expressions, "shape": torch.from_numpy(person.shape_coefficients)}
    save_file(truth, tmp_path / "film.truth.safetensors")
    views = TrueViews.load(capture_views(person, film, moments=2, size=64))
    assert views.pictures.shape == (2, len(YAWS), 64, 64, 3) and 4 in views.frames
    last = len(YAWS) - 1
    again = capture(person, expressions[views.frames[1]][None], views.cameras[[last]])
    assert np.array_equal(again[0], views.pictures[1, last])
    assert (views.pictures[0, 0] != views.pictures[0, last]).any()
    with pytest.raises(UserError, match="not the one that this seed gives"):
        capture_views(other, film, moments=2, size=64)
