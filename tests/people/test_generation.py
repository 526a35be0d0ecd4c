import errno
import json
import logging
import os

import numpy as np
import pytest
import torch
from fakes.people import SIZE, TEMPLATE, FakePeople

from dgtalker import resumable
from dgtalker.cli import main
from dgtalker.errors import UserError
from dgtalker.head.template import HeadTemplate
from dgtalker.people import cache_key
from dgtalker.people.cache_key import open_people
from dgtalker.people.generation import list_wanted_people, make_people
from dgtalker.people.recorded_expressions import load_recorded_expressions
from dgtalker.people.target_cache import (
    HELD_OUT,
    PeopleCache,
    PeopleConfig,
    sample_mixed_expression,
    sample_view_directions,
)

TEMPLATE_NAMES = HeadTemplate.load().expression_names
CONFIG = PeopleConfig(map_size=SIZE, image_size=24)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}


@pytest.mark.parametrize("expressions, views", [(3, 4), (1, 9), (2, 1)])
def test_views_cover_the_sides(expressions, views):
    rng = np.random.default_rng(0)
    faces = sample_view_directions(rng, expressions, views)
    assert len(faces) == expressions and {len(f) for f in faces} == {views}
    every = np.array([direction for face in faces for direction in face])
    assert np.abs(every[:, 0]).max() <= 90 and np.abs(every[:, 1]).max() <= 20
    assert all(abs(face[0][0]) <= 25 for face in faces)
    if expressions * views >= 9:  # no gap wider than two bands
        turned = np.sort([yaw for face in faces for yaw, _ in face[1:]])
        assert np.diff([-90, *turned, 90]).max() < 2 * 180 / len(turned) + 1e-6


def test_workers_make_the_same_people_as_one_process(tmp_path):
    wanted = list_wanted_people(14, 5, 3)
    for name, workers in (("a", 1), ("b", 2)):
        make_people(PeopleCache(tmp_path / name, FakePeople(), CONFIG), wanted, workers)
    one, two = files(tmp_path / "a"), files(tmp_path / "b")
    assert one == two and len(one) == 14 + 5 + 2 * 3
    cache = PeopleCache(tmp_path / "a", FakePeople(), CONFIG)
    targets, pictures = cache.texels(2), cache.views(2)
    assert torch.equal(targets.expressions, pictures.expressions) and not targets.expressions[0].any()
    assert len(pictures) == 12 and pictures.images([3, 1]).shape == (2, 24, 24, 3)
    assert torch.equal(pictures.images([3, 1])[1], pictures.images(torch.tensor([1]))[0])
    assert len(cache.views(HELD_OUT)) == 4
    other = PeopleCache(tmp_path / "c", FakePeople(), PeopleConfig(1, SIZE, 24)).texels(2)
    assert not torch.equal(other.factors, targets.factors)


@pytest.mark.parametrize("workers", [1, 2])
def test_stopping_keeps_people_and_the_next_run_makes_the_rest(tmp_path, workers):
    wanted, seen = list_wanted_people(20, 0, 0), []
    cache = PeopleCache(tmp_path, FakePeople(), CONFIG)
    with pytest.raises(resumable.TrainingStopped):
        make_people(cache, wanted, workers, lambda *now: seen.append(now), lambda: len(seen) > 3)
    made = files(tmp_path)
    assert 2 <= len(made) < 20
    source = FakePeople()
    make_people(PeopleCache(tmp_path, source, CONFIG), wanted, 1)
    assert len(files(tmp_path)) == 20 and made.items() <= files(tmp_path).items()
    assert source.made <= 3 * (20 - len(made))
    make_people(PeopleCache(tmp_path, None, CONFIG), wanted)  # nothing to do: nobody is made


def test_enough_is_enough(tmp_path):
    cache = PeopleCache(tmp_path, FakePeople(), CONFIG)
    make_people(cache, list_wanted_people(20, 0, 0), 1, enough=lambda: len(files(tmp_path)) >= 4)
    assert sorted(files(tmp_path)) == [f"texels/{i:07d}.safetensors" for i in range(4)]


def test_damaged_people_are_made_again(tmp_path):
    cache = PeopleCache(tmp_path, FakePeople(), CONFIG)
    make_people(cache, [(0, True)])
    good = files(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-7])
    cache.texels(0), cache.views(0)
    assert files(tmp_path) == good


def test_full_disk(tmp_path, monkeypatch):
    cache = PeopleCache(tmp_path, FakePeople(), CONFIG)

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(resumable, "write_atomic", full)
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            make_people(cache, list_wanted_people(2, 2, 0), 1)
    with pytest.raises(UserError, match="GB left"):
        make_people(PeopleCache(tmp_path, FakePeople(), PeopleConfig(image_size=10**6)), list_wanted_people(9, 9, 0), 1)


def test_key_changes_with_all_that_people_depend_on(tmp_path, monkeypatch, caplog):
    def key(config=CONFIG, recorded=None):
        return open_people(tmp_path, FakePeople(), config, TEMPLATE, recorded).folder.name

    first = key()
    assert key() == first and not caplog.records
    keys = [first, key(PeopleConfig(1, SIZE, 24)), key(PeopleConfig(0, SIZE, 26)), key(recorded=torch.zeros(2, 52))]
    with monkeypatch.context() as patch:
        patch.setattr(FakePeople, "fingerprint", lambda self: "other balls")
        keys.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(cache_key, "code_fingerprint", lambda: "other code")
        with caplog.at_level(logging.WARNING):
            keys.append(key())
    assert len(set(keys)) == len(keys) == 6
    assert "holds people of other settings or an earlier version" in caplog.text


def test_comments_are_no_code():
    bare = cache_key._without_docstrings
    assert bare('"""A."""\ndef f():\n    """B."""\n    return 1  # C\n') == bare("def f():\n    return 1")
    assert bare("def f():\n    return 1") != bare("def f():\n    return 2")


def test_a_quarter_of_the_expressions_is_recorded():
    recorded = np.random.default_rng(1).random((30, 52))
    rng = np.random.default_rng(0)
    drawn = [sample_mixed_expression(rng, TEMPLATE_NAMES, recorded) for _ in range(400)]
    share = np.mean([any(np.allclose(d, r) for r in recorded) for d in drawn])
    assert 0.18 < share < 0.32 and drawn[0].dtype == np.float32


def test_recorded_expressions_are_read_once(tmp_path, shared, face_landmarker, monkeypatch):
    clips = sorted((shared / "data" / "grid_other").glob("*.mpg"))[:2]
    assert load_recorded_expressions(tmp_path, TEMPLATE_NAMES) is None
    bank = load_recorded_expressions(tmp_path, TEMPLATE_NAMES, clips)
    assert bank.shape == (48, 52) and 0 <= bank.min() and bank.max() <= 1
    assert bank[:, TEMPLATE_NAMES.index("jawOpen")].std() > 0.01
    monkeypatch.setattr("dgtalker.people.recorded_expressions._read", None)  # not called again
    for again in ((), clips):
        assert torch.equal(load_recorded_expressions(tmp_path, TEMPLATE_NAMES, again), bank)


def test_command_makes_people_and_train_prior_reads_them(tmp_path, makehuman, monkeypatch, capsys):
    pytest.importorskip("pyvista")
    command = ["synthesize-people", str(tmp_path), "--people", "2", "--captured", "1", "--held-out", "1",
               "--map-size", "64", "--image-size", "32", "--makehuman", str(makehuman)]  # fmt: skip
    assert main(command) == 0
    folder = capsys.readouterr().out.strip()
    found = files(tmp_path)
    assert sorted(name.split("/", 1)[1] for name in found) == [
        "texels/0000000.safetensors", "texels/0000001.safetensors", "texels/1000000.safetensors",
        "views/0000000.safetensors", "views/1000000.safetensors",
    ]  # fmt: skip
    assert json.loads((tmp_path / folder / "people.json").read_text())["settings"]["image_size"] == 32
    assert main(command) == 0 and files(tmp_path) == found


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--views", "0"], "--views must be at least 1"),
        (["--people", "3", "--captured", "4"], "impossible"),
        (["--makehuman", "/nowhere"], "There is no folder /nowhere"),
        (["--map-size", "100"], "invalid choice"),
    ],
)
def test_bad_input(tmp_path, options, sentence, capsys):
    try:
        code = main(["synthesize-people", str(tmp_path / "people"), *options])
    except SystemExit as end:
        code = end.code
    assert code == 2 and sentence in capsys.readouterr().err
