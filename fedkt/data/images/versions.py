"""Versions of images: each turned, moved, enlarged, the same ways for every image and everywhere.

They are for policy ``hard``, which asks for those that clients find hard: after "HARD: Hard Augmentations for
Robust Distillation" (2023, arXiv 2305.14890), whose learned transforms these stand for, since nobody but the
clients could give a gradient.
"""

import numpy as np
from numpy.typing import NDArray

WAYS: tuple[tuple[float, float, float, float], ...] = (
    (0.0, 0.0, 0.0, 1.0),
    (15.0, 0.0, 0.0, 1.0),
    (-15.0, 0.0, 0.0, 1.0),
    (0.0, 0.125, 0.0, 1.0),
    (0.0, 0.0, 0.125, 1.0),
    (0.0, 0.0, 0.0, 1.2),
    (0.0, 0.0, 0.0, 0.85),
    (10.0, -0.0625, -0.0625, 1.1),
)
"""Angle in degrees, moves down and right in heights and widths, enlargement; the first changes nothing."""


def versions(x: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return images [n, channels, height, width] in all versions [8 n, ...], way by way.

    Between pixels linearly; what comes from outside is as the border. Of the type of ``x``.
    """
    return np.concatenate([version(x, *way) for way in WAYS])


def version(
    x: NDArray[np.generic], angle: float, down: float, right: float, larger: float
) -> NDArray[np.generic]:
    """Return images [n, channels, height, width] in one version."""
    if (angle, down, right, larger) == WAYS[0]:
        return x
    from scipy.ndimage import affine_transform

    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / larger
    size = np.array(x.shape[2:])
    middle = (size - 1) / 2
    offset = middle - matrix @ (middle + np.array([down, right]) * size)
    found = np.empty_like(x)
    for picture, place in zip(x.reshape(-1, *size), found.reshape(-1, *size), strict=True):
        moved = affine_transform(picture.astype(np.float64), matrix, offset, order=1, mode="nearest")
        place[...] = np.rint(moved) if x.dtype.kind in "ui" else moved
    return found
