"""Hair styles of synthetic people: MakeHuman's meshes, their variants, and what the hair shell's rays meet there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from dgtalker.head.template import Atlas, HeadTemplate, rasterise_uv
from dgtalker.people.fitted import FittedPart, read_part
from dgtalker.people.hair_shell import AROUND, DOWN, FAR, LONGEST, azimuths, column_length, shell_rays
from dgtalker.people.rays import cast_rays
from dgtalker.people.textures import load_image, sample_image

OPAQUE = 0.35  # alpha from which hair counts as there
UNDER_SKIN = 0.06  # hair this far below the scalp still shows: cards dip in and out
TRIM_HEIGHT = 6.7  # "cropped" variants end here, at the mouth (base-mesh units)
LONG = 6.3  # styles that reach below this height have a cropped variant
SIDE = 2  # rays per shell texel and axis


@dataclass(frozen=True)
class HairStyle:
    """A hair mesh and its texture without colour."""

    part: FittedPart
    shade: np.ndarray  # [h, w] luminance, mean 1 where opaque
    alpha: np.ndarray  # [h, w]


@dataclass(frozen=True)
class HairLayer:
    """Where the rays of the hair shell meet a hair style: K rays per shell texel."""

    triangle: np.ndarray  # [H, K] int64, -1: passes
    bary: np.ndarray  # [H, K, 3]
    shade: np.ndarray  # [H, K] luminance of the texture there, mean 1


def load_styles(folder: Path, reference: np.ndarray) -> dict[str, HairStyle]:
    """All styles under `folder` by name; each also "mirrored", and long ones "cropped".

    Args:
        reference: base mesh [19158, 3] that heights and mirror twins are taken from.
    """
    _, twin = cKDTree(reference).query(reference * [-1, 1, 1])
    styles: dict[str, HairStyle] = {}
    for place in sorted(folder.iterdir()):
        image = load_image(next(place.glob("*_diffuse.png")), 512)
        luminance = image[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
        shade = np.clip(luminance / max(luminance[image[..., 3] > 0.5].mean(), 1e-3), 0, 3).astype(np.float32)
        part = read_part(place / f"{place.name}.mhclo")
        parts = {place.name: part}
        if np.percentile(part.fit(reference)[:, 1], 5) < LONG:
            parts[f"{place.name} cropped"] = cropped(part, reference)
        for name, part in parts.items():
            styles[name] = HairStyle(part, shade, image[..., 3])
            styles[f"{name} mirrored"] = HairStyle(mirrored(part, twin), shade, image[..., 3])
    return styles


def mirrored(part: FittedPart, twin: np.ndarray) -> FittedPart:
    """The part with left and right exchanged; `twin` [19158] is each base vertex's mirror image."""
    return replace(part, index=twin[part.index], offset=part.offset * [-1, 1, 1])


def cropped(part: FittedPart, reference: np.ndarray) -> FittedPart:
    """The part without what hangs below the mouth."""
    keep = part.fit(reference)[part.triangles, 1].mean(1) > TRIM_HEIGHT
    return replace(part, triangles=part.triangles[keep], uv=part.uv[keep])


class HairShell:
    """The shell texels of an atlas on the reference head: rays, and the scalp below for people without hair."""

    def __init__(self, template: HeadTemplate, atlas: Atlas, bound: np.ndarray):
        """`bound`: template vertices [V, 3] of the reference base mesh, in base units."""
        self.bound, self.template = bound, template
        triangles, part = template.triangles.numpy(), template.part.numpy()
        self.skin = triangles[part[triangles[:, 0]] == template.part_index("skin")]
        rowcol, owner = atlas.texel_rowcol.numpy(), atlas.texel_part.numpy()
        self.texels = np.flatnonzero(owner == template.part_index("hair"))
        # Column and fraction of the way down of every ray, from those of the shell's vertices.
        vertices = np.flatnonzero(part == template.part_index("hair"))
        down = np.concatenate([[0.0], np.repeat(np.arange(1, DOWN + 1) / DOWN, AROUND)])
        around = np.tile(azimuths(), DOWN)
        compass = np.concatenate([[[0.0, 0.0]], np.stack([np.sin(around), np.cos(around)], -1)])
        local = np.full(len(part), -1)
        local[vertices] = np.arange(len(vertices))
        face, weight = rasterise_uv(template.uv.numpy(), atlas.size * SIDE)
        steps = np.stack(np.meshgrid(range(SIDE), range(SIDE), indexing="ij"), -1).reshape(-1, 2)
        at = rowcol[self.texels][:, None] * SIDE + steps
        face, weight = face[at[..., 0], at[..., 1]], weight[at[..., 0], at[..., 1]]
        corners = local[triangles[face]]  # [H, K, 3]; rays at the chart's edge may belong to another part
        self.inside = (face >= 0) & (corners >= 0).all(-1)
        corners = np.where(self.inside[..., None], corners, 0)
        self.fraction = (down[corners] * weight).sum(-1)  # [H, K]
        sine, cosine = np.moveaxis((compass[corners] * weight[..., None]).sum(-2), -1, 0)
        self.azimuth = np.arctan2(sine, cosine)  # [H, K]

    def layer(self, style: HairStyle, reference: np.ndarray) -> HairLayer:
        """What the rays meet, each column as long as the style is there."""
        mesh = style.part.fit(reference)
        lengths = self._lengths(style, mesh)
        wrapped = np.append(lengths, lengths[0])
        length = np.interp(self.azimuth, np.append(azimuths(), np.pi), wrapped)
        triangle, bary, shade = self._cast(style, mesh, self.azimuth.ravel(), (length * self.fraction).ravel())
        shape = self.fraction.shape
        return HairLayer(
            np.where(self.inside, triangle.reshape(shape), -1),
            bary.reshape(*shape, 3).astype(np.float32),
            shade.reshape(shape),
        )

    def _lengths(self, style: HairStyle, mesh: np.ndarray, samples: int = 100) -> np.ndarray:
        """[AROUND] where each column's hair ends: the split that best parts hair above from bare rays below."""
        distance = np.linspace(0, column_length(np.array(LONGEST)), samples + 1)[1:]
        around, along = np.meshgrid(azimuths(), distance, indexing="ij")
        triangle, _, _ = self._cast(style, mesh, around.ravel(), along.ravel())
        score = np.cumsum(np.where(triangle.reshape(around.shape) >= 0, 1, -1), axis=1)
        lengths = distance[score.argmax(1)]
        return gaussian_filter1d(lengths, 1.2, mode="wrap") + 0.04

    def _cast(self, style: HairStyle, mesh: np.ndarray, azimuth: np.ndarray, distance: np.ndarray):
        """Outermost opaque hit of rays [R]: triangle (-1: none), barycentric coordinates [R, 3], shade."""
        origins, directions = shell_rays(azimuth, distance)
        to_skin = cast_rays(origins, directions, self.bound, self.skin)[0][:, 0]
        depth, hit, bary = cast_rays(origins, directions, mesh, style.part.triangles, max_hits=10)
        uv = (style.part.uv[np.maximum(hit, 0)] * bary[..., None]).sum(2)
        alpha = sample_image(style.alpha[..., None], uv.reshape(-1, 2)).reshape(hit.shape)
        height = (origins[:, None] + directions[:, None] * np.minimum(depth, 9)[..., None]) @ self._neck[:3]
        seen = (hit >= 0) & (alpha > OPAQUE) & (depth < np.minimum(to_skin + UNDER_SKIN, FAR)[:, None])
        seen &= height + self._neck[3] > 0
        first, rows = seen.argmax(1), np.arange(len(hit))
        shade = sample_image(style.shade[..., None], uv[rows, first])[:, 0]
        return np.where(seen.any(1), hit[rows, first], -1), bary[rows, first], shade

    @property
    def _neck(self) -> np.ndarray:
        """The neck's cut (n, d) in base units."""
        plane = np.array(self.template.neck_plane)
        scale, origin = self.template.normalisation(self.bound)
        return np.append(plane[:3], plane[3] / scale - plane[:3] @ origin)

    def scalp(self, positions: np.ndarray, part: np.ndarray) -> np.ndarray:
        """[H] skin texel under each shell texel, where hair ends that was never there: for bald people.

        Args:
            positions: [T, 3] of all texels on the reference head. part: [T].
        """
        # Between the brows-high front of the template's shell and its sides lies a natural hairline.
        side = np.abs(np.rad2deg(azimuths()))
        lengths = column_length(np.interp(side, [0, 50, 75, 100, 180], [8.05, 7.75, 7.3, 6.7, 6.4]))
        length = np.interp(self.azimuth, np.append(azimuths(), np.pi), np.append(lengths, lengths[0]))
        origins, directions = shell_rays(self.azimuth.mean(1), (length * self.fraction).mean(1))
        depth = cast_rays(origins, directions, self.bound, self.skin)[0][:, 0]
        skin = np.flatnonzero(part == self.template.part_index("skin"))
        points = origins + directions * np.where(np.isfinite(depth), depth, FAR - 0.8)[:, None]
        return skin[cKDTree(positions[skin]).query(points)[1]]


class HairLayers:
    """The layers of all styles on one atlas, each made on first use (about a second)."""

    def __init__(self, shell: HairShell, styles: dict[str, HairStyle], reference: np.ndarray):
        self.shell, self.styles, self.reference = shell, styles, reference
        self.made: dict[str, HairLayer] = {}

    def __getitem__(self, name: str) -> HairLayer:
        if name not in self.made:
            self.made[name] = self.shell.layer(self.styles[name], self.reference)
        return self.made[name]
