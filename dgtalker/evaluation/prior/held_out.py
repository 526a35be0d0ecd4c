"""Held-out people: who is measured, from which views, and which groups they belong to.

Held-out person i is drawn from a range of seeds of its own (people.cache.HELD_OUT + i), which training never uses.
The person is new, but skins, eyes and hair styles are those that training mixes too: metrics say how well the prior
generalises to new mixtures and shapes, not to new assets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dgtalker.camera import Camera, orbit_camera
from dgtalker.people.random_expressions import sample_expression
from dgtalker.people.source import PeopleSource
from dgtalker.people.target_cache import HELD_OUT, PeopleCache, PeopleConfig, to_uint8

# (yaw, pitch) in degrees. The pictures that a head is fitted to: both half profiles and one about frontal; 10 and not
# 0, because 0 is among the seven views that the target is stated for.
FIT_VIEWS = ((-45.0, 0.0), (10.0, 0.0), (45.0, 0.0))
# Steps of 15 degrees without the fitted ones: the views that headline figures are means over.
UNSEEN_VIEWS = tuple((yaw, 0.0) for yaw in (-60.0, -30.0, -15.0, 0.0, 15.0, 30.0, 60.0))
SEVEN_VIEWS = tuple((yaw, 0.0) for yaw in (-60.0, -40.0, -20.0, 0.0, 20.0, 40.0, 60.0))
OTHER_VIEWS = ((-90.0, 0.0), (90.0, 0.0), (0.0, 20.0), (30.0, -15.0))  # profiles, from above, from below
ALL_VIEWS = tuple(dict.fromkeys(FIT_VIEWS + UNSEEN_VIEWS + SEVEN_VIEWS + OTHER_VIEWS))
DETAIL_VIEW, DETAIL_SIZE = (0.0, 0.0), 1024  # the picture of the close-ups
MIXED = (1 / 3, 2 / 3)  # share of dark skin textures between which a tone counts as mixed


@dataclass
class HeldOutPerson:
    """One person in one expression: pictures and ground truth."""

    index: int
    groups: dict[str, str]  # division -> group
    expression: Tensor  # [52] ARKit scores
    positions: Tensor  # [T,3] true positions of the atlas' texels, world units
    images: Tensor  # [V,H,W,3] uint8, of ALL_VIEWS
    detail: Tensor  # [DETAIL_SIZE,DETAIL_SIZE,3] uint8, of DETAIL_VIEW

    def pictures(self, views: tuple) -> Tensor:
        """Pictures [n,H,W,3] in 0..1 of some of ALL_VIEWS."""
        return self.images[[ALL_VIEWS.index(view) for view in views]].float() / 255


def cameras_of(views: tuple, size: int) -> Camera:
    """Orbit cameras of (yaw, pitch) pairs."""
    return Camera.stack([orbit_camera(yaw, pitch, size) for yaw, pitch in views])


def make_held_out_person(source: PeopleSource, seed: int, number: int, size: int, folder) -> HeldOutPerson:
    """Person `number` in an expression of their own, captured from ALL_VIEWS; the same on every call."""
    index = HELD_OUT + number
    person = PeopleCache(folder, source, PeopleConfig(seed)).person(index)
    expression = sample_expression(np.random.default_rng([seed, index, 9]), source.expression_names)
    cameras = cameras_of(ALL_VIEWS, size)
    images = source.capture(person, np.repeat(expression[None], len(ALL_VIEWS), 0), cameras)
    detail = source.capture(person, expression[None], cameras_of((DETAIL_VIEW,), DETAIL_SIZE))[0]
    positions = torch.as_tensor(source.texels(person, expression)["positions"]).float()
    groups = getattr(source, "groups", demographic_groups)(person)
    return HeldOutPerson(index, groups, torch.from_numpy(expression), positions, to_uint8(images), to_uint8(detail))


def demographic_groups(person) -> dict[str, str]:
    """Tone, sex, age band, tone and sex, and hair of a person.

    The tone is that of the skin textures by their share in the mix: "light", "dark", or "mixed" in between.
    """
    names = [person.assets.skin_names[i] for i in person.skin]
    share = sum(
        weight * ("darkskinned" in name)
        for weight, name in zip((1 - person.skin_mix, person.skin_mix), names, strict=True)
    )
    tone = "light" if share < MIXED[0] else "dark" if share > MIXED[1] else "mixed"
    sex = "female" if person.shape.gender < 0.5 else "male"
    age = "young" if person.shape.age < 0.55 else "middle-aged" if person.shape.age <= 0.8 else "old"
    return {"tone": tone, "tone_and_sex": f"{tone} {sex}", "sex": sex, "age": age, "hair": person.hair or "none"}
