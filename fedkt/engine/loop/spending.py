"""What the server's side of a private run may know: epsilons that clients tell, and, in a simulation, what
lies on this machine's disk outside the protocol."""

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from fedkt.client.state import DiskStore
from fedkt.privacy.accounting import Spent
from fedkt.privacy.curator import ledger_folder
from fedkt.privacy.ledger import Declined, Ledger
from fedkt.strategy.base import Strategy
from fedkt.strategy.rounds.receiving import Outcome


class Spending:
    """Follows one run; in mode ``none`` it has nothing to say.

    ``clients``: where a simulation keeps its clients' folders; there are none in a deployment.
    """

    def __init__(self, strategy: Strategy, clients: Path) -> None:
        self._central = strategy.course.central
        self._privacy = strategy.setting.scenario.privacy
        self._clients = list(strategy.setting.dims)
        self._store = DiskStore(clients)

    def look(self, round_: int, *stages: Mapping[str, Outcome]) -> None:
        """Put in what simulated clients measured and did not send ("not released")."""
        if self._central is not None:
            for client, outcome in chain.from_iterable(stage.items() for stage in stages):
                outcome.metrics = {**outcome.metrics, **self._store.observed(client, round_)}

    def paid(self, trained: Mapping[str, Outcome], told: dict[str, float]) -> dict[str, float]:
        """Note the epsilons that this round's replies tell; return the newest of each client."""
        told |= {c: o.metrics["epsilon"] for c, o in trained.items() if "epsilon" in o.metrics}
        at_server = None if self._central is None else self._central.spent()
        return told if at_server is None else dict.fromkeys(self._clients, at_server.epsilon)

    def worst(self, told: Mapping[str, float]) -> Spent | None:
        """Return what the client that spent most has spent: by its ledger where that is here."""
        central, delta = self._central, self._privacy.delta
        if central is None or delta is None:
            return None
        if (at_server := central.spent()) is not None:
            return at_server
        found = [spent for client in self._clients if (spent := self._ledger_says(client, delta)) is not None]
        found += [Spent(epsilon, "the accountant of the client's ledger") for epsilon in told.values()]
        return max(found, key=lambda spent: spent.epsilon, default=None)

    def _ledger_says(self, client: str, delta: float) -> Spent | None:
        folder = ledger_folder(self._privacy, self._store.folder_of(client), client)
        if self._central is None or not folder.is_dir():
            return None
        try:
            return Ledger(folder).spent(delta, self._central.mode.unit)
        except Declined:
            return Spent(math.inf, f"none: the ledger of client {client} cannot be trusted")
