"""Filled shapes on a ground: what an image classifier can be asked about where nothing else is known.

Dead leaves (Baradad et al. 2021, "Learning to see by looking at noise", arXiv:2106.05963) that leave the
ground free. The sizes were a first guess and kept.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.pictures.canvas import BRIGHT, UNIT, Pixels, ground, painted
from fedkt.data.made.public import Public, generator

GRAIN = 32
"""Steps of a pixel in which places and sizes are drawn."""
MOST_SHAPES = 5
REACH = {
    2.0: 0.0217,
    4.0: 0.0517,
    6.0: 0.0917,
    8.0: 0.1373,
    10.0: 0.1848,
    12.0: 0.2316,
    14.0: 0.2762,
    16.0: 0.3177,
    20.0: 0.3893,
    24.0: 0.4446,
}
"""Largest half-axis in pixels of 28, and the mean of the pixels that it gives (10 000 rows of 28 x 28)."""


@generator("image")
def shapes(public: Public, n: int, draws: Draws) -> Pixels:
    """One to five filled shapes a row, later ones before earlier ones, each of one grey or colour.

    Where the mean of the pixels is public (``data.normalise``), ellipses, boxes and diamonds as large as that
    mean asks for, on black, or above a mean of 0.4 on any colour; else discs and squares on black.
    """

    def draw(rows: int, channels: int, height: int, width: int) -> Pixels:
        side = min(height, width)

        def pixels(low: float, high: float, across: int = side) -> Numbers:
            low_, high_ = (round(GRAIN * across * at) for at in (low / UNIT, high / UNIT))
            return draws.between(low_, high_, MOST_SHAPES, rows)

        count = draws.between(1, MOST_SHAPES + 1, rows)
        if public.mean is None:
            a = b = pixels(1.5, 7.0)
            x, y = pixels(5, 23, width), pixels(5, 23, height)
            form = draws.below(2, MOST_SHAPES, rows)
        else:
            reach = reach_of(min(public.mean, BRIGHT))
            a, b = pixels(1.5, reach), pixels(1.5, reach)
            x, y = pixels(4, 24, width), pixels(4, 24, height)
            form = draws.below(3, MOST_SHAPES, rows)
        colour = draws.between(64, 256, MOST_SHAPES, channels, rows).astype(np.uint8)
        picture = np.empty((channels, height, width, rows), np.uint8)
        picture[:] = ground(draws, channels, rows, public.mean)[:, None, None]
        across, down = (GRAIN * np.arange(size)[:, None] + GRAIN // 2 for size in (width, height))
        for number in range(MOST_SHAPES):
            dx, dy = np.abs(across - x[number]), np.abs(down - y[number])  # [width, rows], [height, rows]
            inside = _inside(dx, dy, a[number], b[number], form[number])
            inside &= number < count
            np.copyto(picture, colour[number][:, None, None], where=inside)
        return picture

    return painted(public.shape, n, draw)


def reach_of(mean: float) -> float:
    """Return the largest half-axis that gives a mean, between those that were measured."""
    known = list(REACH.items())
    for (low, begin), (high, end) in itertools.pairwise(known):
        if mean <= end:
            return low + (high - low) * max(0.0, mean - begin) / (end - begin)
    return known[-1][0]


ONE = 1 << 12
"""What a distance of one half-axis is as a whole number."""


def _inside(dx: Numbers, dy: Numbers, a: Numbers, b: Numbers, form: Numbers) -> NDArray[np.bool_]:
    """Say which pixels [height, width, rows] lie in a shape: 0 an ellipse, 1 a box, 2 a diamond.

    All three are |x/a|^p + |y/b|^p <= 1, p of 2, infinity and 1: each term is computed per column and row.
    """
    far = ONE + 1
    u, v = (np.minimum(ONE * d // half, far) for d, half in ((dx, a), (dy, b)))
    terms = []
    for part in (u, v):
        rounded = part * part // ONE
        boxed = np.where(part <= ONE, 0, far)
        terms.append(np.where(form == 0, rounded, np.where(form == 1, boxed, part)).astype(np.int16))
    return terms[1][:, None] + terms[0][None] <= ONE
