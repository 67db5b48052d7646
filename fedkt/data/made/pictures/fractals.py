"""Fractals: what a few affine maps leave in place, whatever point one begins with."""

import numpy as np

from fedkt.data.made.draws import Draws, Numbers, Reals
from fedkt.data.made.pictures.canvas import UNIT, Pixels, ground, painted
from fedkt.data.made.public import Public, generator

MAPS = 5
WALKS, STEPS, LOST = 30, 64, 14
"""Points that walk at once, their steps, and how many of these are not drawn: 1500 points are."""
LARGEST = 0.85
"""Bound of the maps' spectral norms, below which every walk ends in the same figure."""
FIELD = 19
"""Side in pixels of 28 that a figure fills."""
FULL = 3
"""Points in a pixel that make it as bright as it gets."""


@generator("image")
def fractals(public: Public, n: int, draws: Draws) -> Pixels:
    """The figure of an iterated function system of two to five random maps a row (Barnsley 1988)."""

    def draw(rows: int, channels: int, height: int, width: int) -> Pixels:
        x, y = _walk(*_maps(draws, rows), draws, rows)
        size = (round(FIELD * height / UNIT), round(FIELD * width / UNIT))
        low = ((height - size[0]) // 2, (width - size[1]) // 2)
        column, row = low[1] + _fitted(x, size[1]), low[0] + _fitted(y, size[0])
        place = (row * width + column) * rows + np.arange(rows)
        hits = np.bincount(place.ravel(), minlength=height * width * rows).reshape(height, width, rows)
        ink = np.minimum(hits, FULL)
        colour = np.full((1, rows), 255) if channels == 1 else draws.between(64, 256, channels, rows)
        below = ground(draws, channels, rows, public.mean).astype(np.int64)[:, None, None]
        mixed = below * (FULL - ink)[None] + colour[:, None, None] * ink[None]
        return np.asarray((2 * mixed + FULL) // (2 * FULL), np.uint8)

    return painted(public.shape, n, draw)


def _maps(draws: Draws, rows: int) -> tuple[Reals, Reals]:
    """Return maps (a, b, c, d, e, f) [6, rows, maps], (x, y) to (ax + by + e, cx + dy + f), and from where on
    a number of [0, 1) takes each of them [rows, maps]."""
    count = draws.between(2, MAPS + 1, rows)
    maps = 2.0 * draws.unit(6, rows, MAPS) - 1.0
    a, b, c, d = maps[:4]
    det = a * d - b * c
    total = a * a + b * b + c * c + d * d
    norm = np.sqrt((total + np.sqrt(np.maximum(total * total - 4.0 * det * det, 0.0))) / 2.0)
    shrink = np.minimum(1.0, LARGEST / np.maximum(norm, 1e-9))
    maps[:4] *= shrink
    weight = np.abs(det * shrink * shrink) + 0.001
    weight[np.arange(MAPS) >= count[:, None]] = 0.0
    until = np.zeros((rows, MAPS + 1))
    for number in range(MAPS):  # in this order, which decides the last bit
        until[:, number + 1] = until[:, number] + weight[:, number]
    return maps, until[:, :MAPS] / until[:, -1:]


def _walk(maps: Reals, begins: Reals, draws: Draws, rows: int) -> tuple[Reals, Reals]:
    """Return the points [steps * walks, rows] that random walks through the maps come by."""
    a, b, c, d, e, f = (part.ravel() for part in maps)
    x = y = np.zeros((rows, WALKS))
    found = np.empty((2, STEPS - LOST, WALKS, rows))
    first = MAPS * np.arange(rows)[:, None]
    for step in range(STEPS):
        at = draws.unit(rows, WALKS)
        taken = first - 1
        for number in range(MAPS):
            taken = taken + ((at >= begins[:, number, None]) & (begins[:, number, None] < 1.0))
        x, y = a[taken] * x + b[taken] * y + e[taken], c[taken] * x + d[taken] * y + f[taken]
        if step >= LOST:
            found[:, step - LOST] = x.T, y.T
    return found[0].reshape(-1, rows), found[1].reshape(-1, rows)


def _fitted(at: Reals, size: int) -> Numbers:
    """Return in which of ``size`` equal parts of each row's range its numbers [points, rows] lie."""
    low, high = at.min(0), at.max(0)
    part = (at - low) / np.maximum(high - low, 1e-9) * size
    return np.asarray(np.minimum(part.astype(np.int64), size - 1))
