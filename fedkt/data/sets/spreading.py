"""Columns of categories: one number per value in a federation, then a column per value.

Which values have a column is fixed by the scenario, or by the rows of the transfer set, or, outside private
modes, by all training rows. A value that has none, and a blank, is 0 in all columns of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fedkt.data.columns.categories import NOTHING, names_of_columns
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import in_order, listed
from fedkt.data.sets.dataset import Dataset
from fedkt.errors import InputError


def joined(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Give the categories of sets with the same columns one number per value."""
    held = [part for part in parts.values() if part.levels]
    if not held:
        return dict(parts)
    union = {
        column: tuple(in_order(name for part in held for name in dict(part.levels).get(column, ())))
        for column in dict.fromkeys(column for part in held for column, _ in part.levels)
    }
    return {where: _renumbered(part, union) for where, part in parts.items()}


def _renumbered(part: Dataset, union: Mapping[str, tuple[str, ...]]) -> Dataset:
    mine = dict(part.levels)
    changed = {name: union[name] for name in mine if mine[name] != union[name]}
    levels = tuple((name, union[name]) for name in mine)
    if not changed:
        return part
    assert part.columns is not None
    x = part.x.copy()
    for name, names in changed.items():
        place = {value: number for number, value in enumerate(names)}
        # The last entry is reached by NOTHING, which is -1.
        become = np.array([*(place[value] for value in mine[name]), NOTHING], x.dtype)
        at = part.columns.index(name)
        x[:, at] = become[x[:, at].astype(np.int64)]
    return replace(part, x=x, levels=levels)


def widened(part: Dataset, choices: Choices) -> Dataset:
    """Return the rows of a site with all columns of the federation, blank where the site has none."""
    if part.columns is None or choices.columns is None or part.columns == choices.columns:
        return part
    x = np.full((len(part), len(choices.columns)), np.nan, part.x.dtype)
    for name, values in zip(part.columns, part.x.T, strict=True):
        x[:, choices.columns.index(name)] = values
    lacking = [name for name in choices.columns if name not in part.columns]
    levels = dict(part.levels) | {name: () for name, _ in choices.categories if name in lacking}
    for name in levels.keys() & set(lacking):
        x[:, choices.columns.index(name)] = NOTHING
    return replace(part, x=x, columns=choices.columns, levels=tuple(levels.items()))


def blanked(where: str, part: Dataset, choices: Choices) -> Dataset:
    """Return rows of several sites with what each site lacks blank. Raises InputError for unnamed sites."""
    if not choices.by_site:
        return part
    if part.domain is None or part.columns is None:
        raise InputError(
            f"data.columns names columns for each site, but the rows of {where} have no "
            f"{'sites' if part.domain is None else 'columns by name'}."
        )
    has, sites = dict(choices.by_site), np.unique(part.domain)
    odd = [str(site) for site in sites if site not in has]
    if odd:
        raise InputError(
            f"data.columns names no columns for {listed(odd)}, whose rows {where} holds; all must have some."
        )
    x = part.x.copy()
    coded = dict(part.levels)
    for site in sites:
        mine = part.domain == site
        for number, name in enumerate(part.columns):
            if name not in has[str(site)]:
                x[mine, number] = NOTHING if name in coded else np.nan
    return replace(part, x=x)


def settled(
    asked: Mapping[str, Sequence[str] | str], train: Dataset, transfer: Dataset, given: bool
) -> dict[str, tuple[str, ...]]:
    """Return the values of each column of categories, in order, as the scenario asks for them.

    ``transfer``: the rows of the transfer set, where there is one that is ``given`` and not made. Raises
    InputError where rows that are to say the values cannot.
    """
    found, problems = dict[str, tuple[str, ...]](), []
    for name, how in asked.items():
        if not isinstance(how, str):
            found[name] = tuple(how)
            continue
        rows = train if how == "train" else transfer
        if (how == "transfer" and not given) or name not in dict(rows.levels):
            problems.append(
                f"data.categories.{name} is to be learned from the {how} rows, but there are none with such "
                "a column; list the values."
            )
            continue
        found[name] = held_in(rows, name)
        if not found[name]:
            problems.append(
                f"data.categories.{name} is to be learned from the {how} rows, where it is blank; "
                "list the values."
            )
    if problems:
        raise InputError(*problems)
    return found


def held_in(rows: Dataset, name: str) -> tuple[str, ...]:
    """Return the values that occur in a column of categories, in order."""
    assert rows.columns is not None
    codes = np.unique(rows.x[:, rows.columns.index(name)]).astype(np.int64)
    names = dict(rows.levels)[name]
    return tuple(names[code] for code in codes if code >= 0)


def spread_out(part: Dataset, values: Mapping[str, Sequence[str]]) -> Dataset:
    """Return rows whose columns of categories have become a column of 0 and 1 for each value."""
    if not part.levels:
        return part
    assert part.columns is not None
    levels, names = dict(part.levels), names_of_columns(part.columns, values)
    x = np.empty((len(part), len(names)), part.x.dtype)
    at = 0
    for number, column in enumerate(part.columns):
        if column not in levels:
            x[:, at] = part.x[:, number]
            at += 1
            continue
        place = {value: k for k, value in enumerate(values[column])}
        become = np.array([*(place.get(value, -1) for value in levels[column]), -1])
        codes = become[part.x[:, number].astype(np.int64)]
        for k in range(len(values[column])):
            x[:, at + k] = codes == k
        at += len(values[column])
    return replace(part, x=x, columns=names, levels=())


def unknown_notes(where: str, part: Dataset, values: Mapping[str, Sequence[str]]) -> list[str]:
    """Return which values of a set have no column, in how many rows."""
    notes = []
    for name, names in part.levels:
        odd = [value for value in names if value not in values[name]]
        if odd and part.columns is not None:
            codes = part.x[:, part.columns.index(name)].astype(np.int64)
            count = int(np.isin(codes, [names.index(value) for value in odd]).sum())
            if count:
                notes.append(
                    f"{where}: column {name!r} holds {listed(odd, repr)} in {count} rows, which "
                    "data.categories does not know: 0 in all its columns."
                )
    return notes
