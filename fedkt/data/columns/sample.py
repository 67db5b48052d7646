"""Drawing rows."""

import numpy as np
from numpy.typing import NDArray


def apportion(total: int, weights: NDArray[np.floating]) -> NDArray[np.int64]:
    """Divide ``total`` in proportion to ``weights`` by largest remainders (ties: the first gets it)."""
    quota = total * weights / weights.sum()
    whole: NDArray[np.int64] = np.floor(quota).astype(np.int64)
    order = np.argsort(whole - quota, kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return whole


def stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return ``count`` sorted positions, each class drawn in proportion to its rows."""
    _, code, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if count == 0:
        return np.zeros(0, np.int64)
    wanted = apportion(count, sizes.astype(np.float64))
    order = rng.permutation(len(labels))
    order = order[np.argsort(code[order], kind="stable")]
    place_in_class = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place_in_class < np.repeat(wanted, sizes)])
