"""Who is asked in a round, and which of Flower's nodes plays whom."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from flwr.serverapp import Grid

from fedkt.knowledge.contributions import client_order
from fedkt.knowledge.protocol import who_answered, who_are_you
from fedkt.rng import numpy_stream
from fedkt.strategy.rounds.given import Setting


class Asking:
    """Draws the clients of a round by seed and finds their nodes."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._nodes: dict[int, str] = {}
        self._node_of: dict[str, int] = {}
        self._ordered = sorted(setting.dims, key=client_order)
        self._known: Iterable[int] = ()
        """The grid's nodes when all of them were known."""
        self.turn: str | None = None
        """Who comes by itself, on a board; None: the server asks."""
        self.visits = 1
        """How many numbers of messages make a round: one; on a board as many as it has visits."""
        self.needed = 0
        """How many contributions the round at work takes in at most."""

    # Whom ----------------------------------------------------------------------------------------

    @property
    def usual(self) -> int:
        """How many clients are asked in each round: the scenario's fraction of all, at least one."""
        return max(1, round(self._setting.scenario.participation.fraction * len(self._setting.dims)))

    def there(self, client: str, server_round: int) -> bool:
        """Say whether a client takes part in a round: it has not withdrawn and churn leaves it there."""
        churn, withdrawn = self._setting.churn, self._setting.scenario.participation.withdrawn
        server_round = max(1, -(-server_round // self.visits))
        return withdrawn.get(client, math.inf) > server_round and (
            churn is None or churn.there(client, server_round)
        )

    def sample(self, server_round: int, answered: Collection[str] = (), attempt: int = 0) -> list[str]:
        """Return the clients to ask: a seeded sample of those that are there, at least one of them.

        It has the scenario's fraction, and more where more are asked than needed. Where the round is begun
        again (``attempt`` above 0), those are left out that have ``answered``.
        """
        if self.turn is not None:
            self.needed = 1
            return [self.turn]
        setting = self._setting
        part = setting.scenario.participation
        there = self._ordered
        if part.withdrawn or setting.churn is not None:
            there = [c for c in there if self.there(c, server_round)]
        self.needed = max(1, round(part.fraction * len(there)))
        free = [client for client in there if client not in answered]
        count = min(len(free), math.ceil(self.needed * part.over_select) - len(answered))
        if count == len(free):
            return free
        again = (attempt,) if attempt else ()
        stream = numpy_stream(setting.seed, "sample", server_round, *again)
        return [free[i] for i in sorted(stream.choice(len(free), count, replace=False))]

    # Where ---------------------------------------------------------------------------------------

    def seat(self, nodes: Mapping[int, str]) -> None:
        """Note which client each of these nodes plays, where the caller knows: they are not asked."""
        self._nodes |= nodes
        self._node_of |= {client: node for node, client in nodes.items()}

    def client_at(self, node: int) -> str:
        """Return the client that a node plays, an empty name where that is unknown."""
        return self._nodes.get(node, "")

    def places(self, clients: Sequence[str]) -> list[tuple[str, int]]:
        """Return these clients with their nodes, without those whose node is not known."""
        return [(client, self._node_of[client]) for client in clients if client in self._node_of]

    def learn_nodes(self, grid: Grid) -> None:
        """Ask unknown nodes once which client they are: Flower's node ids are random."""
        ids = grid.get_node_ids()
        if ids == self._known:
            return
        unknown = [node for node in ids if node not in self._nodes]
        if not unknown:
            self._known = ids
            return
        deadline = self._setting.scenario.participation.deadline_s
        for reply in grid.send_and_receive(
            [who_are_you(node, deadline) for node in unknown], timeout=deadline
        ):
            if reply.has_content():
                name = who_answered(reply.content)
                if name in self._setting.dims:
                    self.seat({reply.metadata.src_node_id: name})
