"""The hair shell: rays around the skull that the template's shell, and the hair of synthetic people, are found along.

The shell has a column per azimuth. From the crown a column runs down a dome; below `DROP_FROM` it hangs straight, as a
curtain. A column is as long as the hair that it carries, so a texel stands for a fraction of the way from the crown to
the hair's end, whatever the style, and a mixture of two styles has a length between theirs instead of a veil.
Units are those of the base mesh (decimetres, y up, the face looks along +z); distances along the dome are its angles on
a circle of one decimetre.
"""

from __future__ import annotations

import numpy as np

AROUND, DOWN = 64, 20  # columns, and rows below the crown, of the template's shell
CENTRE = np.array([0.0, 7.45, 0.45])
DROP_FROM = 7.15  # height below which the dome turns into a curtain
FAR = 3.0  # rays start this far out
# The template's own columns end at the brows in front, behind the cheek at the side, at the neck behind.
SIDE, LOWEST = [0, 48, 72, 85, 180], [7.50, 7.45, 6.6, 5.95, 5.85]
LONGEST = 5.75  # height that no column goes below


def azimuths() -> np.ndarray:
    """[AROUND] in radians: 0 is the front, a quarter turn the subject's left."""
    return np.linspace(-np.pi, np.pi, AROUND, endpoint=False)


def column_length(lowest: np.ndarray) -> np.ndarray:
    """Length of columns that end at heights `lowest`."""
    return np.pi / 2 - _dome_end(lowest) + np.maximum(0.0, DROP_FROM - lowest)


def template_lengths() -> np.ndarray:
    """[AROUND] lengths of the template's own columns."""
    return column_length(np.interp(np.abs(np.rad2deg(azimuths())), SIDE, LOWEST))


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
