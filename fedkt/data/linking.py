"""Links of a graph as rows that can be learned from: each with others that are not true.

What was read is true links alone. A client draws corruptions of its own ones and knows no links but these, so
that one may be a link that somebody else holds; whoever ranks test links, or makes a list of candidates out
of held-out ones, knows all links that there are.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.federation import Federation, Shard
from fedkt.data.graph.corruptions import corrupted, questions
from fedkt.data.graph.vocabulary import Graph, Triples
from fedkt.data.sets.dataset import Dataset, Names, concat
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.tasks.links import Links

if TYPE_CHECKING:
    from fedkt.scenario import Data
    from fedkt.scenario.about_rows import Corruptions

MOST_ASKED = 5_000_000
"""Rows of a test set."""


def linked(federation: Federation, said: "Corruptions", seed: int) -> Federation:
    """Return a federation of links with corruptions, and with its test links as questions.

    Any other one is returned as it is. Raises InputError where a client has no link of which a corruption is
    found, or there are too many rows to rank.
    """
    graph, pool = federation.pool.graph, federation.pool
    if graph is None:
        return federation
    parts, shards, size = [as_rows(pool, graph)], [], len(pool)
    for shard in federation.shards:
        own: dict[str, Any] = {}
        known = graph.known_keys([pool.x[shard.rows], pool.x[shard.validation]])
        seen = pool.x[np.concatenate([shard.rows, shard.validation])]
        for what in ("rows", "validation"):
            rows, rng = getattr(shard, what), numpy_stream(seed, "corruptions", what, shard.id)
            made, _ = corrupted(pool.x[rows], graph, said.kind, said.per_link, known, rng, seen)
            parts.append(_made(parts[0], graph, made, _not(made), owner=shard.domain or ""))
            own[what] = np.concatenate([rows, size + np.arange(len(made))])
            size += len(made)
        if len(own["rows"]) == len(shard.rows):
            raise InputError(
                f"client {shard.id} has {len(shard.rows)} links of which no corruption is found, so there is "
                "nothing to tell them from; the graph must have more entities."
            )
        shards.append(replace(shard, **own))
    asked = _Asked(federation, graph, said, seed)
    return replace(
        federation,
        pool=concat(parts),
        shards=tuple(replace(shard, test=asked.of_shard(shard)) for shard in shards),
        test=asked.test,
        own_test=asked.own,
        public=_public(federation.public, graph, said, seed),
        task=federation.task.sized(federation.classes),
        classes=federation.task.outputs(federation.classes),
        _kept={},
    )


class _Asked:
    """Test links as questions: ``test`` and ``own``, one where the federation has one."""

    def __init__(self, federation: Federation, graph: Graph, said: "Corruptions", seed: int) -> None:
        held = [part for part in (federation.test, federation.own_test) if part is not None]
        true = [federation.pool.x, *(part.x for part in held)]
        known, seen = graph.known_keys(true), np.concatenate(true)

        def ranked(part: Dataset) -> tuple[Dataset, NDArray[np.int64]]:
            rows = 2 * len(part) * (1 + min(said.ranked or len(graph.entities), len(graph.entities)))
            if rows > MOST_ASKED:
                most = MOST_ASKED // (2 * len(part)) - 1
                raise InputError(
                    f"{len(part)} test links are ranked against {said.ranked or len(graph.entities)} "
                    f"entities each, {rows} rows; data.corruptions.ranked must be at most {most}."
                )
            rng = numpy_stream(seed, "questions")
            triples, kinds, of = questions(part.x, graph, known, seen, said.ranked, rng)
            return _made(part, graph, triples, kinds, of), of

        self.test = self.own = None
        self._of = np.zeros(0, np.int64)
        if federation.own_test is not None:
            self.own, self._of = ranked(federation.own_test)
        if federation.test is not None:
            self.test = self.own if federation.test is federation.own_test else ranked(federation.test)[0]

    def of_shard(self, shard: Shard) -> NDArray[np.int64] | None:
        """Return which of the questions are a client's own."""
        return None if shard.test is None else np.flatnonzero(np.isin(self._of, shard.test))


def candidates(held_out: Dataset, others: list[Dataset], seed: int) -> Dataset:
    """Return a list of candidates: held-out links and as many random corruptions, in an order that says
    nothing.

    No candidate but the former is a link of ``others``. That they are listed at all tells whoever reads the
    list that one in two is true: it is a leak unless they are public.
    """
    graph = held_out.graph
    assert graph is not None
    known, rng = (
        graph.known_keys([held_out.x, *(part.x for part in others)]),
        numpy_stream(seed, "candidates"),
    )
    made, of = corrupted(held_out.x, graph, "random", 1, known, rng, held_out.x)
    both = concat([held_out, replace(held_out.take(of), x=made)])
    return both.take(rng.permutation(len(both)))


def misfits(data: "Data", train: Dataset) -> list[str]:
    """Return what of links and other rows is not for the task, in sentences."""
    if train.graph is None:
        return []
    found = []
    if data.task != Links.name:
        found.append(
            f"data.dataset holds links, which data.task {data.task} does not predict; it must be links."
        )
    transfer = data.transfer
    if transfer is not None and transfer.from_ == "train" and transfer.size % 2:
        found.append(
            f"data.transfer.size is {transfer.size}, but a list of candidates is half links that are held "
            "out and half corruptions of these; it must be even."
        )
    if data.corruptions.kind == "hard" and all(name.isdecimal() for name in train.graph.entities):
        found.append(
            "data.corruptions.kind is hard, which compares the names of entities, but these are numbers; it "
            "must be random or typed."
        )
    return found


def as_rows(links: Dataset, graph: Graph) -> Dataset:
    """Return true links as rows of the task: y [n, 3]."""
    return replace(
        links, y=_targets(links.x, graph, np.ones(len(links), np.int64)), label_names=graph.relations
    )


def _public(part: Dataset | None, graph: Graph, said: "Corruptions", seed: int) -> Dataset | None:
    if part is None:
        return None
    rng = numpy_stream(seed, "corruptions", "public")
    made, _ = corrupted(part.x, graph, said.kind, said.per_link, graph.known_keys([part.x]), rng, part.x)
    rows = as_rows(part, graph)
    return concat([rows, _made(rows, graph, made, _not(made))])


def _made(
    like: Dataset,
    graph: Graph,
    triples: Triples,
    kinds: NDArray[np.int64],
    of: NDArray[np.int64] | None = None,
    owner: str = "",
) -> Dataset:
    """Return these triples as rows that are named as the rows ``of`` which they are, or all as ``owner``."""

    def named(held: Names | None) -> Names | None:
        if held is None:
            return None
        return np.full(len(triples), owner) if of is None else held[of]

    y = _targets(triples, graph, kinds)
    return replace(
        like, x=triples, y=y, domain=named(like.domain), ids=named(like.ids), label_names=graph.relations
    )


def _not(triples: Triples) -> NDArray[np.int64]:
    """Say of corruptions that none is asked whether it fits its place."""
    return np.zeros(len(triples), np.int64)


def _targets(triples: Triples, graph: Graph, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([kinds == 1, triples[:, 1] - graph.relation(0), kinds == 2], 1).astype(np.int64)
