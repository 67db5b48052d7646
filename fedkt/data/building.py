"""Build the federation of a scenario: load, hold out, deal."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedkt.data.columns.sample import stratified
from fedkt.data.content import roles
from fedkt.data.content.transfer_set import transfer_hash
from fedkt.data.content.withheld import withheld
from fedkt.data.federation import Federation, Shard, share_of
from fedkt.data.images.versions import WAYS, versions
from fedkt.data.linking import candidates, linked, misfits
from fedkt.data.loaded import check_settings, choices_of, constants, load_named
from fedkt.data.made.stock import made_of, stock_of
from fedkt.data.notes import beyond_notes, left_out_notes, noted, unnamed_notes
from fedkt.data.partition import OWN_TEST, Indices, check, partition
from fedkt.data.sets.dataset import Dataset, Names, Split, concat
from fedkt.data.sets.preprocess import Preprocess, input_of
from fedkt.data.sets.spreading import settled, spread_out, unknown_notes
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.tasks import task_of

if TYPE_CHECKING:
    from fedkt.scenario import Data, Scenario

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,39}")
"""What a client may be called; folders are named after it."""

HELD_OUT = 0.2
"""Share of the rows that is held out for testing where the source has no test rows."""


def build(scenario: "Scenario", data_dir: Path | None = None) -> Federation:
    """Load, hold out and deal the data of a scenario.

    Test rows that the source lacks, then the transfer set, then the public set are held out before rows are
    dealt; each client then sets aside its share of validation rows, by class. No row is in two of them, also
    where several are drawn from one other data set. ``data.test`` stands for that set's test rows, else for
    all its rows that are neither transfer nor public. Every draw
    depends on the scenario's seed and its purpose alone. Raises InputError with all problems of a stage
    (loading, fitting together, dealing).
    """
    data, seed, task = scenario.data, scenario.seed, task_of(scenario.data)
    split, target, extras, out = load_named(data, data_dir, choices_of(scenario))
    common = None if target is None else target.train if target.test is None else target.test
    problems = check_settings(data, split, common, extras, transfer=data.transfer is not None)
    problems += misfits(data, split.train)
    alike = _alike(split, target, extras)
    problems += [
        f"data.{name}.from names the private data set itself; it must be 'train', which holds rows out of it."
        for name in extras
        if alike[f"data.{name}.from"] == "data.dataset"
    ]
    train, tests = split.train, split.test
    strata = task.strata(train.y, train.y)
    held = np.zeros(0, np.int64)
    own: Dataset | None = None
    personal = data.partition.kind in OWN_TEST
    if personal or common is None:
        held = _missing_tests(train, tests, strata, data, seed)
        parts = [part for part in (tests, train.take(held) if len(held) else None) if part is not None]
        own = concat(parts) if parts else None
    free = np.setdiff1d(np.arange(len(train)), held)

    transfer_rows, public_rows, left = _hold_out(
        data, extras, alike, free, seed, problems, pairs=train.graph is not None
    )
    free = left["data.dataset"]
    given = data.transfer is not None and made_of(data) is None
    try:
        values = settled(data.categories, train, extras.get("transfer", train).take(transfer_rows), given)
    except InputError as error:
        raise InputError(*problems, *error.problems) from None
    odd = unknown_notes("data.dataset", train, values)
    train, extras = spread_out(train, values), {key: spread_out(part, values) for key, part in extras.items()}
    own = None if own is None else spread_out(own, values)
    common = None if common is None else spread_out(common, values)
    if common is not None and target is not None and target.test is None:
        common = _left_to_test(data, common, alike, left, problems)
    labels = strata[free]
    problems += check(labels, _at(train.domain, free), _at(train.ids, free), data.partition)
    problems += task.lacking(train.y[free], split.classes, split.label_names)
    if problems:
        raise InputError(*problems)

    public = extras.get("public", train).take(public_rows) if data.public is not None else None
    test = common if common is not None else own
    transfer, hidden = None, None
    if given and data.transfer is not None:
        transfer, hidden = _transfer(
            data, train, extras.get("transfer", train).take(transfer_rows), (test, own), seed
        )
    dealt = _dealt(data, train, labels, free, seed, all_held=task.all_held)
    shards = _shards(
        dealt, train, strata, own if personal else None, data, len(task.groups(split.classes)), seed
    )
    federation = assembled(
        scenario,
        data_dir,
        Parts(train, test, own if personal else None, transfer, public),
        shards,
        classes=split.classes,
        transfer_labels=hidden,
        label_names=split.label_names,
        categories=values,
    )
    shared = roles.compare(
        train,
        np.concatenate([rows for shard in shards for rows in (shard.rows, shard.validation)]),
        _tests(data, common, own, alike),
        _common(data, federation.transfer, public, alike),
        source="data.dataset",
        image=data.image,
        meant=data.overlap == "report",
        joined=not isinstance(data.dataset, str),
    )
    if shared.problems:
        raise InputError(*shared.problems)
    federation = in_use(federation, scenario, data_dir)
    named = {"data.dataset": train, "data.test": common} | {f"data.{k}.from": v for k, v in extras.items()}
    notes = (*shared.notes, *left_out_notes(out), *odd, *unnamed_notes(named), *beyond_notes(federation))
    return noted(federation, notes)


def _transfer(
    data: "Data", train: Dataset, held_out: Dataset, tests: Iterable[Dataset | None], seed: int
) -> tuple[Dataset, Indices]:
    """Return the transfer rows of what was held out for them, without labels, and their labels: -1 where
    nobody knows them."""
    assert data.transfer is not None
    own = data.transfer.from_ == "train"
    if data.transfer.versions > 1:
        held_out = in_versions(held_out)
    if train.graph is not None and own:
        held_out = candidates(held_out, [train, *(part for part in tests if part is not None)], seed)
    transfer = replace(held_out, y=np.full(len(held_out), -1, np.int64))
    # Another data set's labels may mean other classes.
    return transfer, held_out.y if own and train.graph is None else transfer.y


@dataclass(frozen=True)
class Parts:
    """Rows by their role: training rows, the common test set, clients' own test rows, transfer rows without
    labels (None also where they are made), public rows; None where there are none."""

    train: Dataset
    test: Dataset | None
    own_test: Dataset | None
    transfer: Dataset | None
    public: Dataset | None


def assembled(
    scenario: "Scenario", data_dir: Path | None, parts: Parts, shards: tuple[Shard, ...], **known: Any
) -> Federation:
    """Return the federation of rows that are dealt, with transfer rows that are made.

    ``known``: fields of :class:`~fedkt.data.federation.Federation` as they are. Raises InputError where what
    makes rows does not fit.
    """
    data, train, transfer, stock = scenario.data, parts.train, parts.transfer, None
    others = [part for part in (parts.test, parts.own_test, parts.public) if part is not None]
    if made_of(data) is not None:
        spec = input_of(train, data.image, others, data_dir)
        stock = stock_of(data, train, spec, scenario.seed, data_dir, choices_of(scenario))
        transfer = stock.rows(stock.first)
    if transfer is not None:
        others.append(transfer)
    input_ = input_of(train, data.image, others, data_dir)
    return Federation(
        shards=shards,
        pool=train,
        test=parts.test,
        own_test=parts.own_test,
        transfer=transfer,
        transfer_hash=None if transfer is None else transfer_hash(transfer.x),
        stock=stock,
        public=parts.public,
        preprocess=Preprocess(input_, data.missing, data.standardise, constants(data, transfer, input_)),
        task=task_of(data),
        **known,
    )


def in_use(federation: Federation, scenario: "Scenario", data_dir: Path | None) -> Federation:
    """Return the federation without rows that clients do not use any more, and with the corruptions of its
    links. Raises InputError."""
    part = scenario.participation
    if part.withdrawn_rows or part.blocked:
        owned = {
            shard.id: np.sort(np.concatenate([shard.rows, shard.validation])) for shard in federation.shards
        }
        classes, names = federation.classes, federation.label_names
        federation = federation.without(withheld(part, owned, federation.strata, classes, names, data_dir))
    return linked(federation, scenario.data.corruptions, scenario.seed)


def _left_to_test(
    data: "Data", common: Dataset, alike: dict[str, str], left: dict[str, Indices], problems: list[str]
) -> Dataset:
    """Return the rows of ``data.test``, a set without test rows of its own, that are held out for nothing.

    Where it is the private set under another name, ``alike`` says so no more: it then means rows that are
    trained on, which is refused by their content. Appends to ``problems`` where none are left.
    """
    if alike["data.test"] == "data.dataset":
        alike["data.test"] = "data.test"
    kept = common.take(left.get(alike["data.test"], np.arange(len(common))))
    if not len(kept):
        problems.append(
            f"data.test is '{data.test}', whose rows are all transfer or public rows; "
            "their sizes must leave some."
        )
    return kept


def _alike(split: Split, target: Split | None, extras: dict[str, Dataset]) -> dict[str, str]:
    """Return for each setting that names a data set the first that names the same one, however spelt."""
    named = {"data.dataset": split.train} | {f"data.{name}.from": rows for name, rows in extras.items()}
    return roles.sources_of(named if target is None else named | {"data.test": target.train})


def _tests(
    data: "Data", common: Dataset | None, own: Dataset | None, alike: dict[str, str]
) -> list[roles.Role]:
    found = []
    if common is not None:
        found.append(roles.Role("data.test", "test rows", common, alike["data.test"]))
    if own is not None:
        found.append(roles.Role("data.dataset", "test rows", own, "data.dataset"))
    return found


def auditioned(data: "Data", transfer: Dataset | None) -> list[roles.Role]:
    """Return the role of rows of sets that have to audition for the transfer set, where there are any."""
    if transfer is None or data.transfer is None or not data.transfer.audition:
        return []
    where = "data.transfer.audition"
    return [roles.Role(where, "transfer rows", transfer, where)]


def _common(
    data: "Data", transfer: Dataset | None, public: Dataset | None, alike: dict[str, str]
) -> list[roles.Role]:
    found = auditioned(data, transfer)
    for name, rows, setting in (("transfer", transfer, data.transfer), ("public", public, data.public)):
        if rows is not None and setting is not None and setting is not made_of(data):
            source = "data.dataset" if setting.from_ == "train" else alike[f"data.{name}.from"]
            found.append(roles.Role(f"data.{name}.from", f"{name} rows", rows, source))
    return found


def _groups(part: Dataset, train: Dataset, data: "Data") -> Names | None:
    """Return whose test rows these are: those of a natural id, of a domain, or (None) everybody's."""
    return part.ids if data.partition.kind == "natural-id" and train.ids is not None else part.domain


def _missing_tests(train: Dataset, test: Dataset | None, strata: Indices, data: "Data", seed: int) -> Indices:
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
        found.append(rows[stratified(strata[rows], count, numpy_stream(seed, "test", str(name)))])
    return np.sort(np.concatenate(found))


def in_versions(rows: Dataset) -> Dataset:
    """Return images in all their versions. Raises InputError for rows of another kind."""
    if rows.kind != "image":
        raise InputError(
            f"data.transfer.policy turns and moves images, but these rows are {rows.kind}; it must be "
            "another one, such as disagreement."
        )
    times = len(WAYS)
    named = {name: None if held is None else np.tile(held, times) for name, held in _names(rows).items()}
    return replace(rows, x=versions(rows.x), y=np.tile(rows.y, times), **named)  # type: ignore[arg-type]


def _names(rows: Dataset) -> dict[str, Names | None]:
    return {"domain": rows.domain, "ids": rows.ids}


def _hold_out(
    data: "Data",
    extras: dict[str, Dataset],
    alike: dict[str, str],
    free: Indices,
    seed: int,
    problems: list[str],
    *,
    pairs: bool,
) -> tuple[Indices, Indices, dict[str, Indices]]:
    """Draw transfer and public rows; return both, and by source the rows that are left of it.

    Sets that are drawn from one source are disjoint. ``pairs``: rows are links, of which half the transfer
    set is made. Appends to ``problems`` what is too large.
    """
    sources: dict[str, Indices] = {"data.dataset": free}
    drawn: dict[str, Indices] = {"transfer": free[:0], "public": free[:0]}
    for name, setting in (("transfer", data.transfer), ("public", data.public)):
        if setting is None or setting is made_of(data):
            continue
        source = "data.dataset" if setting.from_ == "train" else alike[f"data.{name}.from"]
        rows = sources.setdefault(source, np.arange(len(extras.get(name, ()))))
        each = getattr(setting, "versions", 1)
        if name == "transfer" and setting.from_ == "train" and pairs:
            each = 2  # a link, and one that is not true
        wanted = setting.size // each
        if wanted > len(rows):
            problems.append(
                f"data.{name}.size is {setting.size} but '{setting.from_}' has "
                f"{len(rows)} rows to draw from; it "
                f"must be at most {each * len(rows)}."
            )
            continue
        drawn[name] = numpy_stream(seed, name).permutation(rows)[:wanted]
        sources[source] = np.setdiff1d(rows, drawn[name])
    return drawn["transfer"], drawn["public"], sources


def _dealt(
    data: "Data", train: Dataset, labels: Indices, free: Indices, seed: int, *, all_held: bool
) -> list[Indices]:
    """Return each client's rows, of the ``free`` ones with their ``labels``."""
    domain, ids = _at(train.domain, free), _at(train.ids, free)
    parts = partition(labels, domain, ids, data.partition, seed, all_held=all_held)
    dealt = [free[part] for part in parts]
    if data.partition.kind == "domain" and train.domain is not None:
        # Clients come in the order in which the data set lists its domains: models are dealt in that order.
        dealt.sort(key=_first_row(train.domain))
    return dealt


def _shards(
    dealt: list[Indices],
    train: Dataset,
    strata: Indices,
    own: Dataset | None,
    data: "Data",
    groups: int,
    seed: int,
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
            strata[rows], int(data.validation * len(rows)), numpy_stream(seed, "validation", client)
        )
        kept = np.delete(rows, aside)
        shards.append(
            Shard(
                id=client,
                rows=kept,
                validation=rows[aside],
                test=None if name is None or tested is None else np.flatnonzero(tested == name),
                domain=name,
                share=share_of(strata[kept], groups),
            )
        )
    return tuple(shards)


def _first_row(names: Names) -> Callable[[Indices], int]:
    """Return a function from rows of one name to the first row of that name."""
    found, first = np.unique(names, return_index=True)
    return lambda rows: int(first[np.searchsorted(found, names[rows[0]])])


def _at(names: Names | None, rows: Indices) -> Names | None:
    return None if names is None else names[rows]
