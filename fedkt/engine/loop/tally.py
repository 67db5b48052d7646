"""What became of the visits of one round of a board."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fedkt.engine.loop.loop import STATUSES
from fedkt.results import metrics
from fedkt.strategy.rounds.receiving import Outcome


@dataclass
class Tally:
    """By client; of several visits the newest, with the bytes of all.

    >>> tally = Tally()
    >>> for up in (10, 5):
    ...     tally.deposit(Outcome("a", "accepted", up=up), "fused")
    >>> tally.trained["a"].up, tally.replies["accepted"], tally.status, Tally.read(tally.state()) == tally
    (15, 2, 'fused', True)
    """

    trained: dict[str, Outcome] = field(default_factory=dict)
    evaluated: dict[str, Outcome] = field(default_factory=dict)
    told: dict[str, metrics.Losses] = field(default_factory=dict)
    replies: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    became: list[str] = field(default_factory=list)
    """What became of the deposits that were accepted: ``fused``, ``no-quorum``, ``nothing``."""

    def deposit(self, outcome: Outcome, became: str = "") -> None:
        """Note what became of a contribution."""
        self.replies[outcome.status] += 1
        if became and became not in self.became:
            self.became.append(became)
        _note(self.trained, outcome)

    def digestion(self, outcome: Outcome) -> None:
        """Note what became of a teacher."""
        _note(self.evaluated, outcome)

    def lost(self, told: Mapping[str, metrics.Losses]) -> None:
        """Note losses of phases."""
        for client, losses in told.items():
            self.told[client] = {**self.told.get(client, {}), **losses}

    @property
    def status(self) -> str:
        """The round's status in a word."""
        return next((word for word in ("fused", "no-quorum") if word in self.became), "nothing")

    def state(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> "Tally":
        """Return what :meth:`state` was made of."""
        stages = {key: {c: Outcome(**o) for c, o in state[key].items()} for key in ("trained", "evaluated")}
        return cls(**{**state, **stages})


def _note(held: dict[str, Outcome], outcome: Outcome) -> None:
    if (before := held.get(outcome.client)) is not None:
        outcome.up, outcome.down = outcome.up + before.up, outcome.down + before.down
    held[outcome.client] = outcome
