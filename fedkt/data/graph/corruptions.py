"""Triples that are not true: a true link with another head or another tail.

Nobody writes down what is not true, so it is drawn, and which draws are allowed decides what a model learns:

========= =====================================================================================
random    any other entity (Bordes et al. 2013, "Translating embeddings", NeurIPS)
typed     one that is seen there with this relation (Krompass et al. 2015, arXiv:1508.02593)
hard      one of the ``NEIGHBOURS`` whose name is most like (LEMON, Rony et al. 2022, arXiv:2203.04703)
========= =====================================================================================

LEMON clusters what a language model says of the entities' texts; here names are compared by the trigrams of
their letters, which needs no model and no text beside the names. A draw that is a known link is drawn again.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.data.graph.vocabulary import Graph, Triples, among

Policy = Literal["random", "typed", "hard"]
Draw = Callable[[Triples, NDArray[np.int64], np.random.Generator], NDArray[np.int64]]
"""Of links [n, 3] and which end goes (0 head, 2 tail) [n]: the tokens that take its place [n]."""

NEIGHBOURS = 10
"""Entities among which ``hard`` draws."""
TRIES = 20
"""Draws by the policy before any entity will do, and as many of those before a place is given up."""
HASHED = 512
"""Numbers by which names are compared: trigrams share them."""


def corrupted(
    links: Triples,
    graph: Graph,
    policy: Policy,
    per_link: int,
    known: NDArray[np.int64],
    rng: np.random.Generator,
    seen: Triples,
) -> tuple[Triples, NDArray[np.int64]]:
    """Return up to ``per_link`` corruptions of each link [m, 3], and which link each is of [m].

    ``known``: sorted keys of the links that are known to be true, which no corruption is; ``seen``: links by
    which ``typed`` knows what fits where. Head and tail go
    with equal chance; where nothing fits there, any entity at either end will do. A link of which no
    corruption is found has none.
    """
    of = np.repeat(np.arange(len(links)), per_link)
    made = links[of]
    side = rng.choice([0, 2], len(of))
    draw = {"random": _random(graph), "typed": typed(seen), "hard": hard(graph)}[policy]
    left = np.arange(len(of))
    for attempt in range(2 * TRIES):
        if not len(left):
            break
        take = draw
        if attempt >= TRIES:
            take, made[left], side[left] = _random(graph), links[of[left]], rng.choice([0, 2], len(left))
        made[left, side[left]] = take(links[of[left]], side[left], rng)
        left = left[among(graph.keys(made[left]), known)]
    kept = np.setdiff1d(np.arange(len(of)), left)
    return made[kept], of[kept]


def _random(graph: Graph) -> Draw:
    return lambda links, side, rng: 1 + rng.integers(len(graph.entities), size=len(links))


def slots(links: Triples, side: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return one number per link [n] for its relation and the end of it that is asked for."""
    return np.asarray(links[:, 1] * 3 + side)


def typed(links: Triples) -> Draw:
    """Draw among the entities that these links have at the end in question, by relation."""
    held = np.unique(
        np.concatenate([np.stack([slots(links, end), links[:, end]], 1) for end in (0, 2)]), axis=0
    )

    def draw(asked: Triples, side: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        slot = slots(asked, side)
        first, last = (np.searchsorted(held[:, 0], slot, how) for how in ("left", "right"))
        return np.asarray(held[first + (rng.random(len(asked)) * (last - first)).astype(np.int64), 1])

    return draw


def hard(graph: Graph) -> Draw:
    """Draw among the entities whose names are most like the one that goes."""
    near: NDArray[np.int64] | None = None

    def draw(asked: Triples, side: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        nonlocal near
        near = neighbours(graph.entities) if near is None else near
        gone = asked[np.arange(len(asked)), side] - 1
        return 1 + near[gone, rng.integers(near.shape[1], size=len(asked))]

    return draw


def neighbours(names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the numbers of the names that are most like each, int64 [n, at most ``NEIGHBOURS``].

    By the cosine of their counts of trigrams, of letters with a space at both ends.

    >>> neighbours(("liver", "river", "hand"))[:, 0].tolist()
    [1, 0, 0]
    """
    from zlib import crc32

    counts = np.zeros((len(names), HASHED), np.float32)
    for row, name in enumerate(names):
        text = f" {name.lower()} "
        for at in range(len(text) - 2):
            counts[row, crc32(text[at : at + 3].encode()) % HASHED] += 1
    unit = counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
    most = min(NEIGHBOURS, len(names) - 1)
    found = []
    for start in range(0, len(names), 1000):
        alike = unit[start : start + 1000] @ unit.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -np.inf
        found.append(np.argsort(-alike, axis=1, kind="stable")[:, :most])
    return np.concatenate(found)


def questions(
    links: Triples,
    graph: Graph,
    known: NDArray[np.int64],
    seen: Triples,
    most: int | None,
    rng: np.random.Generator,
) -> tuple[Triples, NDArray[np.int64], NDArray[np.int64]]:
    """Return what links are ranked against: of each two questions, for its tail and for its head.

    A question is a link and, after it, what no known link is of the same with every other entity there, or
    with ``most`` of those. Returns the triples [m, 3], what they are [m] (1 the link, 2 a corruption with an
    entity that ``seen`` links have at that end of the relation, 0 any other) and of which link [m].
    """
    fitting = {end: set(zip(seen[:, 1].tolist(), seen[:, end].tolist(), strict=True)) for end in (0, 2)}
    places = {
        (end, relation): np.array(sorted(e for r, e in pairs if r == relation), np.int64)
        for end, pairs in fitting.items()
        for relation in {r for r, _ in pairs}
    }
    everybody = 1 + np.arange(len(graph.entities))
    made, kinds, of = [], [], []
    for number, link in enumerate(links):
        for end in (2, 0):
            rows = np.repeat(link[None], len(everybody), 0)
            rows[:, end] = everybody
            rows = rows[~among(graph.keys(rows), known)]
            if most is not None and len(rows) > most:
                rows = rows[np.sort(rng.permutation(len(rows))[:most])]
            there = places.get((end, int(link[1])), everybody[:0])
            made += [link[None], rows]
            kinds += [np.ones(1, np.int64), 2 * np.isin(rows[:, end], there).astype(np.int64)]
            of.append(np.full(1 + len(rows), number))
    none = np.zeros(0, np.int64)
    return np.concatenate([links[:0], *made]), np.concatenate([none, *kinds]), np.concatenate([none, *of])
