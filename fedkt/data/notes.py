"""What should be known of a federation's data before anything runs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedkt.data.columns.labels import listed
from fedkt.data.columns.named import LeftOut
from fedkt.data.federation import Federation
from fedkt.data.sets.dataset import Dataset
from fedkt.knowledge.codec import LIMIT

_MOST = 8


def noted(federation: Federation, notes: Iterable[str]) -> Federation:
    """Return the federation with these notes and those that its rows call for."""
    return replace(federation, notes=(*notes, *table_notes(federation)))


def left_out_notes(sources: Mapping[str, Iterable[LeftOut]]) -> list[str]:
    """Return one sentence per source that holds more than is read: what is left out, and why."""
    notes = []
    for where, out in sources.items():
        by_reason: dict[str, list[str]] = {}
        for name, why in dict.fromkeys(out):
            by_reason.setdefault(why, []).append(name)
        words = [f"{listed(names)} ({why})" for why, names in by_reason.items()]
        if words:
            notes.append(f"{where}: left out: {'; '.join(words)}.")
    return notes


def table_notes(federation: Federation) -> list[str]:
    """Return what is odd about a table: columns in large units, copies of the label, constant columns."""
    pool, notes = federation.pool, list[str]()
    if pool.kind != "tabular":
        return notes
    x, names = pool.x, pool.columns
    copies = federation.task.copies(pool.y, x)
    if copies:
        notes.append(f"data.dataset: {_columns(copies, names)} says the label of every row.")
    if not federation.preprocess.standardise:
        low, high = np.fmin.reduce(x, axis=0), np.fmax.reduce(x, axis=0)
        wide = np.flatnonzero(np.fmax(np.abs(low), np.abs(high)) > LIMIT)
        if len(wide):
            first = wide[0]
            notes.append(
                f"data.dataset: {_columns(wide, names)} holds numbers beyond {LIMIT:g} (from "
                f"{low[first]:.6g} to {high[first]:.6g}), which models take as they are; "
                "data.standardise: true scales columns."
            )
        if federation.preprocess.missing in ("mean", "median"):
            empty = {shard.id: np.isnan(x[shard.rows]).all(axis=0) for shard in federation.shards}
            notes += _by_clients(
                federation, empty, "has no value in the rows of {}, so it is 0 for every row there"
            )
        return notes
    silent = {
        shard.id: known.silent
        for shard in federation.shards
        if (known := federation.statistics(shard)) is not None
    }
    return notes + _by_clients(
        federation, silent, "does not vary in the rows of {}, so it is 0 for every row there"
    )


def _by_clients(federation: Federation, held: Mapping[str, NDArray[np.bool_]], words: str) -> list[str]:
    """Return a sentence per group of clients with the same columns; ``held``: which ones, by client."""
    names, notes = federation.pool.columns, list[str]()
    of: dict[int, list[str]] = {}
    for client, columns in held.items():
        for column in np.flatnonzero(columns).tolist():
            of.setdefault(column, []).append(client)
    clients = len(federation.shards)
    by_clients: dict[tuple[str, ...], list[int]] = {}
    for column, clients_of in of.items():
        by_clients.setdefault(tuple(clients_of), []).append(column)
    for those, together in list(by_clients.items())[:_MOST]:
        who = f"{len(those)} of {clients} clients ({listed(those)})"
        notes.append(f"data.dataset: {_columns(sorted(together), names)} {words.format(who)}.")
    if len(by_clients) > _MOST:
        notes.append(f"data.dataset: so it is at {len(by_clients) - _MOST} more groups of clients.")
    return notes


def beyond_notes(federation: Federation) -> list[str]:
    """Return which columns leave the range that ``data.schema`` gives, and in how many training rows.

    It is told where the rows are, and nowhere else.
    """
    if federation.stock is None or federation.pool.kind != "tabular":
        return []
    notes = []
    rows = federation.pool.x[federation.whole.rows]
    for recipe in federation.stock.recipes:
        for number, known in enumerate(recipe.public.ranges or ()):
            column = rows[:, number]
            there = column[~np.isnan(column)]
            if known.values:
                allowed = f"is one of {listed(f'{value:g}' for value in known.values)}"
                count = int((~np.isin(there, np.asarray(known.values, there.dtype))).sum())
            else:
                allowed = f"lies in {known.low:g} to {known.high:g}"
                count = int(((there < known.low) | (there > known.high)).sum())
            if count:
                names = federation.pool.columns
                which = listed([names[number]], repr) if names else str(number)
                notes.append(
                    f"data.schema: column {which} {allowed}, but {count} of the {len(there)} training rows "
                    "here that have it are beyond; no made row asks about such."
                )
    return notes


def unnamed_notes(parts: Mapping[str, Dataset | None]) -> list[str]:
    """Return which sets have no names of columns, where others have."""
    tables = {where: part for where, part in parts.items() if part is not None and part.kind == "tabular"}
    unnamed = [where for where, part in tables.items() if part.columns is None]
    if not unnamed or len(unnamed) == len(tables):
        return []
    return [f"{listed(unnamed)} names no columns, so they are taken in the order of the others'."]


def _columns(columns: Iterable[int], names: tuple[str, ...] | None) -> str:
    told = [repr(names[i]) if names else str(i) for i in columns]
    return f"{'column' if len(told) == 1 else 'each of the columns'} {listed(told)}"
