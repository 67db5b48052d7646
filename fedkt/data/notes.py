"""What should be known of a federation's data before anything runs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from fedkt.data.columns.labels import listed
from fedkt.data.columns.named import LeftOut, copies_of
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
    copies = copies_of(pool.y, x)
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
        return notes
    silent: dict[int, list[str]] = {}
    for shard in federation.shards:
        known = federation.statistics(shard)
        for column in [] if known is None else np.flatnonzero(known.silent).tolist():
            silent.setdefault(column, []).append(shard.id)
    clients = len(federation.shards)
    by_clients: dict[tuple[str, ...], list[int]] = {}
    for column, held in silent.items():
        by_clients.setdefault(tuple(held), []).append(column)
    for those, columns in list(by_clients.items())[:_MOST]:
        who = f"{len(those)} of {clients} clients ({listed(those)})"
        notes.append(
            f"data.dataset: {_columns(sorted(columns), names)} does not vary in the rows of {who}, so it "
            "is 0 for every row there."
        )
    if len(by_clients) > _MOST:
        notes.append(
            f"data.dataset: further columns do not vary at {len(by_clients) - _MOST} more groups of clients."
        )
    return notes


def beyond_notes(federation: Federation) -> list[str]:
    """Return which columns leave the range that ``data.schema`` gives, and in how many training rows.

    It is told where the rows are, and nowhere else.
    """
    if federation.stock is None:
        return []
    notes = []
    rows = federation.pool.x[federation.whole.rows] if federation.pool.kind == "tabular" else None
    for recipe in federation.stock.recipes:
        for number, known in enumerate(recipe.public.ranges or ()):
            assert rows is not None
            column = rows[:, number]
            there = column[~np.isnan(column)]
            low, high = (min(known.values), max(known.values)) if known.values else (known.low, known.high)
            count = int(((there < low) | (there > high)).sum())
            if count:
                names = federation.pool.columns
                which = listed([names[number]], repr) if names else str(number)
                notes.append(
                    f"data.schema: column {which} lies in {low:g} to {high:g}, but {count} of the "
                    f"{len(there)} training rows here that have it are beyond; no made row asks about such."
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
