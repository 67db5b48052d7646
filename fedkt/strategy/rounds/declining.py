"""Whom a server does not teach, since the forecast of its first exchange speaks against it."""

from typing import TYPE_CHECKING, Any

from fedkt.knowledge.contributions import Contributions
from fedkt.strategy.fusing.evidence import evidence_of
from fedkt.strategy.fusing.forecast import forecast
from fedkt.strategy.fusing.fusion import Fused

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

LEAST = 0.5
"""A client whose personal accuracy rises with a smaller probability is not taught."""


class Declining:
    """The forecasts of a run, made at each client's first exchange, and who is not taught by them.

    Such a client is asked and contributes as all are, and trains alone.
    """

    def __init__(self, scenario: "Scenario", form: str, *, together: bool) -> None:
        self._scenario, self._form, self._together = scenario, form, together
        self.chances: dict[str, float] = {}
        """By client, the probability that fusing raises its personal accuracy."""

    def look(self, contributions: Contributions, fused: Fused) -> None:
        """Make the forecasts that are not made yet; none where there is one client, which has no peers."""
        clients = contributions.clients
        if len(clients) < 2 or set(clients) <= set(self.chances):
            return
        told = evidence_of(contributions, fused, self._form, self._scenario, together=self._together)
        found = forecast(self._scenario.strategy.name, told)
        for client, chance in zip(clients, found, strict=True):
            self.chances.setdefault(client, chance["personal"].probability)

    def spares(self, client: str) -> bool:
        """Say whether a client is not taught."""
        return self.chances.get(client, 1.0) < LEAST

    def report(self) -> dict[str, Any]:
        """Return what a round's line says of it."""
        untaught = [client for client in self.chances if self.spares(client)]
        return {"forecast": {c: round(p, 4) for c, p in self.chances.items()}, "untaught": untaught}
