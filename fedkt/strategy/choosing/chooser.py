"""Which transfer rows a round asks for, by the scenario's policy."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.rng import numpy_stream, seed_of
from fedkt.strategy.choosing import picking
from fedkt.strategy.choosing.audition import Audition
from fedkt.strategy.choosing.utility import UTILITIES

if TYPE_CHECKING:
    from fedkt.scenario.about_data import Transfer

Features = Callable[[], NDArray[np.float64]]
"""Returns the transfer rows as the server sees them [total, d]."""


class RowChoice:
    """Chooses by the scenario's policy; ``total``: rows of the transfer set; ``features``: where rows are
    looked at.

    A row is worth what its utility says of the answers when it was last asked about, and most while it was
    not. Rows of noise, or of another domain, leave every client in doubt, so that a teacher is least certain
    of them for ever: in a set of several sources ``entropy`` and ``margin`` end in asking for these alone.
    """

    def __init__(self, transfer: "Transfer", total: int, seed: int, features: Features | None = None) -> None:
        self._transfer, self._total, self._seed, self._features = transfer, total, seed, features
        self._policy = transfer.rule
        self._utility = UTILITIES[self._policy.utility]
        self._clusters: NDArray[np.int64] | None = None
        self.audition = Audition(list(transfer.audition), transfer.size) if transfer.audition else None
        self.worth: Tensor | None = None
        """What each row is worth [total], infinite where nobody was asked; None before the first score."""

    @property
    def by_clients(self) -> bool:
        """Whether clients' own answers decide."""
        return self._utility.answers or (self.audition is not None and self.audition.chosen is None)

    @property
    def by_teachers(self) -> bool:
        """Whether what teachers say decides."""
        return self._utility.teachers

    def choose(self, server_round: int) -> NDArray[np.int32] | None:
        """Return the rows to ask for, ascending (None: all)."""
        draws = numpy_stream(self._seed, "rows", server_round)
        among = np.arange(self._total)
        if self.audition is not None:
            if self.audition.chosen is None:
                return self.audition.rows(draws)
            among = self.audition.block()
        count = self._transfer.rows or self._transfer.size
        if count >= len(among):
            return among.astype(np.int32) if self.audition is not None else None
        # Ties, and rows that nobody has spoken about, are taken in the shuffled order.
        shuffled = among[draws.permutation(len(among))]
        at_random = round(self._policy.explore * count)
        best = self._best(shuffled, count - at_random, draws)
        rest = shuffled[~np.isin(shuffled, best)]
        return np.sort(np.concatenate([best, rest[:at_random]])).astype(np.int32)

    def _best(self, rows: NDArray[np.int64], count: int, draws: np.random.Generator) -> NDArray[np.int64]:
        worth = np.zeros(len(rows)) if self.worth is None else self.worth.double().numpy()[rows]
        match self._policy.mechanism:
            case "sample":
                return rows[picking.sample(worth, count, draws)]
            case "cover":
                return rows[picking.cover(self._seen()[rows], worth, count)]
            case "strata":
                if self._clusters is None:
                    seed = seed_of(self._seed, "strata")
                    self._clusters = picking.clusters_of(self._seen(), self._transfer.rows or 1, seed)
                return rows[picking.strata(self._clusters[rows], worth, count)]
        return rows[picking.top(worth, count)]

    def _seen(self) -> NDArray[np.float64]:
        assert self._features is not None
        return self._features()

    def learn(self, rows: NDArray[np.int32] | None, answers: Tensor | None, teachers: Tensor | None) -> None:
        """Note what these rows are worth by probabilities: clients' [clients, rows, classes], teachers'."""
        audition = self.audition
        if audition is not None and audition.chosen is None and answers is not None and rows is not None:
            audition.hear(rows, answers)
        needs = (self._utility.answers and answers is None) or (self._utility.teachers and teachers is None)
        if needs or not (self._utility.answers or self._utility.teachers):
            return
        if self.worth is None:
            # A row without a score is worth most: nobody has spoken about it yet.
            self.worth = torch.full((self._total,), torch.inf)
        nothing = torch.zeros(0)
        found = self._utility.of(
            nothing if answers is None else answers, nothing if teachers is None else teachers
        )
        self.worth[slice(None) if rows is None else torch.from_numpy(rows).long()] = found

    # Resume ---------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by name and a JSON note."""
        tensors = {} if self.worth is None else {"worth": self.worth}
        held = self.audition
        note = {} if held is None else {"rounds": held.rounds, "chosen": held.chosen, "heard": held.heard}
        return tensors, note

    def load(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.worth = tensors.get("worth")
        if self.audition is not None and note:
            self.audition.rounds, self.audition.chosen = note["rounds"], note["chosen"]
            self.audition.heard = note["heard"]
