"""What a server does in a privacy mode: open votes, and in central modes add the noise and keep the ledger.

A strategy in a central mode fuses one made-up contribution, the noisy mean or the noisy winners; so whatever
it does with it, and any server model, is free.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fedkt.knowledge.codec import Expected
from fedkt.knowledge.contributions import Contributions
from fedkt.privacy import mechanisms
from fedkt.privacy.accounting import Spent
from fedkt.privacy.ledger import Declined, Ledger, Purpose
from fedkt.privacy.modes import CentralGauss, VoteGNMax, VoteRR, mode_of, noise_of
from fedkt.privacy.protection import Mode

if TYPE_CHECKING:
    from fedkt.scenario.about_privacy import Privacy

AGGREGATE = "aggregate"
"""The name of the one contribution that is fused in a central mode."""


@dataclass(frozen=True)
class Central:
    """The server's part of a mode in one run.

    ``noise``: the mode's own, or that of the target epsilon; ``clients``: how many are asked in each round,
    a public constant; ``ledger``: the server's, for central modes.
    """

    mode: Mode
    settings: "Privacy"
    run: str
    noise: float
    clients: int
    ledger: Ledger | None
    rows: str | None = None
    """The hash of all parties' rows, where the server knows it (in a simulation)."""

    def open(
        self, contributions: Contributions, expected: Expected, classes: int, round_: int
    ) -> Contributions | None:
        """Return the contributions as a strategy fuses them; None where nothing may be released.

        Raises :class:`~fedkt.privacy.ledger.Declined` where the budget is spent.
        """
        if isinstance(self.mode, VoteRR):
            votes = _one_hot(contributions.arrays["labels"], classes)
            return replace(contributions, arrays={"values": mechanisms.unbiased(votes, classes, self.noise)})
        if not self.mode.at_server:
            return contributions
        purpose = Purpose(self.run, round_, "fuse")
        found = self._released(purpose)
        if found is None:
            self._reserve(purpose, expected)
            found = self._aggregate(contributions, expected, classes)
            self._ledger.release(purpose, {name: tensor.numpy() for name, tensor in found.items()})
        if not len(found["values"]):
            return None
        rows = found.get("rows", contributions.rows)
        return replace(
            contributions,
            clients=(AGGREGATE,),
            arrays={"values": found["values"][None]},
            rows=rows,
            unlike={},
        )

    def spent(self) -> Spent | None:
        """Return what all clients' data have paid at this server; None where clients pay themselves."""
        if self.ledger is None or self.settings.delta is None:
            return None
        return self.ledger.spent(self.settings.delta, self.mode.unit)

    @property
    def _ledger(self) -> Ledger:
        if self.ledger is None:
            raise Declined("ledger", f"mode {self.settings.mode} needs a ledger at the server; it has none.")
        return self.ledger

    def _released(self, purpose: Purpose) -> dict[str, Tensor] | None:
        found = self._ledger.released(purpose)
        return None if found is None else {name: torch.from_numpy(array) for name, array in found.items()}

    def _reserve(self, purpose: Purpose, expected: Expected) -> None:
        if self.settings.delta is None or self.settings.max_epsilon is None:
            raise ValueError("a private mode has a delta and a budget")
        self._ledger.reserve(
            purpose,
            self.mode.release(expected, self.noise),
            delta=self.settings.delta,
            unit=self.mode.unit,
            change=self.mode.change,
            most=self.settings.max_epsilon,
            data=self.rows,
        )

    def _aggregate(self, contributions: Contributions, expected: Expected, classes: int) -> dict[str, Tensor]:
        arrays: Mapping[str, Any] = contributions.arrays
        if isinstance(self.mode, CentralGauss):
            mean = self.mode.mean(arrays["values"].numpy(), self.clients, expected["values"], self.noise)
            return {"values": torch.from_numpy(mean)}
        if not isinstance(self.mode, VoteGNMax):
            raise TypeError(f"{type(self.mode).__name__} adds no noise at a server")
        answered, labels = self.mode.winners(arrays["labels"].numpy(), classes, self.noise)
        found = {"values": _one_hot(torch.from_numpy(labels), classes)}
        if self.settings.threshold is None:
            return found
        asked = np.arange(arrays["labels"].shape[1]) if contributions.rows is None else contributions.rows
        return found | {"rows": torch.as_tensor(asked)[answered].int()}


def central_of(
    settings: "Privacy",
    expected: Expected,
    *,
    run: str,
    rounds: int,
    clients: int,
    own: Path | None,
    rows: Callable[[], str] | None = None,
) -> Central | None:
    """Return the server's part of a privacy mode in a run; None in mode ``none``.

    ``expected``: the arrays of a full contribution; ``clients``: how many are asked in each round; ``own``:
    the server's own folder; ``rows``: gives the hash of all parties' rows, None where nobody knows it.
    """
    mode = mode_of(settings)
    if mode is None:
        return None
    noise = 0.0
    if mode.at_server or mode.growing:
        noise = noise_of(mode, rounds, lambda size: mode.release(expected, size) * rounds)
    folder = None if own is None or not mode.at_server else ledger_folder(settings, own, "server")
    ledger = None if folder is None else Ledger(folder)
    known = rows() if rows is not None and ledger is not None else None
    return Central(
        mode=mode, settings=settings, run=run, noise=noise, clients=clients, ledger=ledger, rows=known
    )


def ledger_folder(settings: "Privacy", own: Path, name: str) -> Path:
    """Return where a party's ledger lies: in its own folder, or by name below the scenario's."""
    return own / "ledger" if settings.ledger is None else Path(settings.ledger) / name


def teachable(values: Tensor) -> Tensor:
    """Return the nearest distributions to fused votes [..., classes], which debiasing may have left."""
    rows = mechanisms.onto_simplex(values.reshape(-1, values.shape[-1]).double().numpy())
    return torch.from_numpy(rows).to(values.dtype).reshape(values.shape)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return F.one_hot(labels.long(), classes).float()
