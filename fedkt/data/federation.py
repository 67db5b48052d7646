"""Who holds which rows: everything about data that a run needs, built from a scenario."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.labels import LabelNames, Labels
from fedkt.data.made.stock import Stock
from fedkt.data.partition import Indices
from fedkt.data.sets.common_rows import CommonRows
from fedkt.data.sets.dataset import Dataset, InputSpec
from fedkt.data.sets.preprocess import Preprocess, Statistics
from fedkt.tasks import CLASSIFICATION, Task

if TYPE_CHECKING:
    import torch

    Labelled = tuple[torch.Tensor, torch.Tensor]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Shard:
    """One client's data, as sorted row numbers.

    ``id``: the client's name, that of its domain where rows are dealt by domain, else its number; ``rows``
    and ``validation``: of ``Federation.pool``, disjoint; ``test``: own test rows, of ``Federation.own_test``
    (domain and natural-id partitions), else None; ``domain``: the domain or natural id, else None; ``share``
    float64 [groups]: share of each group (of rows alike in target, see :meth:`fedkt.tasks.Task.strata`; here
    each class) in ``rows``, which adds up to 1.
    """

    id: str
    rows: Indices
    validation: Indices
    test: Indices | None
    domain: str | None
    share: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Federation:
    """All clients' data and what they have in common.

    ``pool``: raw rows that shards point into (rows that were held out lie there too, but belong to no
    shard); ``test``: the common test set; ``own_test``: what ``Shard.test`` points into, which is ``test``
    itself unless ``data.test`` names another set; ``transfer``: unlabelled, in the order that is hashed;
    ``transfer_labels``: those that only a server may know, -1 where there is none.
    Tensors of what is common are made once and kept, those of a shard each time; pickling drops them.
    """

    classes: int
    shards: tuple[Shard, ...]
    pool: Dataset
    test: Dataset | None
    own_test: Dataset | None
    transfer: Dataset | None
    transfer_hash: str | None
    public: Dataset | None
    preprocess: Preprocess
    transfer_labels: Labels | None = None
    label_names: LabelNames | None = None
    """What the classes are called, in the order of their numbers; None where labels are numbers."""
    notes: tuple[str, ...] = ()
    """What should be known of the data before anything runs: what was left out, what is out of scale."""
    task: Task = CLASSIFICATION
    """What is to be predicted."""
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values of columns that hold one of a few, each of which is a column of ``pool``."""
    stock: Stock | None = None
    """What makes the transfer rows, where they are made; ``transfer`` are then those of the first round."""
    pools: bool = False
    """Whether clients see rows by the statistics of all clients' rows, as where all data lie in one place."""
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def input(self) -> InputSpec:
        """What a model gets."""
        if self.transfer is None:
            return self.preprocess.input
        make = lambda: CommonRows(lambda: self._seen_by_all()[0])  # noqa: E731
        return replace(self.preprocess.input, common=self._keep("input", make))

    def tensors(self, shard: Shard) -> "Labelled":
        """Return training rows: x [n, *input.shape] (int64 for tokens, else float32), targets y."""
        return self._labelled(self.pool, shard, shard.rows)

    def validation_tensors(self, shard: Shard) -> "Labelled":
        """Return the rows that a client set aside, as :meth:`tensors` does."""
        return self._labelled(self.pool, shard, shard.validation)

    def test_tensors(self, shard: Shard | None = None) -> "Labelled":
        """Return the common test set as this client sees it; None: as one who holds all rows does.

        Raises ValueError where there is none.
        """
        return self._common("test", self.test, shard)

    def own_test_tensors(self, shard: Shard) -> "Labelled":
        """Return a client's own test rows. Raises ValueError where it has none (label partitions)."""
        if shard.test is None or self.own_test is None:
            raise ValueError(f"client {shard.id} has no test rows of its own")
        return self._labelled(self.own_test, shard, shard.test)

    def test_labels(self, shard: Shard, rows: str) -> "torch.Tensor":
        """Return labels alone: of the common test set (``global``), ``personal`` or ``validation`` rows."""
        import torch

        if rows == "validation":
            return torch.from_numpy(self.pool.y[shard.validation])
        part = self.test if rows == "global" else self.own_test
        if part is None:
            raise ValueError(f"client {shard.id} has no {rows} test rows")
        return torch.from_numpy(part.y if rows == "global" else part.y[shard.test])

    @property
    def fresh(self) -> bool:
        """Whether the transfer rows are others in each round."""
        return self.stock is not None and self.stock.fresh

    def transfer_tensor(self, shard: Shard | None = None, round_: int | None = None) -> "torch.Tensor":
        """Return the transfer set [n, *input.shape] in order, as this client sees it.

        ``round_``: that whose rows they are, where each has its own; None: the first.
        """
        if round_ is not None and self.stock is not None and self.stock.fresh:
            return self._labelled(self.stock.rows(round_), shard, None)[0]
        return self._common("transfer", self.transfer, shard)[0]

    def transfer_hash_in(self, round_: int) -> str | None:
        """Return the hash of the transfer set that a round speaks about, None without one."""
        if self.stock is not None and self.stock.fresh:
            return self.stock.hash(round_)
        return self.transfer_hash

    def public_tensors(self, shard: Shard | None = None) -> "Labelled":
        """Return the labelled public rows as this client sees them."""
        return self._common("public", self.public, shard)

    def server_tensors(self, round_: int | None = None) -> "tuple[torch.Tensor | None, Labelled | None]":
        """Return transfer rows and labelled test rows as the server sees them, None what is not there.

        The statistics of a table are those of the transfer set: a server knows no private ones. ``round_``:
        as for :meth:`transfer_tensor`.
        """
        import torch

        test = self.test
        x, known = (None, None) if self.transfer is None else self._seen_by_all(round_)
        if test is None:
            return x, None
        if known is None:
            return x, self.test_tensors()
        return x, (self.preprocess.tensor(test.x, known), torch.from_numpy(test.y))

    def _seen_by_all(self, round_: int | None = None) -> "tuple[torch.Tensor, Statistics | None]":
        """Return the transfer rows by statistics of their own, where a table needs some, and these."""
        transfer = self.transfer
        if round_ is not None and self.stock is not None and self.stock.fresh:
            transfer = self.stock.rows(round_)
        if transfer is None:
            raise ValueError("this federation has no transfer set")
        known = self.preprocess.statistics(transfer.x)
        if known is None:
            return self.transfer_tensor(None, round_), None
        return self.preprocess.tensor(transfer.x, known), known

    def pooled(self) -> "Labelled":
        """Return all clients' training rows as :meth:`tensors` does, with the statistics of all of them."""
        return self.tensors(self.whole)

    def pooling(self, pools: bool) -> "Federation":
        """Return the federation with ``pools`` so."""
        return self if pools == self.pools else replace(self, pools=pools, _kept={})

    @property
    def whole(self) -> Shard:
        """One client that holds all clients' rows: for the bound that pools all data."""
        rows = np.sort(np.concatenate([shard.rows for shard in self.shards]))
        validation = np.sort(np.concatenate([shard.validation for shard in self.shards]))
        return Shard("pooled", rows, validation, None, None, share_of(self.strata[rows], len(self.groups)))

    def without(self, left_out: Mapping[str, Indices]) -> "Federation":
        """Return the federation in which clients do not hold some of their rows, numbers of ``pool``."""
        shards, groups = [], len(self.groups)
        for shard in self.shards:
            gone = left_out.get(shard.id, np.zeros(0, np.int64))
            rows, validation = (np.setdiff1d(part, gone) for part in (shard.rows, shard.validation))
            same = len(rows) == len(shard.rows) and len(validation) == len(shard.validation)
            share = shard.share if same or not len(rows) else share_of(self.strata[rows], groups)
            shards.append(replace(shard, rows=rows, validation=validation, share=share))
        return replace(self, shards=tuple(shards), _kept={})

    def counts(self) -> NDArray[np.int64]:
        """Return the number of training rows [clients, groups]."""
        return np.stack([np.bincount(self.strata[s.rows], minlength=len(self.groups)) for s in self.shards])

    @property
    def groups(self) -> list[str]:
        """What the groups are called by which rows are dealt: the classes."""
        return self.task.groups(self.classes)

    @property
    def strata(self) -> Indices:
        """The group of each row of ``pool``, int64 [n]."""
        return self._keep("strata", lambda: self.task.strata(self.pool.y, self.pool.y))

    @property
    def test_strata(self) -> Indices | None:
        """The group of each row of the common test set, None without one."""
        test = self.test
        return (
            None if test is None else self._keep("test strata", lambda: self.task.strata(test.y, self.pool.y))
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def statistics(self, shard: Shard | None) -> Statistics | None:
        """Return the statistics of a client's training rows; of all clients' rows for None or ``pools``."""
        if self.input.kind != "tabular" or not (self.preprocess.missing or self.preprocess.standardise):
            return None
        if self.pools:
            shard = None
        name = "pooled" if shard is None else shard.id
        rows = self.whole.rows if shard is None else shard.rows
        return self._keep(("statistics", name), lambda: self.preprocess.statistics(self.pool.x[rows]))

    def _labelled(self, part: Dataset, shard: Shard | None, rows: Indices | None) -> "Labelled":
        import torch

        x, y = (part.x, part.y) if rows is None else (part.x[rows], part.y[rows])
        return self.preprocess.tensor(x, self.statistics(shard)), torch.from_numpy(y)

    def _common(self, name: str, part: Dataset | None, shard: Shard | None) -> "Labelled":
        if part is None:
            raise ValueError(f"this federation has no {name} set")
        if self.preprocess.by_client and shard is not None:
            return self._labelled(part, shard, None)
        return self._keep(name, lambda: self._labelled(part, None, None))

    def _keep(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept


def share_of(labels: Labels, classes: int) -> NDArray[np.float64]:
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(counts / counts.sum())
