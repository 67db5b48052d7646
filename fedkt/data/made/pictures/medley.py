"""Some of each of the other images."""

import numpy as np

from fedkt.data.made.draws import Draws
from fedkt.data.made.pictures.canvas import Pixels
from fedkt.data.made.pictures.fractals import fractals
from fedkt.data.made.pictures.leaves import leaves
from fedkt.data.made.pictures.shapes import shapes
from fedkt.data.made.pictures.strokes import strokes
from fedkt.data.made.public import Public, generator

KINDS = (shapes, strokes, fractals, leaves)


@generator("image")
def medley(public: Public, n: int, draws: Draws) -> Pixels:
    """Equal parts of shapes, strokes, fractals and leaves, in turn: where nothing is known of the images."""
    made = np.empty((n, *public.shape), np.uint8)
    for number, kind in enumerate(KINDS):
        rows = len(range(number, n, len(KINDS)))
        if rows:
            made[number :: len(KINDS)] = kind(public, rows, draws)
    return made
