"""Columns that hold one of a few values, as numbers of their own values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.cells import array_of, blank, is_missing, names_of
from fedkt.data.columns.labels import in_order
from fedkt.errors import InputError

Values = tuple[str, ...] | Literal["transfer", "train"]
"""The values of a column, or the rows that say which there are."""
Levels = tuple[tuple[str, tuple[str, ...]], ...]
"""Per column of categories its name and what its numbers stand for."""
NOTHING = -1.0
"""Stands for a blank, and for a value that has no column."""
MOST = 1000
"""Most values of one column."""


@dataclass(frozen=True)
class Coded:
    """A column's values by number: ``codes`` float32 [n], NOTHING where blank; ``names``: of the numbers."""

    codes: NDArray[np.float32]
    names: tuple[str, ...]


def coded(where: str, name: str, values: Any) -> Coded:
    """Return a column as numbers of its own values. Raises InputError where they are no names or numbers."""
    array = array_of(f"{where}: column {name!r} is", values)
    if array.ndim != 1:
        raise InputError(f"{where}: column {name!r}, which data.categories names, holds no single values.")
    missing = is_missing(array)
    plain = np.asarray(array).astype(object)
    plain[missing] = ""
    texts = np.array([""] * len(plain), object)
    if (~missing).any():
        texts[~missing] = names_of_all(f"{where}: column {name!r}", plain[~missing])
    texts = texts.astype(np.str_)
    empty = missing | blank(texts)
    found, code = np.unique(texts[~empty], return_inverse=True)
    if len(found) > MOST:
        raise InputError(
            f"{where}: column {name!r}, which data.categories names, has {len(found)} values; at most "
            f"{MOST} can have a column each, so data.drop must name it."
        )
    names = in_order(map(str, found))
    place = np.array([names.index(str(value)) for value in found], np.float32)
    codes = np.full(len(texts), NOTHING, np.float32)
    codes[~empty] = place[code]
    return Coded(codes, tuple(names))


def names_of_all(where: str, values: Any) -> NDArray[np.str_]:
    """Return values as they are written: whole numbers without a point; blanks stay blank."""
    distinct, code = np.unique(np.array([str(value) for value in values], np.str_), return_inverse=True)
    empty = blank(distinct)
    written = distinct.astype(object)
    if (~empty).any():
        known = {str(value): value for value in values}
        written[~empty] = names_of(where, np.array([known[str(text)] for text in distinct[~empty]], object))
    return np.asarray(written.astype(np.str_)[code])


def names_of_columns(columns: Iterable[str], values: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the names of columns where each of categories is followed out into ``COLUMN=VALUE``."""
    return tuple(
        name
        for column in columns
        for name in ([f"{column}={value}" for value in values[column]] if column in values else [column])
    )
