import pytest
import torch
from safetensors.torch import save_file

from dgtalker.errors import UserError
from dgtalker.video.dataset import ClipInfo, Dataset, DatasetInfo, read_clip_key, write_clip, write_info


def clip_tensors(frames=3, size=16, features=5):
    def byte(*s):
        return torch.randint(0, 255, s, dtype=torch.uint8)

    return {
        "images": byte(frames, size, size, 3),
        "alpha": byte(frames, size, size),
        "mask_upper": byte(frames, size, size),
        "mask_lower": byte(frames, size, size),
        "world_to_camera": torch.randn(frames, 4, 4),
        "intrinsics": torch.randn(frames, 3, 3),
        "landmarks": torch.randn(frames, 478, 2),
        "expression": torch.rand(frames, 52),
        "scores": torch.rand(frames, 52),
        "blink": torch.rand(frames),
        "features": torch.randn(2 * frames, features).half(),
    }


def test_round_trip(tmp_path):
    tensors = clip_tensors()
    write_clip(tmp_path, "a", tensors, key="of inputs")
    assert read_clip_key(tmp_path, "a") == "of inputs" and read_clip_key(tmp_path, "b") is None
    write_info(tmp_path, DatasetInfo("log-mel", [0.5, -1.0], [ClipInfo("a", 3, "a.mpg")], size=16))
    dataset = Dataset.open(tmp_path)
    assert len(dataset) == 1 and dataset.names == ["a"] and dataset.frames == 3 and dataset.feature_kind == "log-mel"
    assert torch.equal(dataset.shape, torch.tensor([0.5, -1.0]))
    clip = dataset.clip("a")
    assert len(clip) == 3
    for key, value in tensors.items():
        assert torch.equal(getattr(clip, key), value), key
    assert not list(tmp_path.rglob("*.tmp"))


def test_wrong_tensor_is_refused(tmp_path):
    tensors = clip_tensors()
    tensors["features"] = tensors["features"][:-1]
    with pytest.raises(AssertionError):
        write_clip(tmp_path, "a", tensors)


@pytest.mark.parametrize("text", [None, "{", '{"format_version": 99}', '{"format_version": 1}'])
def test_bad_folder_is_a_user_error(tmp_path, text):
    if text is not None:
        (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(UserError):
        Dataset.open(tmp_path)


def test_unknown_clip_is_a_user_error(tmp_path):
    write_info(tmp_path, DatasetInfo("log-mel", [], [ClipInfo("a", 3, "a.mpg")]))
    with pytest.raises(UserError, match="has no clip called b"):
        Dataset.open(tmp_path).clip("b")


def test_where_alpha_is_a_guess_is_kept_and_nowhere_in_an_older_data_set(tmp_path):
    tensors = clip_tensors()
    unsure = torch.randint(0, 255, (3, 16, 16), dtype=torch.uint8)
    write_clip(tmp_path, "a", tensors | {"unsure": unsure})
    save_file(tensors, tmp_path / "clips" / "b.safetensors")  # as earlier versions wrote it
    write_info(tmp_path, DatasetInfo("log-mel", [], [ClipInfo("a", 3, "a.mpg"), ClipInfo("b", 3, "b.mpg")], size=16))
    dataset = Dataset.open(tmp_path)
    assert torch.equal(dataset.clip("a").unsure, unsure)
    assert torch.equal(dataset.clip("b").unsure, torch.zeros_like(unsure))
