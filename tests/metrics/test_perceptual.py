"""ST-LPIPS: its values are those of the authors' code, it has gradients, and what is missing is said."""

import importlib.util

import numpy as np
import pytest
import torch

from dgtalker.errors import UserError
from dgtalker.metrics import perceptual

SIZE = 64


@pytest.fixture(scope="module")
def distance():
    if importlib.util.find_spec(perceptual.PACKAGE) is None:
        pytest.skip(f"the package {perceptual.PACKAGE} is not installed")
    return perceptual.load_perceptual_distance()


def pictures():
    """Two pictures [1,SIZE,SIZE,3] in 0..1: smooth colours, and waves."""
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    first, second = np.stack([x, y, x * y], -1), np.stack([np.sin(9 * x * y) ** 2, y, 1 - x], -1)
    return tuple(torch.from_numpy(p.astype(np.float32))[None] for p in (first, second))


def test_value_is_that_of_the_authors_code(distance):
    first, second = pictures()
    assert float(distance(first, second)) == pytest.approx(0.5709834, rel=1e-4)  # stlpips.LPIPS("alex") of 0.0.2
    assert float(distance(first, first)) == 0


def test_pictures_of_a_batch_are_judged_one_by_one(distance):
    first, second = pictures()
    found = distance(torch.cat([first, first]), torch.cat([first, second]))
    assert found.shape == (2,) and found[0] == 0 and float(found[1]) == pytest.approx(0.5709834, rel=1e-4)


def test_a_step_against_the_gradient_makes_pictures_more_alike(distance):
    image, target = pictures()
    image.requires_grad_()
    before = distance(image, target).sum()
    before.backward()
    with torch.no_grad():
        after = distance(image - 1e-3 * image.grad.sign(), target).sum()
    assert after < before
    assert not any(p.requires_grad for p in distance.parameters())  # the network itself is fixed


def test_without_the_package_the_way_to_it_is_said(monkeypatch):
    perceptual.load_perceptual_distance.cache_clear()
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install"):
        perceptual.load_perceptual_distance()


@pytest.mark.parametrize("content", [None, b"other weights"])
def test_other_weights_are_refused(monkeypatch, tmp_path, content):
    perceptual.load_perceptual_distance.cache_clear()
    path = tmp_path / "other_package" / perceptual.WEIGHTS
    path.parent.mkdir(parents=True)
    (tmp_path / "other_package" / "__init__.py").write_text("raise RuntimeError('nothing of the package may run')")
    if content is not None:
        path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(perceptual, "PACKAGE", "other_package")
    with pytest.raises(UserError, match="the weights of other_package"):
        perceptual.load_perceptual_distance()
