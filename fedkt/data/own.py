"""The data of one party on its own machine: a federation of one, by the rules of a scenario.

What the scenario fixes for everybody (``target``, ``missing``, ``standardise``, ``image``, ``normalise``,
``validation``) is applied to the party's own files; where rows come from is the party's matter, and how a
simulation would deal them is ignored. The same rows under the same name give the same tensors, held-out
rows and statistics as in a simulation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.data.building import HELD_OUT, Parts, assembled, auditioned, in_use
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed, renamed
from fedkt.data.columns.sample import stratified
from fedkt.data.content import roles
from fedkt.data.federation import Federation, Shard, share_of
from fedkt.data.linking import misfits
from fedkt.data.loaded import check_settings, choices_of
from fedkt.data.made.stock import made_of
from fedkt.data.notes import beyond_notes, left_out_notes, noted, unnamed_notes
from fedkt.data.sets.dataset import Dataset, Split
from fedkt.data.sets.joining import sized, together
from fedkt.data.sets.reading import load_dataset
from fedkt.data.sets.spreading import settled, spread_out, unknown_notes, widened
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.tasks import task_of

if TYPE_CHECKING:
    from fedkt.scenario import Data, Scenario


@dataclass(frozen=True)
class Sources:
    """Where a party's data are: data sets as a scenario would name them, files below ``folder``.

    ``rows``: private rows, with test rows of its own or without; ``transfer``, ``public``, ``test``: the
    sets that all parties have in common, None where there is none. ``classes`` and ``vocabulary`` are those
    of the whole federation, None where this party's own rows show them.
    """

    folder: Path
    rows: Any
    transfer: Any = None
    public: Any = None
    test: Any = None
    classes: int | None = None
    vocabulary: int | None = None
    overlap: Literal["refuse", "report"] = "refuse"
    """What is done where rows of one of these sets are rows of another."""


def build_own(name: str, sources: Sources, scenario: "Scenario") -> Federation:
    """Load a party's data. Raises InputError with all problems.

    Where its rows come without test rows, and there is no common test set, a seeded 20 % by class is held
    out; of a single row nothing is.
    """
    data, seed, task = scenario.data, scenario.seed, task_of(scenario.data)
    parts = _load(name, sources, scenario)
    out = {f"data.{key}": list(held.left_out) for key, held in parts.items()}
    split = parts["rows"]
    if parts["rows"].train.graph is not None:  # whose relations the files beside it list, for all sites
        sources = replace(sources, classes=None)
    split = replace(split, classes=max(split.classes, sources.classes or 0))
    train, own = split.train, split.test
    common = parts["test"].train if "test" in parts else None
    extras: dict[str, Dataset] = {key: parts[key].train for key in ("transfer", "public") if key in parts}
    asked = "transfer" in extras or made_of(data) is not None
    problems = check_settings(data, split, common, extras, transfer=asked) + misfits(data, train)
    values = _values(data, parts, problems)
    odd = unknown_notes("data.rows", train, values)
    names = split.label_names
    if sources.classes is not None and split.classes > sources.classes:
        what, right = f"label {split.classes - 1}", f"labels must lie in 0 to {sources.classes - 1}"
        if names is not None:
            what, right = f"the labels {listed(names)}", "they must be names of the federation's classes"
        problems.append(f"data.rows holds {what}, but data.classes is {sources.classes}; {right}.")
    if names is not None and sources.classes is not None and len(names) < sources.classes:
        problems.append(
            f"data.rows holds the labels {listed(names)}, but data.classes is {sources.classes}, so their "
            "numbers in the federation are not known; data.labels of the scenario must list the "
            "names of all classes."
        )
    if split.classes < 2 and task.exclusive:
        problems.append("data.rows holds one class only; data.classes must say how many there are in all.")
    if problems:
        raise InputError(*problems)
    train = spread_out(train, values)
    own, common = (None if part is None else spread_out(part, values) for part in (own, common))
    extras = {key: spread_out(part, values) for key, part in extras.items()}
    parts = {key: replace(held, train=spread_out(held.train, values)) for key, held in parts.items()}
    rows, strata = np.arange(len(train)), task.strata(train.y, train.y)
    if own is None and common is None and len(rows) > 1:  # a single row is trained on, as in a simulation
        count = max(1, round(HELD_OUT * len(rows)))
        held = np.sort(stratified(strata, count, numpy_stream(seed, "test", name)))
        own, rows = train.take(held), np.setdiff1d(rows, held)
    aside = stratified(strata[rows], int(data.validation * len(rows)), numpy_stream(seed, "validation", name))
    kept = np.delete(rows, aside)
    shard = Shard(
        id=name,
        rows=kept,
        validation=rows[aside],
        test=None if own is None else np.arange(len(own)),
        domain=name,
        share=share_of(strata[kept], len(task.groups(split.classes))),
    )
    transfer = extras.get("transfer")
    if transfer is not None:
        transfer = replace(transfer, y=np.full(len(transfer), -1, np.int64))
    federation = assembled(
        scenario,
        sources.folder,
        Parts(train, common, own, transfer, extras.get("public")),
        (shard,),
        classes=split.classes,
        label_names=names,
        categories=values,
    )
    shared = _shared(sources, scenario, parts, federation, rows)
    if shared.problems:
        raise InputError(*shared.problems)
    federation = in_use(federation, scenario, sources.folder)
    named = {f"data.{key}": held.train for key, held in parts.items()}
    notes = (*shared.notes, *left_out_notes(out), *odd, *unnamed_notes(named), *beyond_notes(federation))
    return noted(federation, notes)


def _values(data: "Data", parts: dict[str, Split], problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each column of categories; adds to ``problems`` where a site cannot know them."""
    train = parts["rows"].train
    problems += [
        f"data.categories.{name} is to be learned from all parties' rows, which no site has; the scenario "
        "must list the values, or say transfer."
        for name, how in data.categories.items()
        if how == "train"
    ]
    asked = {name: how for name, how in data.categories.items() if how != "train"}
    try:
        return settled(asked, train, parts.get("transfer", parts["rows"]).train, "transfer" in parts)
    except InputError as error:
        raise InputError(*problems, *error.problems) from None


def _shared(
    sources: Sources,
    scenario: "Scenario",
    parts: dict[str, Split],
    federation: Federation,
    rows: NDArray[np.int64],
) -> roles.Shared:
    """Compare the party's training rows and test rows with what all parties have in common."""
    own = federation.own_test
    alike = roles.sources_of({f"data.{key}": split.train for key, split in parts.items()})
    tests: list[roles.Role] = []
    common: list[roles.Role] = []
    if own is not None:
        tests.append(roles.Role("data.rows", "test rows", own, "data.rows"))
    for key, what in (("test", "test rows"), ("transfer", "transfer rows"), ("public", "public rows")):
        if key in parts:
            source = alike[f"data.{key}"]
            # All rows of another setting are used, so a second name for the private ones is no excuse.
            source = f"data.{key}" if source == "data.rows" else source
            role = roles.Role(f"data.{key}", what, parts[key].train, source)
            (tests if key == "test" else common).append(role)
    common += auditioned(scenario.data, federation.transfer)
    return roles.compare(
        federation.pool,
        rows,
        tests,
        common,
        source="data.rows",
        image=scenario.data.image,
        meant=sources.overlap == "report",
    )


def _load(name: str, sources: Sources, scenario: "Scenario") -> dict[str, Split]:
    """Load all sets; what all parties have in common decides the order of columns."""
    data, problems, found = scenario.data, [], {}
    choices = choices_of(scenario)
    for key in ("transfer", "public", "test", "rows"):
        spec = getattr(sources, key)
        if spec is None or (key == "transfer" and made_of(data) is not None):
            continue
        # A transfer set has no labels that anybody reads.
        said = choices.unlabelled if key == "transfer" else choices.at(name) if key == "rows" else choices
        if key == "rows" and name in data.label_maps:
            said = replace(said, labels=None)  # its own names become the common ones below
        try:
            read = load_dataset(spec, sources.folder, data.image, choices=said)
            if key == "rows":
                test = None if read.test is None else widened(read.test, choices)
                read = replace(read, train=widened(read.train, choices), test=test)
                if name in data.label_maps:
                    read = _commonly_named(name, read, data.label_maps[name], data.classes)
            found[key] = _fit(read, sources)
        except InputError as error:
            problems += [f"data.{key}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)
    return _by_name(found, choices)


def _by_name(found: dict[str, Split], choices: Choices) -> dict[str, Split]:
    parts = {}
    for key, held in found.items():
        parts[f"data.{key}"] = held.train
        if held.test is not None:
            parts[f"test rows of data.{key}"] = held.test
    made = together(parts, choices)
    return {
        key: sized(
            made[f"data.{key}"],
            made.get(f"test rows of data.{key}"),
            0 if held.label_names else held.classes,
            held.left_out,
        )
        for key, held in found.items()
    }


def _commonly_named(name: str, split: Split, known: Mapping[str, str], classes: list[str] | None) -> Split:
    """Return a site's rows with its own names of classes as the common ones."""
    made = []
    for part in (split.train, split.test):
        if part is not None:
            there = np.full(len(part), name)
            said = known if part is split.train else {k: v for k, v in known.items() if k in part_names(part)}
            y, names = renamed("data.rows", part.y, part.label_names, there, {name: said}, classes)
            made.append(replace(part, y=y, label_names=names))
    return replace(split, train=made[0], test=made[1] if len(made) > 1 else None)


def part_names(part: Dataset) -> set[str]:
    """Return the names of the labels that occur in a set."""
    return {str(n) if part.label_names is None else part.label_names[n] for n in np.unique(part.y)}


def _fit(split: Split, sources: Sources) -> Split:
    """Give token ids the vocabulary of the whole federation."""
    if sources.vocabulary is None or split.train.kind != "tokens":
        return split
    train, test = (
        None if part is None else replace(part, vocabulary=max(part.vocabulary, sources.vocabulary))
        for part in (split.train, split.test)
    )
    assert train is not None
    return replace(split, train=train, test=test)
