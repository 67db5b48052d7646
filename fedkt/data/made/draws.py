"""Random numbers for made rows, the same bits on every machine and with every version of NumPy.

They are made of raw 64-bit numbers by whole numbers and by operations that IEEE 754 rounds correctly
(+ - * / and the square root), never by a logarithm, a sine or a library's own sampler, whose last bits
differ between processors and versions.
"""

import numpy as np
from numpy.typing import NDArray

from fedkt.rng import raw_stream

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Draws:
    """A stream of random numbers; each call takes the next ones."""

    def __init__(self, seed: int, *labels: str | int) -> None:
        self._raw = raw_stream(seed, *labels)

    def bits(self, *shape: int) -> NDArray[np.uint64]:
        """Return the next raw 64-bit numbers, in C order."""
        count = int(np.prod(shape))
        return np.asarray(self._raw.random_raw(count), np.uint64).reshape(shape)

    def below(self, limit: int, *shape: int) -> Numbers:
        """Return whole numbers of [0, limit), ``limit`` at most 2^31: their chances differ by 2^-32 at
        most."""
        return (self.bits(*shape) >> np.uint64(32)).astype(np.int64) * limit >> 32

    def between(self, low: int, high: int, *shape: int) -> Numbers:
        """Return whole numbers of [low, high)."""
        return low + self.below(high - low, *shape)

    def unit(self, *shape: int) -> Reals:
        """Return multiples of 2^-53 in [0, 1)."""
        return (self.bits(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, *shape: int) -> Reals:
        """Return nearly normal numbers of mean 0 and deviation 1: the sum of twelve uniform ones, less 6.

        Their tails end at 6 deviations, and their fourth moment is 2.9 in place of 3.
        """
        total = np.zeros(shape)
        for _ in range(12):  # one after another: the order of a sum decides its last bit
            total += self.unit(*shape)
        return total - 6.0
