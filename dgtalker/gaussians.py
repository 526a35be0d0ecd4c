"""The splat container: five tensors, and the standard 3D Gaussian splatting .ply in and out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dgtalker.errors import UserError

SH_C0 = 0.28209479177387814  # zeroth spherical harmonic: colour = 0.5 + SH_C0 * f_dc
PLY_PROPERTIES = (
    ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    + [f"scale_{i}" for i in range(3)]
    + [f"rot_{i}" for i in range(4)]
)
PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


@dataclass
class Gaussians:
    """3D Gaussians in world units (decimetres). Leading dimensions are a batch; the last batch dimension is N."""

    means: Tensor  # [..., N, 3] centres
    quats: Tensor  # [..., N, 4] rotations, wxyz; need not be normalised, the renderers normalise them
    scales: Tensor  # [..., N, 3] standard deviations, linear, > 0
    opacities: Tensor  # [..., N] in (0, 1)
    colors: Tensor  # [..., N, D] usually RGB in [0, 1]; any number of channels renders

    def __len__(self) -> int:
        """Size of the leading dimension: the batch, or N when unbatched."""
        return self.means.shape[0]

    @property
    def count(self) -> int:
        """N, the number of Gaussians in one set."""
        return self.means.shape[-2]

    def __getitem__(self, index) -> Gaussians:
        """Index the leading dimension of all five tensors."""
        return self._map(lambda tensor: tensor[index])

    def to(self, *args, **kwargs) -> Gaussians:
        """Tensor.to on all five tensors."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> Gaussians:
        """A copy without gradient history (shares memory)."""
        return self._map(Tensor.detach)

    def _map(self, function) -> Gaussians:
        return Gaussians(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def save_ply(self, path: str | Path) -> None:
        """Write one unbatched RGB set as the binary .ply that 3D Gaussian splatting viewers read.

        Raises ValueError for batched or non-RGB sets.
        """
        if self.means.ndim != 2 or self.colors.shape[-1] != 3:
            raise ValueError(
                f"A .ply holds one set of RGB Gaussians; means are {tuple(self.means.shape)}, "
                f"colors {tuple(self.colors.shape)}."
            )
        means, quats, scales, opacities, colors = (
            getattr(self, field.name).detach().cpu().float() for field in fields(self)
        )
        columns = torch.cat(
            [
                means,
                torch.zeros_like(means),  # normals: unused, but part of the layout
                (colors - 0.5) / SH_C0,
                torch.logit(opacities.clamp(1e-6, 1 - 1e-6))[:, None],
                torch.log(scales.clamp_min(1e-12)),
                torch.nn.functional.normalize(quats, dim=-1),
            ],
            dim=-1,
        )
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(columns)}"]
        header += [f"property float {name}" for name in PLY_PROPERTIES] + ["end_header"]
        with open(path, "wb") as file:
            file.write(("\n".join(header) + "\n").encode("ascii"))
            file.write(columns.numpy().astype("<f4").tobytes())

    @staticmethod
    def load_ply(path: str | Path) -> Gaussians:
        """Read a binary 3D Gaussian splatting .ply; higher spherical harmonics are ignored.

        Raises UserError if the file is missing, cut short or not such a .ply.
        """
        rows = _read_ply_vertices(Path(path))
        names = rows.dtype.names or ()
        missing = [name for name in PLY_PROPERTIES if not name.startswith("n") and name not in names]
        if missing:
            raise UserError(f"{path} is not a Gaussian splatting .ply: it lacks the property {missing[0]}.")

        def columns(*names: str) -> Tensor:
            return torch.from_numpy(np.stack([rows[name].astype(np.float32) for name in names], axis=-1))

        return Gaussians(
            means=columns("x", "y", "z"),
            quats=torch.nn.functional.normalize(columns("rot_0", "rot_1", "rot_2", "rot_3"), dim=-1),
            scales=torch.exp(columns("scale_0", "scale_1", "scale_2")),
            opacities=torch.sigmoid(columns("opacity"))[:, 0],
            colors=columns("f_dc_0", "f_dc_1", "f_dc_2") * SH_C0 + 0.5,
        )


def _read_ply_vertices(path: Path) -> np.ndarray:
    """The vertex element of a binary little-endian .ply as a structured array."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    head, separator, body = data.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").replace("\r", "").split("\n")
    if lines[0] != "ply" or not separator:
        raise UserError(f"{path} is not a .ply file.")
    if "format binary_little_endian 1.0" not in lines:
        raise UserError(f"{path} is not a binary little-endian .ply; convert it first.")
    count, types, element = 0, [], None
    try:
        for words in (line.split() for line in lines if line.startswith(("element", "property"))):
            if words[0] == "element":
                if element is None and words[1] != "vertex":
                    raise UserError(f"{path} does not begin with its vertices, as a Gaussian splatting .ply does.")
                element = words[1]
                count = int(words[2]) if element == "vertex" else count
            elif element == "vertex":
                types.append((words[2], "<" + PLY_TYPES[words[1]]))
        return np.frombuffer(body, dtype=np.dtype(types), count=count)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path} is damaged or not a Gaussian splatting .ply.") from error
