"""When the clients of a board come, in simulated time."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedkt.knowledge.contributions import client_order

Lasts = Callable[[str, int, str], float]
"""Seconds that a stage of a client's visit takes, by the number of the client's own visit."""


@dataclass
class Coming:
    """A queue of deposits.

    >>> coming = Coming.begun(["a", "b"], lambda client, visit, stage: {"a": 1.0, "b": 2.5}[client])
    >>> order = []
    >>> for _ in range(4):
    ...     client = coming.next(lambda client: True)
    ...     order.append((coming.now, client))
    ...     coming.again(client, digested=False)
    >>> order
    [(1.0, 'a'), (2.0, 'a'), (2.5, 'b'), (3.0, 'a')]
    """

    lasts: Lasts
    now: float = 0.0
    due: dict[str, float] = field(default_factory=dict)
    """When each client deposits next."""
    visits: dict[str, int] = field(default_factory=dict)
    """How often each has come."""
    measured: dict[str, tuple[float, Mapping[str, float]]] = field(default_factory=dict)
    """What each client will have been measured at, and when: it is digesting until then."""

    @classmethod
    def begun(cls, clients: Iterable[str], lasts: Lasts) -> "Coming":
        """Return the queue of clients that all begin to train at second 0."""
        due = {client: lasts(client, 1, "train") for client in clients}
        return cls(lasts, due=due, visits=dict.fromkeys(due, 0))

    @classmethod
    def read(cls, state: Mapping[str, Any], lasts: Lasts) -> "Coming":
        """Return what :meth:`state` was written of."""
        measured = {client: (at, found) for client, (at, found) in state["measured"].items()}
        return cls(lasts, state["now"], dict(state["due"]), dict(state["visits"]), measured)

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as JSON values."""
        return {key: value for key, value in vars(self).items() if key != "lasts"}

    def next(self, there: Callable[[str], bool]) -> str | None:
        """Go on to the next deposit of a client that is there; return whose, None where nobody is.

        A client that was away when it was due comes as soon as it is there. Of two at once the first by name.
        """
        here = [client for client in self.due if there(client)]
        if not here:
            return None
        client = min(here, key=lambda c: (self.due[c], client_order(c)))
        self.now = max(self.now, self.due[client])
        self.visits[client] += 1
        return client

    def again(self, client: str, *, digested: bool) -> float:
        """Let a client digest what it got, if it did, and train again; return when it has digested."""
        visit = self.visits[client]
        done = self.now + (self.lasts(client, visit, "evaluate") if digested else 0.0)
        self.due[client] = done + self.lasts(client, visit + 1, "train")
        return done

    def known(self) -> dict[str, Mapping[str, float]]:
        """Take out what has been measured by now, by client."""
        found = {client: its for client, (at, its) in self.measured.items() if at <= self.now}
        self.measured = {client: its for client, its in self.measured.items() if client not in found}
        return found
