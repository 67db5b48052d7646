"""Dead leaves: shapes of all sizes that cover one another, as things do in photographs.

Baradad et al. 2021, "Learning to see by looking at noise", arXiv:2106.05963: sizes and forms are
theirs; they go on until everything is covered, here a few small pieces of the ground are left.
"""

import numpy as np
from numpy.typing import NDArray

from fedkt.data.made.draws import Draws
from fedkt.data.made.pictures.canvas import Pixels, painted
from fedkt.data.made.public import Public, generator

Floats = NDArray[np.float32]
SMALLEST, LARGEST = 0.03, 1.0
"""Radii as shares of the side; their density falls with the third power."""
LEAVES = 160
DISC, SQUARE, TRIANGLE, FORMS = 0, 1, 2, 4
"""A fourth form is a quadrilateral. Leaves take the forms in turn."""


@generator("image")
def leaves(public: Public, n: int, draws: Draws) -> Pixels:
    """Discs, squares, triangles and quadrilaterals of random colours, each before those before it."""

    def draw(rows: int, channels: int, height: int, width: int) -> Pixels:
        picture = np.empty((channels, height, width, rows), np.uint8)
        picture[:] = draws.below(256, channels, rows).astype(np.uint8)[:, None, None]
        across, down = (np.arange(size)[:, None] + 0.5 for size in (width, height))
        for number in range(LEAVES):
            # The density r^-3 between two radii, by its inverse distribution function.
            inner, outer = 1.0 / SMALLEST**2, 1.0 / LARGEST**2
            radius = min(height, width) / np.sqrt(inner - draws.unit(rows) * (inner - outer))
            x, y = draws.unit(rows) * width, draws.unit(rows) * height
            u = np.asarray((across - x) / radius, np.float32)  # [width, rows]
            v = np.asarray((down - y) / radius, np.float32)
            inside = _inside(u, v, number % FORMS, draws)
            colour = draws.below(256, channels, rows).astype(np.uint8)
            np.copyto(picture, colour[:, None, None], where=inside)
        return picture

    return painted(public.shape, n, draw)


def _inside(u: Floats, v: Floats, form: int, draws: Draws) -> NDArray[np.bool_]:
    """Say which pixels [height, width, rows] lie in a shape of radius 1 around (0, 0)."""
    one = np.float32(1.0)
    if form == SQUARE:
        return (np.abs(v) <= one)[:, None] & (np.abs(u) <= one)[None]
    if form == DISC:
        return (v * v)[:, None] + (u * u)[None] <= one
    x, y = _on_a_circle(draws, 3 if form == TRIANGLE else 4, u.shape[-1])
    inside = np.ones((len(v), len(u), u.shape[-1]), bool)
    for number in range(len(x)):
        ahead = (number + 1) % len(x)
        dx, dy = x[ahead] - x[number], y[ahead] - y[number]
        left = dx * y[number] - dy * x[number]
        inside &= (dx * v)[:, None] - (dy * u)[None] >= left
    return inside


def _on_a_circle(draws: Draws, corners: int, rows: int) -> tuple[Floats, Floats]:
    """Return points x and y [corners, rows] of the unit circle, one in each quadrant in turn.

    By its rational parametrisation, (1 - t²) / (1 + t²) and 2t / (1 + t²): no sine has the same last bit
    everywhere.
    """
    t = draws.unit(corners, rows).astype(np.float32)
    near, over = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    turned = [(near, over), (-over, near), (-near, -over), (over, -near)]
    x = np.stack([turned[i][0][i] for i in range(corners)])
    return x, np.stack([turned[i][1][i] for i in range(corners)])
