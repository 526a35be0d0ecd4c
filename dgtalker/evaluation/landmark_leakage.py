"""Leakage in landmarks: how far those of the upper and of the lower face move when coefficients do.

Measured in two ways. By geometry, landmarks are attached to the head's splats (attached_landmarks.py): exact, and blind
to colour. By the face detector, they are found in rendered pictures: others can measure the same, but a detector fits
one face model to the whole picture, so that an opening mouth moves its brows a little even where brows stand still.
"""

from __future__ import annotations

import numpy as np

from dgtalker.evaluation.attached_landmarks import AttachedLandmarks, landmark_halves, project
from dgtalker.evaluation.context import EvaluationContext, render_coefficients
from dgtalker.evaluation.leakage import FaceStates, measure_region_leakage
from dgtalker.metrics import SIZE

UNIT = f"pixels at {SIZE}"


def measure_landmark_leakage(
    context: EvaluationContext, states: FaceStates, cameras: list, attached: AttachedLandmarks | None
) -> dict:
    """Leakage by geometry, and under "detector" by the detector; by the detector alone if `attached` is None.

    See `measure_region_leakage`. "landmarks" is how many there are in the upper and in the lower face.
    """
    by_detector = _by_detector(context, states, cameras)
    if attached is None:
        return {"by": "detector", **by_detector, "detector": None}
    landmarks = [len(attached.upper), len(attached.lower)]
    by_geometry = _by_geometry(context, states, cameras, attached) | {"landmarks": landmarks}
    return {"by": "geometry", **by_geometry, "detector": by_detector}


def _by_geometry(context: EvaluationContext, states: FaceStates, cameras: list, attached: AttachedLandmarks) -> dict:
    identity = context.identity

    def observe(a_exp: np.ndarray, a_lip: np.ndarray, s: int) -> np.ndarray:
        positions = attached.positions(identity.frame(a_exp, a_lip).means.numpy())
        return project(positions, cameras[s])[0] * SIZE / cameras[s].height

    def change(before: np.ndarray, after: np.ndarray, s: int) -> np.ndarray:
        moved = np.linalg.norm(after - before, axis=-1)
        return np.array([half.mean() for half in attached.split_halves(moved)])

    return _metrics(context, states, observe, change)


def _by_detector(context: EvaluationContext, states: FaceStates, cameras: list) -> dict:
    halves = landmark_halves()

    def observe(a_exp: np.ndarray, a_lip: np.ndarray, s: int) -> np.ndarray:
        return (
            context.read_landmarks([render_coefficients(context.identity, a_exp, a_lip, cameras[s])])[0]
            * SIZE
            / cameras[s].height
        )

    def change(before: np.ndarray, after: np.ndarray, s: int) -> np.ndarray:
        moved = np.linalg.norm(after - before, axis=-1)
        return np.array([moved[half].mean() for half in halves])

    return _metrics(context, states, observe, change) | {"landmarks": [len(half) for half in halves]}


def _metrics(context: EvaluationContext, states: FaceStates, observe, change) -> dict:
    names = context.identity.exp_names, context.identity.lip_names
    return measure_region_leakage(observe, change, states.exp, states.lip, *names) | {"unit": UNIT}
