"""Who holds which rows: everything about data that a run needs, built from a scenario."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedkt.data.dataset import Dataset, InputSpec, Labels, Names, Split, concat, load_dataset
from fedkt.data.partition import OWN_TEST, Indices, check, partition
from fedkt.data.preprocess import Preprocess, Statistics, input_of
from fedkt.data.sample import stratified
from fedkt.data.transfer import transfer_hash
from fedkt.errors import InputError
from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    import torch

    from fedkt.scenario import Data, Scenario

    Labelled = tuple[torch.Tensor, torch.Tensor]

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,39}")
"""What a client may be called; folders are named after it."""

HELD_OUT = 0.2
"""Share of the rows that is held out for testing where the source has no test rows."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One client's data, as sorted row numbers.

    ``id``: the client's name, that of its domain where rows are dealt by domain, else its number; ``rows``
    and ``validation``: of ``Federation.pool``, disjoint; ``test``: own test rows, of ``Federation.own_test``
    (domain and natural-id partitions), else None; ``domain``: the domain or natural id, else None; ``share``
    float64 [classes]: share of each class in ``rows``, which adds up to 1.
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
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def input(self) -> InputSpec:
        """What a model gets."""
        return self.preprocess.input

    def tensors(self, shard: Shard) -> "Labelled":
        """Return training rows: x [n, *input.shape] (int64 for tokens, else float32), y int64 [n]."""
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

    def transfer_tensor(self, shard: Shard | None = None) -> "torch.Tensor":
        """Return the transfer set [n, *input.shape] in order, as this client sees it."""
        return self._common("transfer", self.transfer, shard)[0]

    def public_tensors(self, shard: Shard | None = None) -> "Labelled":
        """Return the labelled public rows as this client sees them."""
        return self._common("public", self.public, shard)

    def server_tensors(self) -> "tuple[torch.Tensor | None, Labelled | None]":
        """Return transfer rows and labelled test rows as the server sees them, None what is not there.

        The statistics of a table are those of the transfer set: a server knows no private ones.
        """
        import torch

        transfer, test = self.transfer, self.test
        known = None if transfer is None else self.preprocess.statistics(transfer.x)
        if known is None:
            x = None if transfer is None else self.transfer_tensor()
            return x, None if test is None else self.test_tensors()
        assert transfer is not None
        x = self.preprocess.tensor(transfer.x, known)
        if test is None:
            return x, None
        return x, (self.preprocess.tensor(test.x, known), torch.from_numpy(test.y))

    def pooled(self) -> "Labelled":
        """Return all clients' training rows as :meth:`tensors` does, with the statistics of all of them."""
        return self.tensors(self.whole)

    @property
    def whole(self) -> Shard:
        """One client that holds all clients' rows: for the bound that pools all data."""
        rows = np.sort(np.concatenate([shard.rows for shard in self.shards]))
        validation = np.sort(np.concatenate([shard.validation for shard in self.shards]))
        return Shard("pooled", rows, validation, None, None, share_of(self.pool.y[rows], self.classes))

    def counts(self) -> NDArray[np.int64]:
        """Return the number of training rows [clients, classes]."""
        return np.stack([np.bincount(self.pool.y[s.rows], minlength=self.classes) for s in self.shards])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def _labelled(self, part: Dataset, shard: Shard | None, rows: Indices | None) -> "Labelled":
        import torch

        x, y = (part.x, part.y) if rows is None else (part.x[rows], part.y[rows])
        return self.preprocess.tensor(x, self._statistics(shard)), torch.from_numpy(y)

    def _common(self, name: str, part: Dataset | None, shard: Shard | None) -> "Labelled":
        if part is None:
            raise ValueError(f"this federation has no {name} set")
        if self.preprocess.by_client and shard is not None:
            return self._labelled(part, shard, None)
        return self._keep(name, lambda: self._labelled(part, None, None))

    def _statistics(self, shard: Shard | None) -> Statistics | None:
        """Return the statistics of a client's training rows; None stands for all clients' rows."""
        if self.input.kind != "tabular" or not (self.preprocess.missing or self.preprocess.standardise):
            return None
        name = "pooled" if shard is None else shard.id
        rows = self.whole.rows if shard is None else shard.rows
        return self._keep(("statistics", name), lambda: self.preprocess.statistics(self.pool.x[rows]))

    def _keep(self, key: Any, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        kept: T = self._kept[key]
        return kept


def build(scenario: "Scenario", data_dir: Path | None = None) -> Federation:
    """Load, hold out and deal the data of a scenario.

    Test rows that the source lacks, then the transfer set, then the public set are held out before rows are
    dealt; each client then sets aside its share of validation rows, by class. No row is in two of them, also
    where several are drawn from one other data set. ``data.test`` stands for that set's test rows, else for
    all its rows that are neither transfer nor public. Every draw
    depends on the scenario's seed and its purpose alone. Raises InputError with all problems of a stage
    (loading, fitting together, dealing).
    """
    data, seed = scenario.data, scenario.seed
    split, target, extras = _load(data, data_dir)
    common = None if target is None else target.train if target.test is None else target.test
    problems = check_settings(data, split, common, extras)
    train, tests = split.train, split.test
    held = np.zeros(0, np.int64)
    own: Dataset | None = None
    personal = data.partition.kind in OWN_TEST
    if personal or common is None:
        held = _missing_tests(train, tests, data, seed)
        parts = [part for part in (tests, train.take(held) if len(held) else None) if part is not None]
        own = concat(parts) if parts else None
    free = np.setdiff1d(np.arange(len(train)), held)

    transfer_rows, public_rows, left = _hold_out(data, extras, free, seed, problems)
    free = left["train"]
    if common is not None and target is not None and target.test is None and data.test in left:
        common = common.take(left[data.test])
        if not len(common):
            problems.append(
                f"data.test is '{data.test}', whose rows are all transfer or public rows; "
                "their sizes must leave some."
            )
    labels = train.y[free]
    problems += check(labels, _at(train.domain, free), _at(train.ids, free), data.partition)
    problems += _check_classes(labels, split.classes)
    if problems:
        raise InputError(*problems)

    transfer = extras.get("transfer", train).take(transfer_rows) if data.transfer is not None else None
    public = extras.get("public", train).take(public_rows) if data.public is not None else None
    hidden = None
    if transfer is not None and data.transfer is not None:
        # Another data set's labels may mean other classes.
        hidden = transfer.y if data.transfer.from_ == "train" else np.full(len(transfer), -1, np.int64)
        transfer = replace(transfer, y=np.full(len(transfer), -1, np.int64))
    dealt = [
        free[part]
        for part in partition(labels, _at(train.domain, free), _at(train.ids, free), data.partition, seed)
    ]
    if data.partition.kind == "domain" and train.domain is not None:
        # Clients come in the order in which the data set lists its domains: models are dealt in that order.
        dealt = sorted(dealt, key=_first_row(train.domain))
    test = common if common is not None else own
    others = [part for part in (test, own, transfer, public) if part is not None]
    shards = _shards(dealt, train, own if personal else None, data, split.classes, seed)
    return Federation(
        classes=split.classes,
        shards=shards,
        pool=train,
        test=test,
        own_test=own if personal else None,
        transfer=transfer,
        transfer_hash=None if transfer is None else transfer_hash(transfer.x),
        public=public,
        preprocess=Preprocess(
            input_of(train, data.image, others), data.missing, data.standardise, constants(data)
        ),
        transfer_labels=hidden,
    )


def constants(data: "Data") -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if data.normalise is None:
        return None
    return tuple(data.normalise.mean), tuple(data.normalise.std)


def _load(data: "Data", data_dir: Path | None) -> tuple[Split, Split | None, dict[str, Dataset]]:
    """Load the private set, that of ``data.test``, and what transfer and public rows are drawn from."""
    problems: list[str] = []

    def attempt(where: str, spec: Any, column: str | None = None) -> Split | None:
        try:
            return with_target(load_dataset(spec, data_dir, data.image, column=column), data.target)
        except InputError as error:
            problems.extend(f"{where}: {problem}" for problem in error.problems)
            return None

    split = attempt("data.dataset", data.dataset, data.partition.column)
    test = attempt("data.test", data.test) if data.test is not None else None
    extras = {}
    loaded: dict[str, Split | None] = {}
    for name, setting in (("transfer", data.transfer), ("public", data.public)):
        if setting is None or setting.from_ == "train":
            continue
        if setting.from_ == data.dataset:
            problems.append(
                f"data.{name}.from names the private data set itself; it must be "
                "'train', which holds rows out of it."
            )
        elif setting.from_ not in loaded:
            loaded[setting.from_] = attempt(f"data.{name}.from", setting.from_)
        source = loaded.get(setting.from_)
        if source is not None:
            extras[name] = source.train
    if problems or split is None:
        raise InputError(*problems)
    return split, test, extras


def with_target(split: Split, target: str | None) -> Split:
    """Make two classes of the labels: whether ``y>N`` holds."""
    if target is None:
        return split
    limit = float(target.partition(">")[2])
    train, test = (
        None if part is None else replace(part, y=(part.y > limit).astype(np.int64))
        for part in (split.train, split.test)
    )
    assert train is not None
    return Split(train, test, 2)


def _check_normalise(data: "Data", train: Dataset) -> list[str]:
    if data.normalise is None:
        return []
    if train.kind != "image":
        return [f"data.normalise is set but the data is {train.kind}; it must be left out."]
    channels = data.image.channels if data.image is not None else train.shape[0]
    return [
        f"data.normalise.{name} has {len(numbers)} numbers but images have {channels} channels; "
        f"it must have 1 or {channels}."
        for name, numbers in (("mean", data.normalise.mean), ("std", data.normalise.std))
        if len(numbers) not in (1, channels)
    ]


def check_settings(
    data: "Data", split: Split, common: Dataset | None, extras: dict[str, Dataset]
) -> list[str]:
    """Return what does not fit together, of settings and loaded sets."""
    train = split.train
    problems = []
    if data.image is not None and train.kind != "image":
        problems.append(f"data.image is set but the data is {train.kind}; it must be left out.")
    problems += _check_normalise(data, train)
    if train.kind != "tabular":
        problems += [
            f"data.{name} is set but the data is {train.kind}; it must be left out."
            for name in ("missing", "standardise")
            if getattr(data, name)
        ]
    sources = {
        "data.test": common,
        "data.transfer.from": extras.get("transfer"),
        "data.public.from": extras.get("public"),
    }
    for where, part in sources.items():
        if part is None:
            continue
        if part.kind != train.kind:
            problems.append(
                f"{where} is {part.kind} but data.dataset is {train.kind}; they must be of one kind."
            )
        elif part.shape != train.shape and data.image is None:
            remedy = "data.image must bring both to one" if train.kind == "image" else "they must match"
            problems.append(
                f"a row of {where} has shape {part.shape} but one of data.dataset {train.shape}; {remedy}."
            )
        if where != "data.transfer.from" and part.y.max(initial=0) >= split.classes:
            problems.append(
                f"{where} holds label {part.y.max()} but data.dataset has {split.classes} classes; "
                f"its labels must lie in 0 to {split.classes - 1}."
            )
    holes = [
        part for part in (train, split.test, *sources.values()) if part is not None and part.kind == "tabular"
    ]
    if data.missing is None and any(np.isnan(part.x).any() for part in holes):
        problems.append("values are missing (NaN) in the data; data.missing must be mean, median or zero.")
    return problems


def _check_classes(labels: Labels, classes: int) -> list[str]:
    """Return which classes have no training row at all."""
    if classes < 2:
        return [f"the data has {classes} class; at least 2 are needed."]
    lost = np.setdiff1d(np.arange(classes), labels)
    if not len(lost):
        return []
    which = f"class {lost[0]}" if len(lost) == 1 else f"classes {', '.join(map(str, lost[:10]))}"
    return [
        f"no row of {which} is left to deal, so no client can hold it; labels must be "
        f"0 to {classes - 1}, with "
        "training rows of each besides those held out."
    ]


def _groups(part: Dataset, train: Dataset, data: "Data") -> Names | None:
    """Return whose test rows these are: those of a natural id, of a domain, or (None) everybody's."""
    return part.ids if data.partition.kind == "natural-id" and train.ids is not None else part.domain


def _missing_tests(train: Dataset, test: Dataset | None, data: "Data", seed: int) -> Indices:
    """Return the training rows to hold out for testing: 20 % by class of each group without test rows.

    A group of a single row keeps it; any other gives at least one.
    """
    groups = _groups(train, train, data)
    if groups is None:
        groups = np.full(len(train), "")
        known = np.array([""]) if test is not None else groups[:0]
    else:
        tested = None if test is None else _groups(test, train, data)
        known = groups[:0] if tested is None else np.unique(tested)
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    found = [np.zeros(0, np.int64)]
    for name, rows in zip(names, np.split(order, starts[1:]), strict=True):
        if name in known or len(rows) < 2:
            continue
        count = max(1, round(HELD_OUT * len(rows)))
        found.append(rows[stratified(train.y[rows], count, numpy_stream(seed, "test", str(name)))])
    return np.sort(np.concatenate(found))


def _hold_out(
    data: "Data", extras: dict[str, Dataset], free: Indices, seed: int, problems: list[str]
) -> tuple[Indices, Indices, dict[str, Indices]]:
    """Draw transfer and public rows; return both, and by source the rows that are left of it.

    Sets that are drawn from one source are disjoint. Appends to ``problems`` what is too large.
    """
    sources: dict[str, Indices] = {"train": free}
    drawn: dict[str, Indices] = {"transfer": free[:0], "public": free[:0]}
    for name, setting in (("transfer", data.transfer), ("public", data.public)):
        if setting is None:
            continue
        rows = sources.setdefault(setting.from_, np.arange(len(extras.get(name, ()))))
        if setting.size > len(rows):
            problems.append(
                f"data.{name}.size is {setting.size} but '{setting.from_}' has "
                f"{len(rows)} rows to draw from; it "
                f"must be at most {len(rows)}."
            )
            continue
        drawn[name] = numpy_stream(seed, name).permutation(rows)[: setting.size]
        sources[setting.from_] = np.setdiff1d(rows, drawn[name])
    return drawn["transfer"], drawn["public"], sources


def _shards(
    dealt: list[Indices], train: Dataset, own: Dataset | None, data: "Data", classes: int, seed: int
) -> tuple[Shard, ...]:
    owners = _groups(train, train, data) if own is not None else None
    tested = _groups(own, train, data) if own is not None else None
    shards = []
    for number, rows in enumerate(dealt):
        name = None if owners is None else str(owners[rows[0]])
        # A domain's client is called by its name, as a site is: its random streams are those of the site.
        named = data.partition.kind == "domain" and name is not None and NAME.fullmatch(name)
        client = name if named and name is not None else str(number)
        aside = stratified(
            train.y[rows], int(data.validation * len(rows)), numpy_stream(seed, "validation", client)
        )
        kept = np.delete(rows, aside)
        shards.append(
            Shard(
                id=client,
                rows=kept,
                validation=rows[aside],
                test=None if name is None or tested is None else np.flatnonzero(tested == name),
                domain=name,
                share=share_of(train.y[kept], classes),
            )
        )
    return tuple(shards)


def share_of(labels: Labels, classes: int) -> NDArray[np.float64]:
    counts = np.bincount(labels, minlength=classes)
    return np.asarray(counts / counts.sum())


def _first_row(names: Names) -> Callable[[Indices], int]:
    """Return a function from rows of one name to the first row of that name."""
    found, first = np.unique(names, return_index=True)
    return lambda rows: int(first[np.searchsorted(found, names[rows[0]])])


def _at(names: Names | None, rows: Indices) -> Names | None:
    return None if names is None else names[rows]
