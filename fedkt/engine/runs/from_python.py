"""A scenario from what a Python session holds: rows, models, a strategy."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fedkt import scenario as scenarios
from fedkt.data.columns.named import columns_of
from fedkt.errors import InputError
from fedkt.registry import did_you_mean
from fedkt.scenario import Scenario, Source

LABEL = "label"
"""The column of labels where nothing names another one."""
TRANSFER = 1000
"""Rows of the transfer set where no scenario says it: at most so many, and at most a fifth of all."""


def scenario_of(
    source: Source | None,
    overrides: Sequence[str] = (),
    *,
    data: Any = None,
    sites: Any = None,
    strategy: Any = None,
    models: Any = None,
    seed: int | None = None,
) -> Scenario:
    """Return a scenario with what :func:`fedkt.simulate` was given in place of what it says.

    Overrides come last. Raises InputError.
    """
    if source is None and data is None:
        raise InputError(
            "there is neither a scenario nor data; name a scenario, or give data=(rows, labels)."
        )
    if data is None and sites is not None:
        raise InputError("sites says whose row is whose, but there are no rows; give data=(rows, labels).")
    base: Source = {"name": "data"} if source is None else source
    given: dict[str, Any] = {}
    if data is not None:
        said = scenarios.load(source).data if source is not None else None
        label, site = (None, None) if said is None else (said.label, said.site)
        whole = columns_of("data", data) is not None
        rows, labels, named = _taken(data, site if sites is None and whole else sites, label)
        if source is None:
            base = {"name": "data", **_defaults(rows, labels)}
        given["data.dataset"] = _function(rows, labels, named)
        given |= {} if label is None else {"data.label": None}
        given |= {} if site is None else {"data.site": None}
        given |= {} if named is None or sites is None else {"data.partition": {"kind": "domain"}}
    asked = {"strategy": strategy, "clients.models": models, "seed": seed}
    given |= {key: value for key, value in asked.items() if value is not None}
    plain = [f"{key}={json.dumps(scenarios.plain(value))}" for key, value in given.items()]
    return scenarios.load(base, [*plain, *overrides])


def _taken(data: Any, sites: Any, label: str | list[str] | None) -> tuple[Any, Any, Any]:
    """Return rows, labels and a site's name per row (or None) of what was given."""
    columns = columns_of("data", data)
    if columns is None:
        if not isinstance(data, tuple | list) or len(data) != 2:
            raise InputError(
                f"data is a {type(data).__name__}; it must be (rows, labels), (a table, the name of its "
                f"column of labels), or a table with a column {LABEL!r}."
            )
        rows, labels = data
        columns = columns_of("data", rows)
        if columns is None and isinstance(labels, str):
            raise InputError(f"data names {labels!r} for its labels, but its rows have no columns by name.")
        label = labels if isinstance(labels, str) or _are_names(labels, columns) else None
    else:
        labels, label = None, label or LABEL
    if columns is None:
        if isinstance(sites, str):
            raise InputError(
                f"sites is {sites!r}, but the rows have no columns by name; give a name per row."
            )
        return rows, labels, _names(sites, len(rows))
    wanted = [label] if isinstance(label, str) else list(label or ())
    problems = [
        f"data has no column {name!r} {what}; {did_you_mean(name, columns)}"
        for name, what in (
            *((name, "with the labels (name it as data=(table, 'column'))") for name in wanted),
            (sites if isinstance(sites, str) else None, "with the sites"),
        )
        if name is not None and name not in columns
    ]
    if problems:
        raise InputError(*problems)
    if label is not None:
        from pandas import DataFrame

        taken = {name: columns.pop(name) for name in wanted}
        labels = taken[label] if isinstance(label, str) else DataFrame(taken)
    named = columns.pop(sites) if isinstance(sites, str) else sites
    return columns, labels, _names(named, len(labels))


def _are_names(labels: Any, columns: Mapping[str, Any] | None) -> bool:
    """Say whether these are several columns of a table, by name."""
    return (
        columns is not None
        and isinstance(labels, list)
        and bool(labels)
        and all(isinstance(name, str) and name in columns for name in labels)
    )


def _names(sites: Any, rows: int) -> Any:
    if sites is None:
        return None
    names = np.asarray(sites).astype(str)
    if names.shape != (rows,):
        raise InputError(
            f"sites has shape {list(names.shape)} but there are {rows} rows; it must name a site per row."
        )
    return names


def _function(rows: Any, labels: Any, sites: Any) -> Callable[[], Any]:
    def data() -> Any:
        return (rows, labels) if sites is None else (rows, labels, sites)

    return data


def _defaults(rows: Any, labels: Any) -> dict[str, Any]:
    """Return what suits such rows where no scenario says anything."""
    shape = () if isinstance(rows, Mapping) else np.shape(rows)
    size = max(1, min(TRANSFER, len(labels) // 5))
    transfer = {"transfer": {"from": "train", "size": size}}
    if len(shape) in (3, 4):
        return {"data": transfer, "clients": {"models": "cnn"}}
    table = {"missing": "mean", "standardise": True}
    return {"data": transfer | table, "clients": {"models": "tabular"}}
