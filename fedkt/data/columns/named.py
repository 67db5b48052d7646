"""Tables whose columns have names, as numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.categories import Levels, coded
from fedkt.data.columns.cells import numbers_of
from fedkt.data.columns.choices import Choices
from fedkt.data.columns.labels import listed
from fedkt.errors import InputError
from fedkt.registry import did_you_mean

ROW_NAMES = ("id", "idx", "index", "row", "row_id", "uid", "uuid", "guid", "unnamed: 0", "__index_level_0__")
"""Columns that name a row and say nothing of it."""
PROBE = 1000
"""Rows that are looked at before all of a column are."""
FEW = 20
"""Where there are fewer rows, a column may say the label by chance."""

LeftOut = tuple[str, str]
"""The name of something that is not read, and why."""


def columns_of(where: str, x: Any) -> dict[str, Any] | None:
    """Return the columns of a data frame, a mapping or a structured array by name; None for anything else.

    Raises InputError where two have one name.
    """
    if isinstance(x, Mapping):
        return {str(name): values for name, values in x.items()}
    names = getattr(getattr(x, "dtype", None), "names", None)
    if names is not None and not hasattr(x, "columns"):
        return {str(name): x[name] for name in names}
    if hasattr(x, "column_names") and hasattr(x, "with_format"):  # of Hugging Face
        x = x.with_format("arrow")[:]
    if hasattr(x, "column_names") and hasattr(x, "column"):  # Arrow
        return {str(name): x.column(name).to_pandas() for name in x.column_names}
    if not hasattr(x, "columns") or not hasattr(x, "dtypes") or not hasattr(x, "to_numpy"):
        return None
    given = [str(name) for name in x.columns]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise InputError(
            f"{where}: x has more than one column named {listed(twice, repr)}; names must differ."
        )
    return {str(name): x[name] for name in x.columns}


def chosen(where: str, names: Sequence[str], choices: Choices) -> tuple[list[str], list[LeftOut]]:
    """Return which of these columns the scenario leaves, in its order, and what it leaves out."""
    kept = [name for name in names if name not in choices.drop]
    out = [(name, "data.drop") for name in names if name in choices.drop]
    if choices.columns is None:
        return kept, out
    unknown = [name for name in choices.columns if name not in names]
    if unknown:
        raise InputError(
            *(
                f"{where} has no column {name!r}, which data.columns asks for; {did_you_mean(name, names)}"
                for name in unknown
            )
        )
    out += [(name, "not in data.columns") for name in kept if name not in choices.columns]
    return [name for name in choices.columns if name in kept], out


def features(where: str, names: Sequence[str], choices: Choices) -> tuple[list[str], list[LeftOut]]:
    """Return what :func:`chosen` does, without what names rows, unless ``data.columns`` asks for it."""
    kept, out = chosen(where, names, choices)
    if choices.columns is not None:
        return kept, out
    out += [(name, "names rows") for name in kept if name.lower() in ROW_NAMES]
    return [name for name in kept if name.lower() not in ROW_NAMES], out


def table_of(
    where: str, columns: Mapping[str, Any], choices: Choices
) -> tuple[NDArray[Any], tuple[str, ...], tuple[LeftOut, ...], Levels]:
    """Return the numbers of a table [n, d], the names of its columns, what was left out and why, and what the
    numbers of its columns of categories stand for.

    A column of vectors [n, k] becomes ``NAME[0]`` and so on. Columns of text and of dates are left out, and
    so are those that name rows, unless ``data.columns`` asks for them. Raises InputError where nothing is
    left, or where ``data.columns`` names one that holds no numbers.
    """
    names, out = features(where, list(columns), choices)
    parts: list[NDArray[Any]] = []
    labels: list[str] = []
    levels: list[tuple[str, tuple[str, ...]]] = []
    asked = dict(choices.categories)
    problems = [
        f"{where} has no column {name!r}, which data.categories names; {did_you_mean(name, list(columns))}"
        for name in asked
        if name not in columns and name not in choices.drop
    ]
    for name in names:
        if name in asked:
            try:
                made = coded(where, name, columns[name])
            except InputError as error:
                problems += error.problems
                continue
            levels.append((name, made.names))
            parts.append(made.codes[:, None])
            labels.append(name)
            continue
        values = numbers_of(columns[name])
        if values is None or values.ndim > 2:
            if choices.columns is not None:
                problems.append(
                    f"{where}: column {name!r}, which data.columns names, holds no numbers; write them as "
                    "numbers, name them in data.categories, or leave it out."
                )
            out.append((name, "no numbers"))
            continue
        parts.append(values.reshape(len(values), -1))
        labels += [name] if values.ndim == 1 else [f"{name}[{i}]" for i in range(values.shape[1])]
    sizes = {len(part) for part in parts}
    if len(sizes) > 1:
        problems.append(
            f"{where}: its columns have from {min(sizes)} to {max(sizes)} rows; they must have equally many."
        )
    if problems:
        raise InputError(*problems)
    if not parts:
        raise InputError(
            f"{where} has the columns {listed(columns)}; one must hold images, texts or numbers."
        )
    return np.concatenate(parts, axis=1), tuple(labels), tuple(out), tuple(levels)


def targets_of(columns: Mapping[str, Any], labels: Sequence[str], choices: Choices) -> Any:
    """Return the column of labels, or those of several by name where ``data.label`` lists them."""
    if isinstance(choices.label, str | None):
        return columns[labels[0]]
    from pandas import DataFrame

    return DataFrame({name: columns[name] for name in labels})


def copies_of(y: NDArray[np.int64], x: NDArray[Any]) -> list[int]:
    """Return which columns of ``x`` [n, d] say the label of every row: a value per class, and no other."""
    if len(y) < FEW:
        return []
    classes, first = np.unique(y, return_index=True)
    if len(classes) < 2:
        return []
    of = np.searchsorted(classes, y)
    found = []
    # Most columns differ within a class in the first rows already.
    likely = np.flatnonzero((x[:PROBE] == x[first][of[:PROBE]]).all(axis=0))
    for column in likely:
        values = x[first, column]
        if len(np.unique(values)) == len(classes) and np.array_equal(x[:, column], values[of]):
            found.append(int(column))
    return found


def order_of(
    where: str, mine: Sequence[str], reference: Sequence[str], other: str, out: Iterable[LeftOut]
) -> list[int]:
    """Return where in ``mine`` the columns of ``reference`` are. Raises InputError where they differ.

    ``out``: what was left out of ``where``, which says why a column is not there.
    """
    place = {name: number for number, name in enumerate(mine)}
    lacking = [name for name in reference if name not in place]
    further = [name for name in mine if name not in set(reference)]
    if lacking or further:
        why = dict(out)
        told = [f"{name} ({why[name]} there)" if name in why else name for name in lacking]
        words = [f"lacks {listed(told)}"] if lacking else []
        words += [f"has {listed(further)} beside"] if further else []
        raise InputError(
            f"{where} {' and '.join(words)}, compared with the columns of {other}: {listed(reference)}; give "
            "all the same columns (empty where nothing was measured), or name what some lack in data.drop."
        )
    return [place[name] for name in reference]
