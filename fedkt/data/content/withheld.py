"""Rows that clients do not use any more: withdrawn ones, and those of classes that they never learn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.labels import LabelNames, listed
from fedkt.data.sets.npz import find_file
from fedkt.errors import InputError

if TYPE_CHECKING:
    from fedkt.scenario.schema import Participation

Indices = NDArray[np.int64]
MOST_SHOWN = 5


def withheld(
    part: "Participation",
    owned: Mapping[str, Indices],
    labels: Indices,
    classes: int,
    names: LabelNames | None,
    data_dir: Path | None,
) -> dict[str, Indices]:
    """Return by client the rows that it leaves out.

    ``owned``: by client its rows, numbers of ``labels`` int64 [n] below ``classes``. Who is not among the
    clients is skipped: a site knows itself alone. Raises InputError with every problem.
    """
    problems: list[str] = []
    found: dict[str, list[Indices]] = {}
    for client, given in part.withdrawn_rows.items():
        if client not in owned:
            continue
        try:
            rows = read_rows_of(given, data_dir) if isinstance(given, str) else np.array(given, np.int64)
        except InputError as error:
            problems += error.problems
            continue
        if len(other := np.setdiff1d(rows, owned[client])):
            problems.append(
                f"participation.withdrawn_rows names {shown(other)} for client '{client}', "
                f"which {'is' if len(other) == 1 else 'are'} not among its {len(owned[client])} rows."
            )
        found.setdefault(client, []).append(rows)
    for client, blocked in part.blocked.items():
        if client not in owned:
            continue
        try:
            numbers = class_numbers(blocked, classes, names, "participation.blocked")
        except InputError as error:
            problems += error.problems
            continue
        if len(numbers) == classes:
            problems.append(
                f"participation.blocked names all {classes} classes; at least one must be left to learn."
            )
            continue
        held = owned[client]
        found.setdefault(client, []).append(held[np.isin(labels[held], numbers)])
    gone = {client: np.unique(np.concatenate(parts)) for client, parts in found.items()}
    problems += [
        f"client '{client}' has no row left without those that participation.withdrawn_rows and blocked take "
        "from it; participation.withdrawn leaves the whole client out."
        for client, rows in gone.items()
        if len(rows) == len(owned[client])
    ]
    if problems:
        raise InputError(*problems)
    return gone


def class_numbers(
    given: Sequence[int | str], classes: int, names: LabelNames | None, where: str
) -> tuple[int, ...]:
    """Return the numbers of classes that are given by number or name, sorted.

    Raises InputError for one that is not there.

    >>> class_numbers(["cat", 2], 3, ("bird", "cat", "dog"), "participation.blocked")
    (1, 2)
    """
    numbers, wrong = set(), []
    for one in given:
        if names is not None and str(one) in names:
            numbers.add(names.index(str(one)))
        elif str(one).isdecimal() and int(one) < classes:
            numbers.add(int(one))
        else:
            wrong.append(one)
    if wrong:
        there = f"0 to {classes - 1}" if names is None else listed(names)
        raise InputError(
            f"{where} names {', '.join(map(repr, wrong))}, which is no class; there are {there}."
        )
    return tuple(sorted(numbers))


def read_rows_of(name: str, data_dir: Path | None) -> Indices:
    """Read a file with one row number per line, found as data files are or as it stands.

    Raises InputError with every bad line.
    """
    path = Path(name) if Path(name).is_file() else find_file(name, data_dir)
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); it must hold one row number per line.") from None
    wrong = [line for line in lines if not line.isdecimal()]
    if wrong:
        raise InputError(f"{path} holds {shown(wrong)}; it must hold one row number per line, from 0 on.")
    return np.unique(np.array(lines, np.int64))


def shown(values: Sequence[int | str] | Indices) -> str:
    """Return the first values in words.

    >>> shown([3, 4, 5, 6, 7, 8, 9])
    '3, 4, 5, 6, 7 and 2 more'
    """
    first = ", ".join(str(value) for value in values[:MOST_SHOWN])
    more = len(values) - MOST_SHOWN
    return f"{first} and {more} more" if more > 0 else first
