"""What a graph's numbers stand for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedkt.errors import InputError

Triples = NDArray[np.int64]
"""Links [n, 3]: head, relation, tail, as token ids."""


@dataclass(frozen=True)
class Graph:
    """The names of entities and relations, which all parties know, in the order of their token ids.

    Entity k is token 1 + k and relation r is token 1 + entities + r; 0 is padding. ``known`` [m, 3]: true
    links beyond the rows, which are ranked against nothing.

    >>> graph = Graph(("ann", "bob"), ("knows",))
    >>> graph.ids, graph.tokens
    (((1, 2), (3, 3), (1, 2)), 4)
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    known: Triples = field(default_factory=lambda: np.zeros((0, 3), np.int64), compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """The number of token ids, padding included."""
        return 1 + len(self.entities) + len(self.relations)

    @property
    def ids(self) -> tuple[tuple[int, int], ...]:
        """The first and the last token of a head, of a relation and of a tail."""
        ends = 1, len(self.entities)
        return ends, (self.relation(0), self.tokens - 1), ends

    def relation(self, number: int) -> int:
        """Return a relation's token."""
        return 1 + len(self.entities) + number

    def triples(self, where: str, links: Sequence[Sequence[str]]) -> Triples:
        """Return links [n] of three names as numbers. Raises InputError for a name that is not there.

        >>> Graph(("ann", "bob"), ("knows",)).triples("these", [("bob", "knows", "ann")]).tolist()
        [[2, 3, 1]]
        """
        ends = {name: 1 + k for k, name in enumerate(self.entities)}
        kinds = {name: self.relation(r) for r, name in enumerate(self.relations)}
        try:
            made = [(ends[head], kinds[relation], ends[tail]) for head, relation, tail in links]
        except KeyError as error:
            raise InputError(
                f"{where} hold {error}, which is no such name of the graph; a link is head, relation, tail."
            ) from None
        return np.array(made, np.int64).reshape(-1, 3)

    def keys(self, triples: Triples) -> NDArray[np.int64]:
        """Return one number per link [n], equal for equal links alone."""
        return np.asarray((triples[:, 0] * self.tokens + triples[:, 1]) * self.tokens + triples[:, 2])

    def known_keys(self, parts: Iterable[Triples]) -> NDArray[np.int64]:
        """Return the sorted keys of all links that these hold or that are known beyond them."""
        return np.unique(np.concatenate([self.keys(part) for part in (self.known, *parts)]))


def among(keys: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which keys [n] are among sorted ones.

    >>> among(np.array([1, 4]), np.array([2, 4, 9])).tolist()
    [False, True]
    """
    if not len(known):
        return np.zeros(len(keys), bool)
    at = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.asarray(known[at] == keys)
