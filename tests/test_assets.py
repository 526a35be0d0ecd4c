"""What is not shipped is found in one folder, so that the commands run without naming it."""

import pytest

from dgtalker.assets import find_asset
from dgtalker.errors import UserError
from dgtalker.video.landmarks import find_model


def test_material_is_found_below_the_named_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DGTALKER_SHARED", str(tmp_path))
    assert find_asset("data", "makehuman") is None
    (tmp_path / "data" / "makehuman").mkdir(parents=True)
    assert find_asset("data", "makehuman") == tmp_path / "data" / "makehuman"


def test_models_are_looked_for_there_last(tmp_path, monkeypatch):
    for variable in ("HOME", "HF_HOME", "DGTALKER_SHARED", "DGTALKER_MODELS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    with pytest.raises(UserError, match="was not found"):
        find_model("face_landmarker.task")
    for folder in (tmp_path / "DGTALKER_SHARED" / "models", tmp_path / "DGTALKER_MODELS"):
        folder.mkdir(parents=True)
        (folder / "face_landmarker.task").write_bytes(b"")
        assert find_model("face_landmarker.task") == folder / "face_landmarker.task"
