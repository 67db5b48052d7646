"""Pen strokes: what looks written, without being any letter."""

import numpy as np
from numpy.typing import NDArray

from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.pictures.canvas import UNIT, Pixels, ground, painted
from fedkt.data.made.public import Public, generator

GRAIN = 16
"""Steps of a pixel of 28 in which distances are known."""
FAR = 127
"""Distance in such steps that counts as any larger one, so that the sum of two squares fits 16 bits."""
CURVES, POINTS = 4, 20


@generator("image")
def strokes(public: Public, n: int, draws: Draws) -> Pixels:
    """One to four quadratic Bezier curves a row, of one width and colour; every other one goes on from the
    last."""

    def draw(rows: int, channels: int, height: int, width: int) -> Pixels:
        count = draws.between(1, CURVES + 1, rows)
        places = draws.between(5 * GRAIN, 23 * GRAIN, 2, CURVES, 3, rows)
        goes_on = draws.below(2, CURVES, rows)
        for curve in range(1, CURVES):
            ends = places[:, curve - 1, 2]
            places[:, curve, 0] = np.where(goes_on[curve], ends, places[:, curve, 0])
        thick = draws.between(round(0.8 * GRAIN), round(1.8 * GRAIN), rows)
        colour = np.full((1, rows), 255) if channels == 1 else draws.between(64, 256, channels, rows)
        away = _away(_curves(places, count), height, width)
        ink = _ink(away, thick).astype(np.int32)
        below = ground(draws, channels, rows, public.mean).astype(np.int32)[:, None, None]
        mixed = below * (255 - ink)[None] + colour[:, None, None] * ink[None]
        return ((2 * mixed + 255) // 510).astype(np.uint8)

    return painted(public.shape, n, draw)


def _curves(places: Numbers, count: Numbers) -> Numbers:
    """Return points of curves [2, curves * points, rows] from control points [2, curves, 3, rows].

    Those of curves beyond ``count`` [rows] lie where nothing is drawn.
    """
    last = POINTS - 1
    t = np.arange(POINTS)[:, None]
    first, middle, end = (places[:, :, None, i] for i in range(3))
    weighed = first * (last - t) ** 2 + 2 * middle * t * (last - t) + end * t**2
    points = (2 * weighed + last**2) // (2 * last**2)
    absent = np.arange(CURVES)[:, None] >= count
    points = np.where(absent[None, :, None], -100 * GRAIN, points)
    return points.reshape(2, CURVES * POINTS, -1)


def _away(points: Numbers, height: int, width: int) -> NDArray[np.int16]:
    """Return the square of each pixel's distance [height, width, rows] from the nearest of the points."""
    squares = []
    for at, size in zip(points, (width, height), strict=True):
        pixel = ((2 * np.arange(size) + 1) * UNIT * GRAIN // (2 * size)).astype(np.int16)
        apart = np.minimum(np.abs(pixel[:, None, None] - at.astype(np.int16)), np.int16(FAR))
        squares.append(apart * apart)  # [size, points, rows]
    nearest = np.full((height, width, points.shape[-1]), 2 * FAR**2, np.int16)
    each = np.empty_like(nearest)
    for number in range(points.shape[1]):
        np.add(squares[1][:, None, number], squares[0][None, :, number], out=each)
        np.minimum(nearest, each, out=nearest)
    return nearest


def _ink(away: NDArray[np.int16], thick: Numbers) -> NDArray[np.uint8]:
    """Return how dark each pixel is, 0 to 255: less in the last pixel of a stroke's half-width ``thick``
    [rows]."""
    reach = int(thick.max()) + GRAIN // 2
    near = np.sqrt(np.arange(reach**2 + 2, dtype=np.float64))
    table = np.stack(
        [
            np.floor(np.clip((w + GRAIN / 2 - near) / GRAIN, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
            for w in range(reach)
        ]
    )
    at = np.minimum(away, np.int16(reach**2 + 1)) + (thick * table.shape[1]).astype(np.int32)
    return np.asarray(table.ravel()[at])
