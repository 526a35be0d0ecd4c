"""Textures, fitted parts and their projections onto the template's texels, loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from dgtalker.errors import UserError
from dgtalker.head.template import Atlas, HeadTemplate, rasterise_uv
from dgtalker.people.fitted import FittedPart, read_part
from dgtalker.people.hair import HairShell, HairStyle, ShellHitsByStyle, load_hair_styles
from dgtalker.people.morphs import head_morphs
from dgtalker.people.rays import cast_rays
from dgtalker.people.textures import load_image, sample_image

SKIN_SIZE = 1024  # side of the skin textures kept in memory
SUBSAMPLES = 4  # per texel side, when textures are averaged over a texel


@dataclass(frozen=True)
class TexelLayers:
    """Everything about one atlas that does not depend on the person."""

    corners: np.ndarray  # [T, 3] vertices of each texel's triangle
    bary: np.ndarray  # [T, 3]
    part: np.ndarray  # [T]
    skins: np.ndarray  # [S, T, 3] skin textures on the texels (zero elsewhere)
    eyes: np.ndarray  # [E, T, 3]
    tongue: np.ndarray  # [T, 3]
    teeth: np.ndarray  # [T, 3]
    brows: np.ndarray  # [B, T] coverage
    lashes: np.ndarray  # [T] closeness to the roots of the lashes
    hair_texels: np.ndarray  # [H] texels of the hair shell
    scalp: np.ndarray  # [H] the skin texel under each of them where there is no hair
    hair: ShellHitsByStyle  # by style


def _fill_neck(image: np.ndarray, small: int = 256) -> np.ndarray:
    """Continue a skin [H, W, 3] over the texture's blank ground, which the lower neck would show otherwise."""
    from PIL import Image
    from scipy import ndimage

    step = len(image) // small
    low = image.reshape(small, step, small, step, 3).mean((1, 3))
    ground = np.median(low[: small // 8, small // 8 : small // 4].reshape(-1, 3), 0)  # no part lies there
    blank = ndimage.binary_dilation(np.abs(low - ground).max(-1) < 0.02, iterations=4)
    blank = ndimage.binary_opening(blank, iterations=3)
    nearest = ndimage.distance_transform_edt(blank, return_distances=False, return_indices=True)
    filled = low[tuple(nearest)]
    filled = np.stack([ndimage.gaussian_filter(filled[..., c], 3) for c in range(3)], -1)
    share = ndimage.gaussian_filter(blank.astype(np.float32), 1.5)

    def enlarge(values: np.ndarray) -> np.ndarray:
        return np.asarray(
            Image.fromarray(values.astype(np.float32)).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
        )

    share = np.clip(enlarge(share) * 2, 0, 1)[..., None]
    return image * (1 - share) + np.stack([enlarge(filled[..., c]) for c in range(3)], -1) * share


class PersonAssets:
    """MakeHuman's asset folder on the head template. Raises UserError if the folder lacks what is needed."""

    def __init__(self, makehuman_dir: str | Path, template: HeadTemplate | None = None):
        self.folder = Path(makehuman_dir)
        if not (self.folder / "skins").is_dir():
            raise UserError(f"{self.folder} is not a MakeHuman asset folder: it needs skins/, hair/, eyes/ and teeth/.")
        self.template = template or HeadTemplate.load()
        self.morphs = head_morphs()
        self.triangles = self.template.triangles.numpy()
        self.part = self.template.part.numpy()
        self.reference = self.morphs.base.vertices  # projections are made on the base mesh itself
        self.skin_files = sorted(self.folder.glob("skins*/*.jpg"))
        self.skin_names = [f.stem for f in self.skin_files]
        self.eye_files = sorted((self.folder / "eyes" / "materials").glob("*_eye.png"))
        self.brow_names = [p.name for p in sorted((self.folder / "eyebrows").iterdir())]
        self.lash_names = [p.name for p in sorted((self.folder / "eyelashes").iterdir())]
        self._layers: dict[int, TexelLayers] = {}

    # --- textures -------------------------------------------------------------------------------------------------

    @cached_property
    def skins(self) -> np.ndarray:
        """Skin textures [S, 1024, 1024, 3] uint8."""
        return np.stack(
            [(_fill_neck(load_image(f, SKIN_SIZE)[..., :3]) * 255).astype(np.uint8) for f in self.skin_files]
        )

    @cached_property
    def eyes(self) -> np.ndarray:
        """Eye textures [E, 256, 256, 3] in 0..1."""
        return np.stack([load_image(f, 256)[..., :3] for f in self.eye_files])

    @cached_property
    def brows(self) -> list[tuple[FittedPart, np.ndarray]]:
        """Brow meshes with coverage [256, 256]."""
        return [self._alpha_part("eyebrows", name) for name in self.brow_names]

    @cached_property
    def lashes(self) -> list[tuple[FittedPart, np.ndarray]]:
        """Lash meshes with coverage [256, 256]."""
        return [self._alpha_part("eyelashes", name) for name in self.lash_names]

    def _alpha_part(self, kind: str, name: str) -> tuple[FittedPart, np.ndarray]:
        folder = self.folder / kind / name
        return read_part(folder / f"{name}.mhclo"), load_image(folder / f"{name}.png", 256)[..., 3]

    @cached_property
    def teeth(self) -> FittedPart:
        """The teeth and gums."""
        return read_part(self.folder / "teeth/teeth_base/teeth_base.mhclo")

    @cached_property
    def tongue(self) -> FittedPart:
        """The tongue."""
        return read_part(self.folder / "tongue/tongue01/tongue01.mhclo")

    @cached_property
    def teeth_image(self) -> np.ndarray:
        """[512, 512, 3]; enamel is brightened and faintly warm, as photographed teeth are."""
        image = load_image(self.folder / "teeth/materials/teeth.png", 512)[..., :3]
        grey = (image.max(-1, keepdims=True) - image.min(-1, keepdims=True)) < 0.12
        return np.where(grey, np.clip(image * [1.0, 0.97, 0.9], 0, 1), image * 0.9).astype(np.float32)

    @cached_property
    def tongue_image(self) -> np.ndarray:
        """[256, 256, 3]."""
        return load_image(self.folder / "tongue/tongue01/tongue01_diffuse.png", 256)[..., :3] * [0.9, 0.72, 0.72]

    @cached_property
    def hair(self) -> dict[str, HairStyle]:
        """Hair styles by name, with their variants."""
        return load_hair_styles(self.folder / "hair", self.reference)

    # --- geometry -------------------------------------------------------------------------------------------------

    @cached_property
    def _face_to_vertex(self) -> sp.csr_matrix:
        count = len(self.triangles)
        return sp.coo_matrix(
            (np.ones(3 * count, np.float32), (self.triangles.ravel(), np.repeat(np.arange(count), 3))),
            shape=(len(self.part), count),
        ).tocsr()

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit vertex normals [V, 3] of template vertices [V, 3]; the hair shell's point away from the skull."""
        a, b, c = (vertices[self.triangles[:, i]] for i in range(3))
        normals = self._face_to_vertex @ np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return normals * self._facing[:, None]

    @cached_property
    def _facing(self) -> np.ndarray:
        """-1 for parts whose triangles are wound clockwise as seen from outside."""
        bound = self.template.bind(self.reference)
        a, b, c = (bound[self.triangles[:, i]] for i in range(3))
        normals, middle = np.cross(b - a, c - a), (a + b + c) / 3
        sign = np.ones(len(self.part))
        for index in range(len(self.template.part_names)):
            inside = self.part == index
            faces = self.part[self.triangles[:, 0]] == index
            if index in (1, 2):  # pockets of the skin keep its winding
                continue
            sign[inside] = np.sign(((middle[faces] - bound[inside].mean(0)) * normals[faces]).sum())
        return sign

    @cached_property
    def expression_deltas(self) -> np.ndarray:
        """[52, V, 3] how ARKit units move the template's vertices on any head, in base units."""
        return self.template.expression_basis.numpy() / self.template.mean_scale

    @cached_property
    def to_shape(self) -> np.ndarray:
        """[V*3, Ks]: vertex offsets from the mean -> shape coefficients, by least squares."""
        return np.linalg.pinv(self.template.shape_basis.flatten(1).numpy()).astype(np.float32)

    @cached_property
    def occlusion(self) -> np.ndarray:
        """[V] how much light reaches a vertex: little inside the mouth and the sockets, less on top of the eyes."""
        return self.occlusion_at(self.template.bind(self.reference), self.part)

    def occlusion_at(self, points: np.ndarray, part: np.ndarray) -> np.ndarray:
        """Light reaching points [N, 3] of the reference base mesh, by part index [N]."""
        y, z = points[:, 1], points[:, 2]
        names = self.template.part_names
        light = np.ones(len(points))
        inside = np.clip((z - 0.95) / 0.5, 0.06, 1)
        for name, strength in (("mouth_cavity", 0.8), ("teeth_upper", 0.95), ("teeth_lower", 0.9), ("tongue", 0.85)):
            light = np.where(part == names.index(name), inside**1.3 * strength, light)
        light = np.where(part == names.index("eye_socket"), 0.45, light)
        for name in ("eyeball_left", "eyeball_right"):
            light = np.where(part == names.index(name), 0.95 - 0.35 * np.clip((y - 7.28) / 0.12, 0, 1), light)
        return light

    @cached_property
    def stubble(self) -> np.ndarray:
        """[V] beard area: jaw, chin, upper lip and cheeks below the bone; not the lips."""
        points = self.template.bind(self.reference)
        x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]

        def step(value, low, high):
            return np.clip((value - low) / (high - low), 0, 1)

        top = 6.72 + 0.22 * step(x, 0.15, 0.6)  # the upper lip in front, the cheekbone at the side
        area = step(y, 5.95, 6.25) * (1 - step(y, top - 0.1, top + 0.1)) * step(z, 0.4, 0.8)
        lips = np.exp(-(((x / 0.30) ** 2 + ((y - 6.615) / 0.085) ** 2) ** 2)) * (z > 1.35)
        return area * (1 - lips) * (self.part == 0)

    # --- texels ---------------------------------------------------------------------------------------------------

    def layers(self, atlas: Atlas) -> TexelLayers:
        """Textures and projections on the texels of an atlas. Made on first use (a few seconds), then kept."""
        if atlas.size not in self._layers:
            self._layers[atlas.size] = self._make_layers(atlas)
        return self._layers[atlas.size]

    def _make_layers(self, atlas: Atlas) -> TexelLayers:
        template, size = self.template, atlas.size
        fine = size * SUBSAMPLES
        triangle, bary = rasterise_uv(template.uv.numpy(), fine)
        owner = np.full((size, size), -1)
        rowcol = atlas.texel_rowcol.numpy()
        owner[rowcol[:, 0], rowcol[:, 1]] = np.arange(len(atlas))
        row, col = np.nonzero(triangle >= 0)
        texel = owner[row // SUBSAMPLES, col // SUBSAMPLES]
        face, weight = triangle[row, col], bary[row, col]
        part = self.part[self.triangles[face, 0]]
        # A subsample counts for its texel only if both lie on the same part.
        valid = (texel >= 0) & (part == atlas.texel_part.numpy()[texel])
        texel, face, weight, part = texel[valid], face[valid], weight[valid], part[valid]
        uv = (template.texture_uv.numpy()[face] * weight[..., None]).sum(1)
        count = len(atlas)
        average = sp.coo_matrix(
            (np.ones(len(texel), np.float32), (texel, np.arange(len(texel)))), shape=(count, len(texel))
        )
        average = sp.diags(1 / np.maximum(np.asarray(average.sum(1)).ravel(), 1)) @ average.tocsr()

        def spread(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
            return (average[:, chosen] @ values).astype(np.float32)

        skin = np.flatnonzero(part <= 2)
        skins = np.stack([spread(skin, sample_image(s.astype(np.float32) / 255, uv[skin])) for s in self.skins])
        eye = np.flatnonzero((part == 3) | (part == 4))
        eyes = np.stack([spread(eye, sample_image(e, uv[eye])) for e in self.eyes])
        tongue = np.flatnonzero(part == template.part_index("tongue"))
        bound = template.bind(self.reference)
        position = (bound[self.triangles[face]] * weight[..., None]).sum(1)
        normal = self.normals(bound)
        direction = (normal[self.triangles[face]] * weight[..., None]).sum(1)
        teeth = np.flatnonzero(
            (part == template.part_index("teeth_upper")) | (part == template.part_index("teeth_lower"))
        )
        near = skin[(np.abs(position[skin, 1] - 7.4) < 0.2) & (position[skin, 2] > 1.0)]
        brows = np.stack(
            [
                spread(near, self.brow_coverage(k, position[near], direction[near])[:, None])[:, 0]
                for k in range(len(self.brows))
            ]
        )
        corners, texel_bary = self.triangles[atlas.texel_triangle.numpy()], atlas.texel_bary.numpy()
        roots = self.lash_roots()
        texel_position = (bound[corners] * texel_bary[..., None]).sum(1)
        closeness = np.zeros(count, np.float32)
        lids = np.flatnonzero((atlas.texel_part.numpy() == 0) & (texel_position[:, 2] > 1.15))
        distance = np.sqrt(((texel_position[lids, None] - roots[None]) ** 2).sum(-1)).min(1)
        closeness[lids] = np.exp(-((distance / 0.018) ** 2))
        shell = HairShell(template, atlas, bound)
        return TexelLayers(
            corners,
            texel_bary,
            atlas.texel_part.numpy(),
            skins,
            eyes,
            spread(tongue, sample_image(self.tongue_image, uv[tongue])),
            spread(teeth, self._teeth_color(position[teeth], part[teeth])),
            brows,
            closeness,
            shell.texels,
            shell.find_scalp(texel_position, atlas.texel_part.numpy()),
            ShellHitsByStyle(shell, self.hair, self.reference),
        )

    def brow_coverage(self, index: int, position: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Coverage [N] of brow style `index` at skin points of the reference base mesh."""
        part, alpha = self.brows[index]
        vertices = part.fit(self.reference)
        distance, face, bary = cast_rays(position - 0.05 * normal, normal, vertices, part.triangles)
        hit = distance[:, 0] < 0.13
        coverage = np.zeros(len(position), np.float32)
        uv = (part.uv[face[hit, 0]] * bary[hit, 0][..., None]).sum(1)
        coverage[hit] = sample_image(alpha[..., None], uv)[:, 0]
        return coverage

    def lash_roots(self) -> np.ndarray:
        """Points [N, 3] on the lid margins: lash vertices that touch the eyeballs' front."""
        part = self.lashes[0][0]
        points = part.fit(self.reference)
        skin = self.template.bind(self.reference)[self.part == 0]
        distance = np.sqrt(((points[:, None] - skin[None]) ** 2).sum(-1)).min(1)
        return points[distance < 0.03]

    def _teeth_color(self, position: np.ndarray, part: np.ndarray) -> np.ndarray:
        vertices = self.teeth.fit(self.reference)
        upper = self.teeth.index[:, 0] >= 15060
        color = np.zeros((len(position), 3), np.float32)
        axis = position * [0, 1, 0] + [0, 0, 1.0]
        outward = position - axis
        outward /= np.linalg.norm(outward, axis=1, keepdims=True)
        for name, wanted in (("teeth_upper", True), ("teeth_lower", False)):
            chosen = np.flatnonzero(part == self.template.part_index(name))
            keep = (upper[self.teeth.triangles] == wanted).all(1)
            triangles, uv = self.teeth.triangles[keep], self.teeth.uv[keep]
            distance, face, bary = cast_rays(
                position[chosen] + 0.15 * outward[chosen], -outward[chosen], vertices, triangles
            )
            hit = distance[:, 0] < 0.4
            color[chosen] = [0.62, 0.56, 0.5]
            at = (uv[face[hit, 0]] * bary[hit, 0][..., None]).sum(1)
            color[chosen[hit]] = sample_image(self.teeth_image, at)
        return color


def as_numpy(values) -> np.ndarray:
    """A tensor or array as float64 numpy."""
    return (values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)).astype(
        np.float64
    )
