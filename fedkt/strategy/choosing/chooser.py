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
from fedkt.strategy.choosing.counting import Census
from fedkt.strategy.choosing.shares import Shares
from fedkt.strategy.choosing.sieve import Sieve
from fedkt.strategy.choosing.utilities.said import Said
from fedkt.strategy.choosing.utility import UTILITIES

if TYPE_CHECKING:
    from fedkt.scenario.about_data import Transfer

Features = Callable[[int], NDArray[np.float64]]
"""Returns the transfer rows of a round as the server sees them [total, d]."""


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
        sets, mixes = transfer.audition, self._policy.mechanism == "domains"
        self.shares = Shares(len(sets), transfer.size) if mixes else None
        """How much of a round each set has, where none is dropped."""
        self.audition = Audition(list(sets), transfer.size) if sets and not mixes else None
        self.sieve = None if transfer.keep is None else Sieve(transfer.keep)
        self.census = Census(seed) if self._utility.counts else None
        looked_at = self.audition or self.sieve or self.shares or self.census
        self._all = looked_at is None and (transfer.rows or transfer.size) >= total
        """Whether all rows are asked about in each round, so that nobody needs to know what one is worth."""
        self.worth: Tensor | None = None
        """What each row is worth [total], infinite where nobody was asked; None before the first score."""
        self._before: Tensor | None = None
        """What the teachers said of each row last [total, classes], where the utility looks at it."""

    @property
    def by_clients(self) -> bool:
        """Whether clients' own answers decide."""
        waits = self.audition is not None and self.audition.chosen is None
        return (self._utility.answers and not self._all) or waits or self.shares is not None

    @property
    def by_teachers(self) -> bool:
        """Whether what teachers say decides."""
        waits = self.sieve is not None and self.sieve.kept is None
        return (self._utility.teachers and not self._all) or waits or self.shares is not None

    def choose(self, server_round: int) -> NDArray[np.int32] | None:
        """Return the rows to ask for, ascending (None: all)."""
        draws = numpy_stream(self._seed, "rows", server_round)
        among = np.arange(self._total)
        if self.audition is not None:
            if self.audition.chosen is None:
                return self.audition.rows(draws)
            among = self.audition.block()
        elif self.sieve is not None:
            if self.sieve.kept is None:
                return None
            among = self.sieve.kept.numpy()
        count = self._transfer.rows or self._transfer.size
        if count >= len(among):
            return None if len(among) == self._total else among.astype(np.int32)
        # Ties, and rows that nobody has spoken about, are taken in the shuffled order.
        shuffled = among[draws.permutation(len(among))]
        at_random = round(self._policy.explore * count)
        best = self._best(shuffled, count - at_random, draws, server_round)
        rest = shuffled[~np.isin(shuffled, best)]
        return np.sort(np.concatenate([best, rest[:at_random]])).astype(np.int32)

    def _best(
        self, rows: NDArray[np.int64], count: int, draws: np.random.Generator, server_round: int
    ) -> NDArray[np.int64]:
        if self._utility.rows is not None and (self.worth is None or self._transfer.fresh):
            self.worth = torch.from_numpy(self._utility.rows(self._seen(server_round)))
        if self.census is not None and self.census.by_client:
            self.worth = self.census.worth(self._seen(server_round))
        worth = np.zeros(len(rows)) if self.worth is None else self.worth.double().numpy()[rows]
        match self._policy.mechanism:
            case "sample":
                return rows[picking.sample(worth, count, draws)]
            case "cover":
                return rows[picking.cover(self._seen(server_round)[rows], worth, count)]
            case "strata":
                if self._clusters is None or self._transfer.fresh:
                    seed = seed_of(self._seed, "strata")
                    seen = self._seen(server_round)
                    self._clusters = picking.clusters_of(seen, self._transfer.rows or 1, seed)
                return rows[picking.strata(self._clusters[rows], worth, count)]
            case "domains":
                assert self.shares is not None
                return rows[picking.of_each(self.shares.set_of(rows), self.shares.counts(count), worth)]
            case "versions":
                ways = rows // (self._total // self._transfer.versions)
                return rows[picking.versions(ways, worth, count, draws)]
        return rows[picking.top(worth, count)]

    def _seen(self, server_round: int) -> NDArray[np.float64]:
        assert self._features is not None
        return self._features(server_round)

    def learn(self, rows: NDArray[np.int32] | None, answers: Tensor | None, teachers: Tensor | None) -> None:
        """Note what these rows are worth by probabilities: clients' [clients, rows, classes], teachers'."""
        audition, sieve = self.audition, self.sieve
        if audition is not None and audition.chosen is None and answers is not None and rows is not None:
            audition.hear(rows, answers)
        if sieve is not None and sieve.kept is None and teachers is not None and rows is None:
            sieve.hear(teachers)
        if self.shares is not None and answers is not None and teachers is not None:
            self.shares.hear(rows, answers, teachers)
        needs = (self._utility.answers and answers is None) or (self._utility.teachers and teachers is None)
        if self._all or needs or not self._utility.hears:
            return
        if self.worth is None:
            # A row without a score is worth most: nobody has spoken about it yet.
            self.worth = torch.full((self._total,), torch.inf)
        nothing = torch.zeros(0)
        answers, teachers = nothing if answers is None else answers, nothing if teachers is None else teachers
        where = slice(None) if rows is None else torch.from_numpy(rows).long()
        before = nothing
        if self._utility.before:
            classes = teachers.shape[-1]
            if self._before is None:
                self._before = teachers.new_full((self._total, classes), 1 / classes)
            before = self._before[where].clone()
            self._before[where] = teachers.mean(0)
        worth = self._utility.of(Said(answers, teachers, before))
        self.worth[where] = worth.view(len(self.worth[where]), -1).mean(
            1
        )  # of a passage at each of its places

    def report(self) -> dict[str, object]:
        """Return what a person may want to see of the choice."""
        told: dict[str, object] = {}
        if self.audition is not None:
            told["audition"] = self.audition.report()
        if self.shares is not None:
            values = self.shares.values.round(4).tolist()
            told["domains"] = dict(zip(self._transfer.audition, values, strict=True))
        if self.sieve is not None:
            told["kept"] = None if self.sieve.kept is None else len(self.sieve.kept)
        return told

    # Resume ---------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by name and a JSON note."""
        kept = None if self.sieve is None else self.sieve.kept
        held = {"worth": self.worth, "before": self._before, "kept": kept}
        if self.census is not None:
            held = {f"census/{client}": counts for client, counts in self.census.by_client.items()}
        note: dict[str, Any] = {}
        if self.audition is not None:
            one = self.audition
            note = {"rounds": one.rounds, "chosen": one.chosen, "heard": one.heard}
        elif self.sieve is not None:
            note = {"rounds": self.sieve.rounds}
        if self.shares is not None:
            mixed = self.shares
            note |= {"shares": mixed.values.tolist(), "ratios": mixed.ratios.tolist(), "mixed": mixed.heard}
        return {name: tensor for name, tensor in held.items() if tensor is not None}, note

    def load(self, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        self.worth, self._before = tensors.get("worth"), tensors.get("before")
        if self.census is not None:
            self.census.by_client = {
                name.removeprefix("census/"): tensor
                for name, tensor in tensors.items()
                if name.startswith("census/")
            }
        if self.audition is not None and note:
            self.audition.rounds, self.audition.chosen = note["rounds"], note["chosen"]
            self.audition.heard = note["heard"]
        elif self.sieve is not None and note:
            self.sieve.rounds, self.sieve.kept = note["rounds"], tensors.get("kept")
        if self.shares is not None and note:
            self.shares.values, self.shares.ratios = np.array(note["shares"]), np.array(note["ratios"])
            self.shares.heard = note["mixed"]
