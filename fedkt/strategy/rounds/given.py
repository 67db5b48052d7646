"""What the server of a run knows before the first round: all that a strategy is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from fedkt import models
from fedkt.adversity.churn import Churn
from fedkt.data.made.stock import Stock
from fedkt.errors import InputError
from fedkt.knowledge.kinds import Dims
from fedkt.strategy.fusing.robust import Probe
from fedkt.tasks import Task, task_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fedkt.data import Federation
    from fedkt.data.sets.dataset import InputSpec
    from fedkt.models.build import Dealt
    from fedkt.scenario import Scenario


@dataclass(frozen=True)
class Setting:
    """What the server knows: the scenario, the run's id, the sizes per client, the transfer set's hash,
    what a model gets (``input``).

    ``federation`` is there in a simulation only, for the bound that pools all data; ``probe`` where the
    server knows labels of transfer rows; ``churn`` where clients come and go in a simulation,
    ``hostile``: those who attack in it, whose accuracy counts in no mean.
    """

    scenario: "Scenario"
    run: str
    dims: Mapping[str, Dims]
    transfer: str
    input: "InputSpec"
    federation: "Federation | None" = None
    probe: Probe | None = None
    churn: Churn | None = None
    hostile: frozenset[str] = frozenset()
    own: Path | None = None
    """The server's own folder, where its privacy ledger lies."""
    stock: Stock | None = None
    """What makes the transfer rows, where they are made."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """By client, the standard deviation of the noise that a round's private training leaves on each weight,
    where that is public and known; empty: nobody knows."""

    @property
    def seed(self) -> int:
        """The scenario's seed."""
        return self.scenario.seed

    @property
    def task(self) -> Task:
        """What is to be predicted."""
        return task_of(self.scenario.data)

    @property
    def models(self) -> "dict[str, Dealt]":
        """Each client's model, as dealt in the order of the clients."""
        dealt = models.deal(self.scenario.clients.models, len(self.dims), self.seed)
        return dict(zip(self.dims, dealt, strict=True))

    def transfer_in(self, round_: int) -> str:
        """Return the hash of the transfer set that a round speaks about."""
        return self.stock.hash(round_) if self.stock is not None and self.stock.fresh else self.transfer

    def check_features(self) -> None:
        """Raise InputError where the server cannot compare transfer rows with one another."""
        if self.stock is None and (self.federation is None or self.federation.transfer is None):
            raise InputError(
                "data.transfer.policy looks at the transfer rows, of which the server holds none here; it "
                "must be another one, or the rows be made."
            )
        if self.input.kind == "tokens":
            raise InputError(
                "data.transfer.policy compares transfer rows by their numbers, but token ids are names of "
                "words; it must be another one."
            )

    def transfer_features(self, round_: int) -> "NDArray[np.float64]":
        """Return a round's transfer set [rows, d] as numbers that rows are compared by: each of unit
        deviation.

        They must be there (:meth:`check_features`).
        """
        import numpy as np

        if self.stock is not None:
            raw = self.stock.rows(round_).x
        else:
            assert self.federation is not None
            assert self.federation.transfer is not None
            raw = self.federation.transfer.x
        rows = (raw.toarray() if hasattr(raw, "tocsr") else np.asarray(raw)).reshape(raw.shape[0], -1)
        filled = np.where(np.isnan(rows), np.nanmean(rows, axis=0), rows) if rows.dtype.kind == "f" else rows
        centred = filled.astype(np.float64) - filled.mean(0)
        scale = centred.std(0) if self.input.kind == "tabular" else centred.std()
        return np.asarray(centred / np.where(scale > 0, scale, 1.0))

    def transfer_x(self, round_: int | None = None) -> Tensor:
        """Return the transfer set [rows, ...] of a round as a model gets it.

        ``round_``: None where the first will do. Raises InputError where there is none.
        """
        if self.federation is None or self.federation.transfer is None:
            name = self.scenario.strategy.name
            raise InputError(
                f"the server of strategy '{name}' needs the transfer set's rows; it has none here."
            )
        x = self.federation.server_tensors(round_)[0]
        assert x is not None
        return x
