"""What all made images share: a canvas that is drawn larger where the picture is small, and pieces of
rows."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fedkt.data.made.draws import Draws

UNIT = 28
"""Side in pixels of the picture in which sizes are written."""
FINE = 24
"""A picture of fewer pixels a side is drawn larger, and each of its pixels is the mean of a block."""
MOST = 1 << 20
"""Pixels that are drawn at a time."""

Pixels = NDArray[np.uint8]
Draw = Callable[[int, int, int, int], Pixels]
"""Draws rows: their number, channels, height and width to [channels, height, width, rows]."""


def painted(shape: tuple[int, ...], n: int, draw: Draw) -> Pixels:
    """Return ``n`` pictures [n, *shape], drawn by ``draw`` a piece of the rows at a time."""
    channels, height, width = shape
    times = -(-FINE // min(height, width)) if min(height, width) < FINE else 1
    made = np.empty((n, *shape), np.uint8)
    for begin, end in pieces(n, channels * height * width * times**2):
        drawn = draw(end - begin, channels, height * times, width * times)
        made[begin:end] = np.moveaxis(_shrunk(drawn, times), -1, 0)
    return made


def pieces(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``n`` rows of ``size`` pixels each into pieces that fit the processor's cache."""
    step = max(1, MOST // size)
    for begin in range(0, n, step):
        yield begin, min(n, begin + step)


def _shrunk(drawn: Pixels, times: int) -> Pixels:
    """Return the means of blocks of ``times`` pixels a side, rounded to the nearest, half up."""
    if times == 1:
        return drawn
    channels, height, width, rows = drawn.shape
    blocks = drawn.reshape(channels, height // times, times, width // times, times, rows)
    total = blocks.sum((2, 4), dtype=np.int32)
    return np.asarray((2 * total + times**2) // (2 * times**2), np.uint8)


def ground(draws: Draws, channels: int, n: int, mean: float | None) -> NDArray[np.uint8]:
    """Return what is seen where nothing is drawn [channels, n]: black, of bright pictures any colour."""
    if mean is not None and mean > BRIGHT:
        return draws.below(256, channels, n).astype(np.uint8)
    return np.zeros((channels, n), np.uint8)


BRIGHT = 0.4
"""Mean of the pixels from which on a picture is not thought of as drawn on black."""
