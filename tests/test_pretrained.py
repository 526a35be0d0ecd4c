"""Where checkpoints are found: beside the package, inside it, in another folder, on the hub."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from dgtalker import assets, pretrained
from dgtalker.errors import UserError

hub = pytest.importorskip("huggingface_hub")


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in (pretrained.CONFIG_FILE, pretrained.WEIGHTS_FILE):
        (folder / name).write_bytes(b"{}")
    return folder


def test_shipped_folders_of_a_checkout_and_of_an_installed_package(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "dgtalker"
    package.mkdir(parents=True)
    monkeypatch.setattr(assets, "PACKAGE", package)
    monkeypatch.delenv("DGTALKER_CHECKPOINTS", raising=False)
    monkeypatch.delenv("DGTALKER_SHARED", raising=False)
    (tmp_path / "shared").mkdir()
    assert pretrained.checkpoint_root() == package.parent / "checkpoints"
    assert assets.find_asset() == tmp_path / "shared"
    make_checkpoint(package / "checkpoints" / "identities" / "someone")
    assert pretrained.list_checkpoints("identity") == ["someone"]
    assert assets.find_asset() is None
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path / "mine"))
    assert pretrained.list_checkpoints("identity") == []


def test_a_published_name_comes_from_its_folder_of_the_hub_repository(monkeypatch, tmp_path):
    made = make_checkpoint(tmp_path / "snapshot" / "identities" / "actor1")
    asked = {}

    def snapshot_download(repo, allow_patterns, **_):
        asked.update(repo=repo, patterns=allow_patterns)
        return str(tmp_path / "snapshot")

    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(pretrained, "hub_answers", lambda *_: True)
    with pytest.raises(UserError, match="other weights than the published ones of 'actor1'"):
        pretrained.find_checkpoint("actor1", "identity")
    digest = hashlib.sha256((made / pretrained.WEIGHTS_FILE).read_bytes()).hexdigest()
    monkeypatch.setitem(pretrained.PUBLISHED["identity"], "actor1", digest)
    assert pretrained.find_checkpoint("actor1", "identity") == made
    assert asked["repo"] == pretrained.HUB_REPO
    assert all(pattern.startswith("identities/actor1/") for pattern in asked["patterns"])


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in pretrained.PUBLISHED.items() for name in names]
)
def test_the_published_weights_are_those_of_the_checkout(kind, name):
    folder = pretrained.checkpoint_root() / pretrained.KINDS[kind] / name
    assert pretrained.file_sha256(folder / pretrained.WEIGHTS_FILE) == pretrained.PUBLISHED[kind][name]


def test_a_name_too_long_for_a_file_is_an_unknown_name():
    with pytest.raises(UserError, match="There is no identity 'xxx"):
        pretrained.find_checkpoint("x" * 5000, "identity")


@pytest.mark.parametrize("name", ["actor1", "someone/head"])
def test_a_hub_that_never_answers_is_one_sentence_not_a_wait(monkeypatch, tmp_path, name):
    never = threading.Event()
    monkeypatch.setenv("DGTALKER_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(hub.HfApi, "model_info", lambda *_, **__: never.wait(30))
    monkeypatch.setattr(pretrained, "HUB_SECONDS", 0.1)
    with pytest.raises(UserError, match=f"{name}.*the hub cannot be reached or has no identity") as caught:
        pretrained.find_checkpoint(name, "identity")
    assert "\n" not in str(caught.value)
    never.set()


def test_an_unknown_name_asks_nobody(monkeypatch):
    monkeypatch.setattr(pretrained, "hub_answers", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match="no identity 'nobody'"):
        pretrained.find_checkpoint("nobody", "identity")
