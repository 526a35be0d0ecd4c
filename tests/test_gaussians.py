"""The splat container and its .ply."""

import pytest
import torch

from dgtalker.errors import UserError
from dgtalker.gaussians import Gaussians


def some_gaussians(*shape: int) -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    return Gaussians(
        means=torch.randn(*shape, 3, generator=generator),
        quats=torch.nn.functional.normalize(torch.randn(*shape, 4, generator=generator), dim=-1),
        scales=torch.rand(*shape, 3, generator=generator) + 0.01,
        opacities=torch.rand(*shape, generator=generator) * 0.98 + 0.01,
        colors=torch.rand(*shape, 3, generator=generator),
    )


def test_ply_round_trip(tmp_path):
    gaussians = some_gaussians(50)
    gaussians.save_ply(tmp_path / "head.ply")
    loaded = Gaussians.load_ply(tmp_path / "head.ply")
    for name, value in vars(gaussians).items():
        torch.testing.assert_close(getattr(loaded, name), value, atol=1e-5, rtol=1e-5)


def test_ply_has_the_layout_of_3dgs(tmp_path):
    gaussians = some_gaussians(2)
    gaussians.save_ply(tmp_path / "head.ply")
    header, body = (tmp_path / "head.ply").read_bytes().split(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property")]
    assert names == (
        "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
    )
    row = torch.frombuffer(bytearray(body), dtype=torch.float32).reshape(2, -1)[1]
    torch.testing.assert_close(row[6:9] * 0.28209479 + 0.5, gaussians.colors[1])
    torch.testing.assert_close(torch.sigmoid(row[9]), gaussians.opacities[1])
    torch.testing.assert_close(torch.exp(row[10:13]), gaussians.scales[1])


def test_ply_with_other_properties_and_order(tmp_path):
    """Files of other programs: spherical harmonics in between, double precision."""
    names = "opacity rot_0 rot_1 rot_2 rot_3 f_rest_0 x y z scale_0 scale_1 scale_2 f_dc_0 f_dc_1 f_dc_2".split()
    header = ["ply", "format binary_little_endian 1.0", "comment other", "element vertex 1"]
    header += [f"property double {name}" for name in names] + ["end_header", ""]
    values = torch.arange(len(names), dtype=torch.float64)
    (tmp_path / "other.ply").write_bytes("\n".join(header).encode() + values.numpy().tobytes())
    loaded = Gaussians.load_ply(tmp_path / "other.ply")
    assert loaded.means.tolist() == [[6, 7, 8]]
    assert loaded.opacities.tolist() == [0.5]


@pytest.mark.parametrize("content", [b"", b"hello", b"ply\nformat ascii 1.0\nend_header\n", None])
def test_bad_ply_is_one_sentence(tmp_path, content):
    path = tmp_path / "bad.ply"
    if content is None:
        some_gaussians(9).save_ply(path)
        content = path.read_bytes()[:-40]  # cut short
    path.write_bytes(content)
    with pytest.raises(UserError):
        Gaussians.load_ply(path)
    with pytest.raises(UserError):
        Gaussians.load_ply(tmp_path / "missing.ply")


def test_batch_indexing_and_conversion():
    batch = some_gaussians(4, 7)
    assert len(batch) == 4 and batch.count == 7
    assert batch[1].means.shape == (7, 3) and batch[1:3].opacities.shape == (2, 7)
    assert batch.to(torch.float64).colors.dtype == torch.float64
    batch.means.requires_grad_()
    assert not batch.detach().means.requires_grad
    with pytest.raises(ValueError, match="ply"):
        batch.save_ply("never.ply")
