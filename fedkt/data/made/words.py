"""Bags of words, and the law by which words and lengths of texts are drawn."""

from decimal import Decimal, localcontext
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fedkt.data.made.draws import Draws, Numbers
from fedkt.data.made.public import Public, generator

Fall = Annotated[float, Field(ge=0, le=2)]
Length = Annotated[float, Field(ge=1, le=10_000)]
SHIFT = Decimal("2.7")
"""What is added to a word's rank (Zipf's law as Mandelbrot has it)."""
SPREAD = Decimal("0.5")
"""Deviation of a length's logarithm."""
GRAIN = 64
"""Steps of a deviation in which lengths are drawn."""


@generator("sparse")
def words(public: Public, n: int, draws: Draws, *, fall: Fall = 0.5, length: Length = 80.0) -> Any:
    """Counts of words in texts whose word of rank r comes with weight (r + 2.7)^-fall.

    Columns must be in the order of how frequent their words are; ``length``: the median number of words,
    whose logarithm has deviation 0.5.
    """
    from scipy import sparse

    sizes = lengths(draws, n, length)
    chosen = ranked(draws, public.shape[0], fall, int(sizes.sum()))
    texts = np.repeat(np.arange(n), sizes)
    counts = sparse.csr_matrix((np.ones(len(chosen), np.float32), (texts, chosen)), shape=(n, *public.shape))
    counts.sum_duplicates()
    return counts


def lengths(draws: Draws, n: int, median: float) -> Numbers:
    """Return ``n`` lengths of texts, at least one word each: lognormal ones around a median."""
    steps = np.floor(draws.normal(n) * GRAIN + 0.5).astype(np.int64)
    return np.asarray(_lengths(median))[steps + 6 * GRAIN]


def ranked(draws: Draws, vocabulary: int, fall: float, count: int) -> Numbers:
    """Return ``count`` ranks from 0 of words, the more frequent the smaller."""
    until = _until(vocabulary, fall)
    at = draws.below(1 << 31, count) * int(until[-1]) >> 31
    return np.searchsorted(until, at, side="right")


@lru_cache(maxsize=8)
def _until(vocabulary: int, fall: float) -> Numbers:
    """Return the sums of the first words' weights in whole numbers; decimals are rounded alike everywhere."""
    with localcontext() as exact:
        exact.prec = 30
        power = -Decimal(repr(fall))
        weights = [int((Decimal(rank) + SHIFT) ** power * (1 << 20)) + 1 for rank in range(1, vocabulary + 1)]
    return np.cumsum(np.asarray(weights, np.int64))


@lru_cache(maxsize=8)
def _lengths(median: float) -> list[int]:
    with localcontext() as exact:
        exact.prec = 30
        steps = range(-6 * GRAIN, 6 * GRAIN + 1)
        return [max(1, round(Decimal(repr(median)) * (SPREAD * step / GRAIN).exp())) for step in steps]
