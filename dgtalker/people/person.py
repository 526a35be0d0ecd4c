"""Random people with known factors, their geometry and their colours on the template's texels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dgtalker.head.template import Atlas
from dgtalker.people.assets import PersonAssets, TexelLayers, as_numpy
from dgtalker.people.fitted import FittedPart
from dgtalker.people.morphs import FaceShape, sample_shape

# Hair colours, sRGB of the mean strand: black, dark and middle brown, chestnut, auburn, red, dark and light blond,
# grey, white.
HAIR_COLORS = np.array(
    [
        [0.07, 0.06, 0.06],
        [0.15, 0.10, 0.07],
        [0.25, 0.17, 0.11],
        [0.34, 0.21, 0.13],
        [0.36, 0.17, 0.10],
        [0.50, 0.24, 0.12],
        [0.50, 0.38, 0.22],
        [0.72, 0.58, 0.38],
        [0.50, 0.49, 0.48],
        [0.80, 0.79, 0.77],
    ]
)
BALD_PROBABILITY = 0.12
FEMALE_CUTS = ("bob01", "bob02", "braid01", "long01", "ponytail01")


@dataclass(frozen=True)
class Person:
    """One synthetic person: everything that decides how the head looks, apart from the expression."""

    assets: PersonAssets = field(repr=False, compare=False)
    shape: FaceShape
    skin: tuple[int, int]  # two skin textures
    skin_mix: float  # share of the second
    tint: np.ndarray  # [3] multiplies the skin
    eye: int
    brow: int
    brow_strength: float  # 0..1
    lash: int
    hair: str | None  # style, None: bald
    hair_color: np.ndarray  # [3]
    stubble: float  # 0..1
    light: np.ndarray  # [4, 3] spherical harmonics of order 0 and 1, in colour

    @cached_property
    def base(self) -> np.ndarray:
        """Neutral hm08 base mesh [19158, 3], not normalised."""
        return self.assets.morphs.neutral(self.shape)

    @cached_property
    def normalisation(self) -> tuple[float, np.ndarray]:
        """Scale and origin: world = (base - origin) * scale."""
        return self.assets.template.normalisation(self._bound)

    @cached_property
    def _bound(self) -> np.ndarray:
        return self.assets.template.bind(self.base)

    @cached_property
    def neutral_vertices(self) -> np.ndarray:
        """Template vertices [V, 3] of the neutral head, world units."""
        scale, origin = self.normalisation
        return (self._bound - origin) * scale

    @cached_property
    def shape_coefficients(self) -> np.ndarray:
        """Template shape coefficients [Ks] nearest to this head (1 = one standard deviation)."""
        difference = self.neutral_vertices - self.assets.template.vertices.numpy()
        return (difference.ravel() @ self.assets.to_shape).astype(np.float32)

    def vertices(self, expression: np.ndarray) -> np.ndarray:
        """Template vertices [V, 3] with ARKit values [52], world units."""
        return self.neutral_vertices + np.tensordot(
            as_numpy(expression) * self.normalisation[0], self.assets.expression_deltas, 1
        )

    def fit(self, part: FittedPart, expression: np.ndarray) -> np.ndarray:
        """World vertices [Vp, 3] of a fitted part."""
        scale, origin = self.normalisation
        delta = part.fit_delta(self.assets.morphs.expression(as_numpy(expression)))
        return (part.fit(self.base) + delta - origin) * scale

    def irradiance(self, normals: np.ndarray) -> np.ndarray:
        """Light [N, 3] on surfaces with unit normals [N, 3]: soft, from low-order spherical harmonics."""
        return self.light[0] + normals @ self.light[1:]

    def blend_skins(self, skins: np.ndarray) -> np.ndarray:
        """Blend of this person's two skins out of [S, ..., 3], tinted, not clipped."""
        return (skins[self.skin[0]] * (1 - self.skin_mix) + skins[self.skin[1]] * self.skin_mix) * self.tint

    @property
    def brow_color(self) -> np.ndarray:
        """[3] a little darker than the hair."""
        return np.clip(self.hair_color * 0.75, 0.03, 0.55)

    def factors(self) -> np.ndarray:
        """All factors as one vector [Z] of fixed length, each with about zero mean and unit variance."""
        return np.concatenate([values for values, _ in self._factor_groups()]).astype(np.float32)

    def factor_choices(self) -> list[tuple[int, int, float]]:
        """Ranges (start, stop) of `factors` that choose one of several, and how sharply a mixture is resolved."""
        starts, choices = 0, []
        for values, sharpness in self._factor_groups():
            if sharpness:
                choices.append((starts, starts + len(values), sharpness))
            starts += len(values)
        return choices

    def _factor_groups(self) -> list[tuple[np.ndarray, float]]:
        """(values, sharpness of the choice; 0 where there is nothing to choose)."""
        assets = self.assets

        def one_hot(index: int, count: int, weight: float = 1.0) -> np.ndarray:
            p = 1 / count
            return ((np.arange(count) == index) * weight - p) / np.sqrt(p * (1 - p))

        n = len(assets.skin_files)
        skin = one_hot(self.skin[0], n, 1 - self.skin_mix) + one_hot(self.skin[1], n, self.skin_mix)
        styles = [None, *assets.hair]
        return [
            (self.shape_coefficients, 0),
            (skin + 1 / n / np.sqrt((1 - 1 / n) / n), 2.0),  # skins do mix
            (whiten_color(self.tint, TINTS), 0),
            (one_hot(self.eye, len(assets.eye_files)), 8.0),
            (one_hot(self.brow, len(assets.brow_names)), 8.0),
            (np.array([(self.brow_strength - 0.75) / 0.2]), 0),
            (one_hot(self.lash, len(assets.lash_names)), 8.0),
            (one_hot(styles.index(self.hair), len(styles)), 8.0),
            (whiten_color(self.hair_color, HAIR_COLORS), 0),
            (np.array([(self.stubble - 0.15) / 0.25]), 0),
            ((self.light.mean(1) - LIGHT_MEAN) / LIGHT_STD, 0),
            (np.array([(self.light[0, 0] - self.light[0, 2]) / self.light[0].mean() / 0.05]), 0),  # warmth
        ]


def whiten_color(color: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """A colour [3] along the principal axes of a palette [n,3], in standard deviations.

    The channels of colours vary together: a random draw of these factors is again a colour of that kind.
    """
    spread, axes = np.linalg.eigh(np.cov(palette.T))
    return (color - palette.mean(0)) @ axes / np.sqrt(np.maximum(spread, 4e-4))


# Tints of skin about as `sample_person` draws them: brightness, then warmth and green.
TINTS = 0.97 + np.array([[1, 1, 1], [-1, -1, -1], [0.5, 0, -0.5], [-0.5, 0, 0.5], [0, 0.2, 0], [0, -0.2, 0]]) * 0.1
LIGHT_MEAN = np.array([0.92, 0.0, 0.08, 0.10])
LIGHT_STD = np.array([0.07, 0.07, 0.05, 0.05])


def sample_person(rng: np.random.Generator, assets: PersonAssets) -> Person:
    """A random person: all skins and hair cuts equally likely; sex, age, skin and colours roughly consistent."""
    shape = replace(sample_shape(rng, assets.morphs), age=float(rng.uniform(0.35, 1.0)))  # as many old as young
    female = shape.gender < 0.5
    # The first skin agrees with age and sex most of the time; tones mix freely.
    tone = "dark" if rng.random() < 0.45 else "light"
    age = "old" if shape.age > 0.8 else "young" if shape.age < 0.55 else "middleage"
    sex = "female" if female else "male"
    scores = np.array(
        [4.0 * (f"{tone}skinned" in n) + 3.0 * (f"_{sex}_" in n) + 1.5 * n.startswith(age) for n in assets.skin_names]
    )
    chance = np.exp(scores)
    first = int(rng.choice(len(chance), p=chance / chance.sum()))
    second = int(rng.choice(len(chance), p=np.sqrt(chance) / np.sqrt(chance).sum()))
    # Pale skins are bright already: light must leave them room below white.
    tint = rng.uniform(0.9, 1.12) if tone == "dark" else rng.uniform(0.82, 1.0)
    tint = tint * (1 + rng.normal(0, [0.035, 0.012, 0.035]))

    grey = shape.age > 0.7 and rng.random() < 0.6
    weights = (
        np.array([3, 3, 2, 2, 1, 1, 1.5, 1.5, 0.5, 0.3])
        if tone == "light"
        else np.array([6, 4, 2, 1, 0.5, 0.2, 0.3, 0.3, 0.5, 0.3])
    )
    if grey:
        weights = np.array([1, 1, 1, 0.5, 0, 0, 0.5, 0.5, 5, 4])
    a, b = rng.choice(len(weights), 2, p=weights / weights.sum())
    hair_color = np.clip(
        (HAIR_COLORS[a] + 0.4 * rng.random() * (HAIR_COLORS[b] - HAIR_COLORS[a])) * rng.uniform(0.85, 1.2), 0, 1
    )
    hair = None
    if rng.random() > BALD_PROBABILITY * (0.3 if female else 1.8):
        names = list(assets.hair)
        cuts = [name.split()[0] for name in names]  # variants of a cut share its chance
        long = np.isin(cuts, FEMALE_CUTS)
        chance_style = np.where(long == female, 1.0, 0.3) / np.array([cuts.count(cut) for cut in cuts])
        hair = str(rng.choice(names, p=chance_style / chance_style.sum()))
    brown = np.array([file.stem.startswith("brown") for file in assets.eye_files])
    eye_chance = np.where(brown, 12.0 if tone == "dark" else 3.0, 1.0)
    direction = rng.normal(0, 1, 3) * [0.07, 0.05, 0.05] + [0, 0.08, 0.10]
    warm = 1 + rng.normal(0, 0.025) * np.array([1, 0.1, -1])
    light = np.concatenate([[rng.normal(0.92, 0.07)], direction])[:, None] * warm
    return Person(
        assets,
        shape,
        (first, second),
        float(rng.beta(0.8, 0.8)),
        tint,
        int(rng.choice(len(eye_chance), p=eye_chance / eye_chance.sum())),
        int(rng.integers(len(assets.brow_names))),
        float(rng.uniform(0.45, 1.0)),
        int(rng.integers(len(assets.lash_names))),
        hair,
        hair_color,
        0.0 if female or rng.random() < 0.5 else float(rng.uniform(0.1, 0.8)),
        light,
    )


def compute_person_texels(person: Person, expression: np.ndarray, atlas: Atlas) -> dict[str, np.ndarray]:
    """UV-map targets: positions [T, 3] world, color [T, 3] in 0..1, opacity [T]; ARKit values [52].

    The hair shell's texels lie on the outermost hair along their ray, opacity 0 where there is none; on a bald head
    they lie on the scalp and look like it.
    """
    assets = person.assets
    layers = assets.layers(atlas)
    vertices = person.vertices(expression)
    corners = layers.corners
    positions = np.einsum("tkc,tk->tc", vertices[corners], layers.bary)
    light = person.irradiance(assets.normals(vertices)) * assets.occlusion[:, None]
    light = np.einsum("tkc,tk->tc", light[corners], layers.bary)
    albedo = np.clip(compute_albedo(person, layers), 0, 1)
    opacity = np.ones(len(positions))
    color = albedo * light

    shell = layers.hair_texels
    if person.hair is None:  # the shell lies on the scalp: half of someone's hair is then shorter hair, not a veil
        normal = np.einsum("tkc,tk->tc", assets.normals(vertices)[corners[layers.scalp]], layers.bary[layers.scalp])
        positions[shell] = positions[layers.scalp] + 0.01 * normal
        color[shell] = color[layers.scalp]
    else:
        opacity[shell] = 0
        color[shell] = person.hair_color * np.clip(light[shell], 0, None)
        style, hits = assets.hair[person.hair], layers.hair[person.hair]
        mesh = person.fit(style.part, np.zeros(52))
        hit = hits.triangle >= 0
        found = np.einsum("hkac,hka->hkc", mesh[style.part.triangles[np.maximum(hits.triangle, 0)]], hits.bary)
        hit &= is_above_neck(found, assets)
        share = hit.sum(1)
        some = share > 0
        weight = hit / np.maximum(share, 1)[:, None]
        positions[shell[some]] = np.einsum("hkc,hk->hc", found, weight)[some]
        shade = hair_shade((hits.shade * weight).sum(1))
        color[shell[some]] *= shade[some, None]
        opacity[shell] = share / hits.triangle.shape[1]
    return {
        "positions": positions.astype(np.float32),
        "color": np.clip(color, 0, 1).astype(np.float32),
        "opacity": opacity.astype(np.float32),
    }


def compute_albedo(person: Person, layers: TexelLayers) -> np.ndarray:
    """Colours [T, 3] without light, hair shell left at zero."""
    assets = person.assets
    skin = layers.part <= 2
    color = np.where(skin[:, None], person.blend_skins(layers.skins), 0.0)
    stubble = (assets.stubble[layers.corners] * layers.bary).sum(1) * person.stubble
    color *= stubble_tint(stubble, person)
    cover = layers.brows[person.brow] * person.brow_strength
    color += cover[:, None] * (person.brow_color - color)
    color *= (1 - 0.55 * layers.lashes)[:, None]
    return color + layers.eyes[person.eye] + layers.tongue + layers.teeth


def stubble_tint(amount: np.ndarray, person: Person) -> np.ndarray:
    """Multiplier [N, 3] of skin under stubble [N] in 0..1."""
    beard = 0.5 + 0.45 * person.hair_color
    return 1 - amount[..., None] * (1 - beard)


def hair_shade(luminance: np.ndarray) -> np.ndarray:
    """Brightness of hair from its texture's luminance (mean 1), compressed: shine is not colour."""
    return 0.35 + 0.65 * np.clip(luminance, 0, 2.2) ** 0.7


def is_above_neck(points: np.ndarray, assets: PersonAssets) -> np.ndarray:
    """True where world points [..., 3] lie above the neck's cut: long hair ends there too."""
    normal = np.array(assets.template.neck_plane)
    return points @ normal[:3] + normal[3] > 0
