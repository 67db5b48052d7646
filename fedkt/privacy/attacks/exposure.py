"""How well a model remembers planted secrets: exposure, by their ranks among all that could have stood there.

Carlini, Liu, Erlingsson, Kos, Song 2019, "The Secret Sharer: Evaluating and Testing Unintended Memorization
in Neural Networks", USENIX Security, arXiv 1802.08232. A canary is a sentence of a fixed form with a secret
in it that was drawn at random from a space R. A model that never saw it finds it as likely as any other of R;
one that remembers it finds it likelier. An attack's result, and no bound of anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_CANDIDATES = 10_000
"""Secrets of a space that are all tried: each is a sentence that a model reads."""


@dataclass(frozen=True)
class Space:
    """All sentences that a canary could have been: ``before``, ``length`` symbols of ``alphabet``, ``after``.

    >>> space = Space(b"The code is ", b"01", 2, b".")
    >>> len(space), space.sentence(2)
    (4, b'The code is 10.')
    """

    before: bytes
    alphabet: bytes
    length: int
    after: bytes = b""

    def __post_init__(self) -> None:
        if len(set(self.alphabet)) != len(self.alphabet) or len(self.alphabet) < 2 or self.length < 1:
            raise ValueError("a space of secrets needs two or more symbols, all different, and a length")
        if len(self) > MOST_CANDIDATES:
            raise ValueError(f"a space of {len(self)} secrets is too large to try all ({MOST_CANDIDATES})")

    def __len__(self) -> int:
        return int(len(self.alphabet) ** self.length)

    def secret(self, number: int) -> bytes:
        """Return the secret with a number in 0 to len - 1: its digits in base ``len(alphabet)``."""
        digits = []
        for _ in range(self.length):
            number, digit = divmod(number, len(self.alphabet))
            digits.append(self.alphabet[digit])
        return bytes(reversed(digits))

    def sentence(self, number: int) -> bytes:
        """Return the sentence with the secret of a number."""
        return self.before + self.secret(number) + self.after

    def sentences(self) -> list[bytes]:
        """Return all sentences, in the order of their secrets' numbers."""
        return [
            self.before + bytes(secret) + self.after for secret in product(self.alphabet, repeat=self.length)
        ]


def exposure(surprises: Floats | Sequence[float], canary: int) -> float:
    """Return the exposure of a canary in bits, log2 |R| - log2 rank: 0 to log2 |R|.

    ``surprises`` [|R|]: minus the log-likelihood of each sentence of the space, in any unit; ``canary``: the
    place of the one that was planted. Its rank is how many are no less likely, itself among them, so a tie
    counts against the attacker (section 4.2 of the paper; of a space that is tried as a whole the formula is
    exact).

    >>> [exposure([3.0, 1.0, 2.0, 4.0], canary) for canary in (1, 2, 3)]
    [2.0, 1.0, 0.0]
    """
    values = np.asarray(surprises, np.float64)
    if values.ndim != 1 or not 0 <= canary < len(values):
        raise ValueError(f"surprises have shape {values.shape}, of which {canary} is no place")
    if np.isnan(values).any():
        raise ValueError("a sentence has no likelihood")
    return math.log2(len(values)) - math.log2(int((values <= values[canary]).sum()))


def by_chance(size: int) -> float:
    """Return the mean exposure in bits of who knows nothing: of a rank that is anything from 1 to ``size``.

    log2 e = 1.44 in the limit of large spaces.

    >>> round(by_chance(4), 4), round(by_chance(1000), 4)
    (0.8538, 1.4364)
    """
    return math.log2(size) - float(np.log2(np.arange(1, size + 1)).mean())
