"""Leakage in landmarks: how far those of the upper and of the lower face move when coefficients do.

Read in two ways. By geometry, landmarks ride on the head's own splats (anchors.py): exact, and blind to colour. By the
face detector, they are read off rendered pictures: that is what anybody else would measure, but a detector fits one
face to all it sees, so an opening mouth moves its brows a little even on a head whose brows stand still.
"""

from __future__ import annotations

import numpy as np

from dgtalker.evaluation.attached_landmarks import AttachedLandmarks, landmark_halves, project
from dgtalker.evaluation.held_out import HeldOut, draw
from dgtalker.evaluation.leakage import States, probe
from dgtalker.metrics import SIZE

UNIT = f"pixels at {SIZE}"


def measure_landmark_leakage(held: HeldOut, states: States, cameras: list, attached: AttachedLandmarks | None) -> dict:
    """`probe`'s figures by geometry, the detector's under "detector"; by the detector alone without anchors.

    landmarks: how many there are in the upper and in the lower face.
    """
    by_detector = _by_detector(held, states, cameras)
    if attached is None:
        return {"by": "detector", **by_detector, "detector": None}
    landmarks = [len(attached.upper), len(attached.lower)]
    by_geometry = _by_geometry(held, states, cameras, attached) | {"landmarks": landmarks}
    return {"by": "geometry", **by_geometry, "detector": by_detector}


def _by_geometry(held: HeldOut, states: States, cameras: list, attached: AttachedLandmarks) -> dict:
    identity = held.identity

    def observe(a_exp: np.ndarray, a_lip: np.ndarray, s: int) -> np.ndarray:
        places = attached.places(identity.frame(a_exp, a_lip).means.numpy())
        return project(places, cameras[s])[0] * SIZE / cameras[s].height

    def change(before: np.ndarray, after: np.ndarray, s: int) -> np.ndarray:
        moved = np.linalg.norm(after - before, axis=-1)
        return np.array([half.mean() for half in attached.halves(moved)])

    return _figures(held, states, observe, change)


def _by_detector(held: HeldOut, states: States, cameras: list) -> dict:
    halves = landmark_halves()

    def observe(a_exp: np.ndarray, a_lip: np.ndarray, s: int) -> np.ndarray:
        return held.faces([draw(held.identity, a_exp, a_lip, cameras[s])])[0] * SIZE / cameras[s].height

    def change(before: np.ndarray, after: np.ndarray, s: int) -> np.ndarray:
        moved = np.linalg.norm(after - before, axis=-1)
        return np.array([moved[half].mean() for half in halves])

    return _figures(held, states, observe, change) | {"landmarks": [len(half) for half in halves]}


def _figures(held: HeldOut, states: States, observe, change) -> dict:
    names = held.identity.exp_names, held.identity.lip_names
    return probe(observe, change, states.exp, states.lip, *names) | {"unit": UNIT}
