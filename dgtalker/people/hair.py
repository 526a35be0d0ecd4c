"""Hair: MakeHuman's styles, and the shell around the skull whose rays find the hair of synthetic people.

The shell has a column per azimuth. From the crown a column runs down a dome; below `DROP_FROM` it hangs straight, as a
curtain. A column is as long as the hair that it carries, so a texel stands for a fraction of the way from the crown to
the hair's end, whatever the style, and a mixture of two styles has a length between theirs instead of a veil.
Units are those of the base mesh (decimetres, y up, the face looks along +z); distances along the dome are its angles on
a circle of one decimetre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import KDTree

from dgtalker.head.template import Atlas, HeadTemplate, rasterise_uv
from dgtalker.people.fitted import FittedPart, read_part
from dgtalker.people.rays import cast_rays
from dgtalker.people.textures import load_image, sample_image

OPAQUE = 0.35  # alpha from which hair counts as there
UNDER_SKIN = 0.06  # hair this far below the scalp still shows: cards dip in and out
TRIM_HEIGHT = 6.7  # "cropped" variants end here, at the mouth (base-mesh units)
LONG = 6.3  # styles that reach below this height have a cropped variant
RAYS_PER_SIDE = 2  # of a shell texel

AROUND, DOWN = 64, 20  # columns, and rows below the crown, of the template's shell
CENTRE = np.array([0.0, 7.45, 0.45])
DROP_FROM = 7.15  # height below which the dome turns into a curtain
FAR = 3.0  # rays start this far out
# The template's own columns end at the brows in front, behind the cheek at the side, at the neck behind.
SHELL_AZIMUTHS, SHELL_LOWEST = [0, 48, 72, 85, 180], [7.50, 7.45, 6.6, 5.95, 5.85]
LONGEST = 5.75  # height that no column goes below


def azimuths() -> np.ndarray:
    """[AROUND] in radians: 0 is the front, a quarter turn the subject's left."""
    return np.linspace(-np.pi, np.pi, AROUND, endpoint=False)


def column_length(lowest: np.ndarray) -> np.ndarray:
    """Length of columns that end at heights `lowest`."""
    return np.pi / 2 - _dome_end(lowest) + np.maximum(0.0, DROP_FROM - lowest)


def template_lengths() -> np.ndarray:
    """[AROUND] lengths of the template's own columns."""
    return column_length(np.interp(np.abs(np.rad2deg(azimuths())), SHELL_AZIMUTHS, SHELL_LOWEST))


def _dome_end(lowest: np.ndarray | float) -> np.ndarray:
    return np.arcsin(np.clip(np.maximum(lowest, DROP_FROM) - CENTRE[1], -1, 1))


DOME = float(np.pi / 2 - _dome_end(DROP_FROM))  # distance from the crown at which the curtain begins


def shell_rays(azimuth: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origins and unit directions (inwards) [..., 3] of the rays at `distance` from the crown along columns."""
    elevation = np.pi / 2 - np.minimum(distance, DOME)
    outwards = np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)], -1
    )
    origin = CENTRE + FAR * outwards
    origin[..., 1] -= np.maximum(0.0, distance - DOME)
    return origin, -outwards


@dataclass(frozen=True)
class HairStyle:
    """A hair mesh and its texture without colour."""

    part: FittedPart
    shade: np.ndarray  # [h, w] luminance, mean 1 where opaque
    alpha: np.ndarray  # [h, w]


@dataclass(frozen=True)
class ShellHits:
    """Where the rays of the hair shell meet a hair style, K rays for each shell texel."""

    triangle: np.ndarray  # [H, K] int64, -1: passes
    bary: np.ndarray  # [H, K, 3]
    shade: np.ndarray  # [H, K] luminance of the texture there, mean 1


def load_hair_styles(folder: Path, reference: np.ndarray) -> dict[str, HairStyle]:
    """All styles under `folder` by name; each also "mirrored", and long ones "cropped".

    Heights and mirror twins are taken from the base mesh `reference` [19158, 3].
    """
    _, twin = KDTree(reference).query(reference * [-1, 1, 1])
    styles: dict[str, HairStyle] = {}
    for place in sorted(folder.iterdir()):
        image = load_image(next(place.glob("*_diffuse.png")), 512)
        luminance = image[..., :3] @ np.array([0.3, 0.59, 0.11], np.float32)
        shade = np.clip(luminance / max(luminance[image[..., 3] > 0.5].mean(), 1e-3), 0, 3).astype(np.float32)
        part = read_part(place / f"{place.name}.mhclo")
        parts = {place.name: part}
        if np.percentile(part.fit(reference)[:, 1], 5) < LONG:
            parts[f"{place.name} cropped"] = crop_part(part, reference)
        for name, part in parts.items():
            styles[name] = HairStyle(part, shade, image[..., 3])
            styles[f"{name} mirrored"] = HairStyle(mirror_part(part, twin), shade, image[..., 3])
    return styles


def mirror_part(part: FittedPart, twin: np.ndarray) -> FittedPart:
    """The part with left and right exchanged; `twin` [19158] is each base vertex's mirror image."""
    return replace(part, index=twin[part.index], offset=part.offset * [-1, 1, 1])


def crop_part(part: FittedPart, reference: np.ndarray) -> FittedPart:
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
        face, weight = rasterise_uv(template.uv.numpy(), atlas.size * RAYS_PER_SIDE)
        steps = np.stack(np.meshgrid(range(RAYS_PER_SIDE), range(RAYS_PER_SIDE), indexing="ij"), -1).reshape(-1, 2)
        at = rowcol[self.texels][:, None] * RAYS_PER_SIDE + steps
        face, weight = face[at[..., 0], at[..., 1]], weight[at[..., 0], at[..., 1]]
        corners = local[triangles[face]]  # [H, K, 3]; rays at the chart's edge may belong to another part
        self.inside = (face >= 0) & (corners >= 0).all(-1)
        corners = np.where(self.inside[..., None], corners, 0)
        self.fraction = (down[corners] * weight).sum(-1)  # [H, K]
        sine, cosine = np.moveaxis((compass[corners] * weight[..., None]).sum(-2), -1, 0)
        self.azimuth = np.arctan2(sine, cosine)  # [H, K]

    def intersect(self, style: HairStyle, reference: np.ndarray) -> ShellHits:
        """Where the rays meet the style, each column as long as the style is there."""
        mesh = style.part.fit(reference)
        lengths = self._lengths(style, mesh)
        wrapped = np.append(lengths, lengths[0])
        length = np.interp(self.azimuth, np.append(azimuths(), np.pi), wrapped)
        triangle, bary, shade = self._cast(style, mesh, self.azimuth.ravel(), (length * self.fraction).ravel())
        shape = self.fraction.shape
        return ShellHits(
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

    def _cast(
        self, style: HairStyle, mesh: np.ndarray, azimuth: np.ndarray, distance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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

    def find_scalp(self, positions: np.ndarray, part: np.ndarray) -> np.ndarray:
        """[H] the skin texel under each shell texel, within a natural hairline: for bald people.

        `positions` [T, 3] and `part` [T] are of all texels on the reference head.
        """
        side = np.abs(np.rad2deg(azimuths()))
        lengths = column_length(np.interp(side, [0, 50, 75, 100, 180], [8.05, 7.75, 7.3, 6.7, 6.4]))
        length = np.interp(self.azimuth, np.append(azimuths(), np.pi), np.append(lengths, lengths[0]))
        origins, directions = shell_rays(self.azimuth.mean(1), (length * self.fraction).mean(1))
        depth = cast_rays(origins, directions, self.bound, self.skin)[0][:, 0]
        skin = np.flatnonzero(part == self.template.part_index("skin"))
        points = origins + directions * np.where(np.isfinite(depth), depth, FAR - 0.8)[:, None]
        return skin[KDTree(positions[skin]).query(points)[1]]


class ShellHitsByStyle:
    """The hits of all styles on one atlas, each computed on first use (about a second)."""

    def __init__(self, shell: HairShell, styles: dict[str, HairStyle], reference: np.ndarray):
        self.shell, self.styles, self.reference = shell, styles, reference
        self.made: dict[str, ShellHits] = {}

    def __getitem__(self, name: str) -> ShellHits:
        if name not in self.made:
            self.made[name] = self.shell.intersect(self.styles[name], self.reference)
        return self.made[name]
