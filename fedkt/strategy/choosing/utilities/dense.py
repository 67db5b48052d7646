"""How many rows lie near a row."""

import numpy as np
from numpy.typing import NDArray

NEAREST = 10
"""Neighbours that say how densely rows lie."""
BLOCK = 1000
"""Rows whose distances to all are in memory at once."""


def dense(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the mean distance of each row [n, d] to its ten nearest others, [n].

    Representative rows rather than outliers, without any answer: Settles and Craven 2008, "An analysis of
    active learning strategies for sequence labeling tasks" (information density), with distances. One row
    alone has 0.
    """
    count = len(features)
    if count < 2:
        return np.zeros(count)
    squares, found = np.square(features).sum(1), []
    for first in range(0, count, BLOCK):
        some = np.arange(first, min(first + BLOCK, count))
        apart = squares[some, None] + squares - 2 * features[some] @ features.T
        apart[np.arange(len(some)), some] = np.inf
        near = np.sort(apart, axis=1)[:, : min(NEAREST, count - 1)]
        found.append(-np.sqrt(near.clip(min=0)).mean(1))
    return np.concatenate(found)
