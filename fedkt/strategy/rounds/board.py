"""A board in place of rounds: each client's newest contribution, weighed by its age.

**What a board is.** Clients come when they can. A *visit* is a client's own round: it trains, deposits its
contribution, and collects at once the teacher that follows from what lies on the board at that moment, its
own newest contribution among it; then it digests that teacher. Nobody is asked, and nobody waits for
anybody. The same two messages carry a visit as carry a round (:mod:`fedkt.knowledge.protocol`), so a
client's code, its checks, its privacy guard and its ledger are those of a round: each deposit is a release,
and is charged as one.

**Numbers.** Visits are counted over all clients, and a visit's number is what a round's number is
elsewhere: random streams, versions of a client's state (:mod:`fedkt.client.state`) and entries of its
ledger go by it. So the protocol of resume holds as it stands: a checkpoint after visit n and each client's
newest version below 2n + 2 are the whole run.

**Age.** A contribution that is ``t`` seconds older than the newest one weighs 2^(-t / half-life); only
differences of ages matter, so what a board says does not change while nobody comes. FedAsync discounts by
staleness in the same spirit: Xie, Koyejo, Gupta 2019, "Asynchronous Federated Optimization", arXiv
1903.03934, there versions of weights, here seconds of knowledge. Contributions older than ``board.fresh_s``
are left out, and a quorum counts those that are left; below it the teachers of before stay.

**Who fits.** A method whose teachers follow from any set of newest contributions about the same transfer
rows, by weighted means that weights of age can enter (:func:`fedkt.strategy.board_checks.board_problems`).

**In a simulation** (``engine.kind: board``, :mod:`fedkt.engine.loop.board_loop`) time is virtual: each
visit lasts as long as ``churn`` says, visits are taken in the order of that time, and the run is the same
to the bit whenever it is repeated or resumed. **At real sites** (``fedkt board``,
:mod:`fedkt.deploy.coordinator.board_desk`) time is the coordinator's clock, and everything is on its disk
before it answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedkt.knowledge.contributions import client_order
from fedkt.scenario import Board as Settings


@dataclass(frozen=True)
class Deposit:
    """A contribution on the board: the number of the visit that left it, when (seconds), and its arrays."""

    number: int
    at: float
    arrays: Mapping[str, Tensor]


class Board:
    """The newest contribution of each client.

    >>> board = Board(Settings(half_life_s=10.0, fresh_s=60.0))
    >>> for number, (client, at) in enumerate([("a", 0.0), ("b", 50.0), ("c", 70.0)], 1):
    ...     board.now = at
    ...     board.put(client, number, {"values": torch.zeros(1)})
    >>> list(board.fresh()), board.weights(["b", "c"]).tolist()
    (['b', 'c'], [0.25, 1.0])
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.now = 0.0
        """Seconds; whoever drives the board sets it before a deposit."""
        self.held: dict[str, Deposit] = {}

    def put(self, client: str, number: int, arrays: Mapping[str, Any]) -> None:
        """Put a contribution in the place of the client's last one."""
        held = {n: a if isinstance(a, Tensor) else torch.tensor(a) for n, a in arrays.items()}
        self.held[client] = Deposit(number, self.now, held)

    def fresh(self) -> dict[str, Mapping[str, Tensor]]:
        """Return the contributions that are fresh, by client in order."""
        limit = self._settings.fresh_s
        return {
            client: self.held[client].arrays
            for client in sorted(self.held, key=client_order)
            if limit is None or self.now - self.held[client].at <= limit
        }

    def weights(self, clients: Sequence[str]) -> Tensor | None:
        """Return what these clients' contributions weigh by their age [clients], the newest 1.

        None where age does not count.
        """
        half_life = self._settings.half_life_s
        if half_life is None:
            return None
        at = torch.tensor([self.held[client].at for client in clients], dtype=torch.float64)
        return torch.exp2((at - at.max()) / half_life).float()

    def report(self, clients: Sequence[str]) -> dict[str, Any]:
        """Return what a round's line says of the contributions that were fused: their ages in seconds."""
        return {"ages_s": {client: round(self.now - self.held[client].at, 3) for client in clients}}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by ``<client>/<name>`` and a JSON note."""
        tensors = {
            f"{client}/{name}": tensor
            for client, deposit in self.held.items()
            for name, tensor in deposit.arrays.items()
        }
        held = {client: [deposit.number, deposit.at] for client, deposit in self.held.items()}
        return tensors, {"now": self.now, "held": held}

    def load(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        parts: dict[str, dict[str, Tensor]] = {client: {} for client in note["held"]}
        for key, tensor in tensors.items():
            client, name = key.split("/", 1)
            parts[client][name] = tensor
        self.now = note["now"]
        self.held = {c: Deposit(number, at, parts[c]) for c, (number, at) in note["held"].items()}
