"""What a page tells of domains, and of models that write text: tables that need no script."""

import json
from pathlib import Path
from typing import Any

from fedkt.client.state import DOMAINS
from fedkt.results.comparison.frames import Comparison
from fedkt.results.comparison.summary import points
from fedkt.results.folder import EXAMPLES
from fedkt.results.statistics import interval
from fedkt.scenario import load
from fedkt.tasks import task_of


def domains_of(run: Path) -> dict[str, Any] | None:
    """Return the leading figure of each client's model on the test rows of each domain, as it is told.

    ``title``, ``domains``, ``rows`` [(client, values as text, place of its best value)]; None where the run
    has none.
    """
    if (held := _read(run / DOMAINS)) is None:
        return None
    figure = task_of(load(run / "scenario.yaml").data).metric
    clients: dict[str, dict[str, float]] = held["clients"]
    names = list(dict.fromkeys(name for figures in clients.values() for name in figures))
    best = {
        name: max(
            (figures[name] * figure.sign, client) for client, figures in clients.items() if name in figures
        )[1]
        for name in names
    }
    rows = [
        (client, [(figure.text(f[name]) if name in f else "–", best[name] == client) for name in names])
        for client, f in clients.items()
    ]
    return {"title": figure.title, "domains": names, "rows": rows, "round": held["round"]}


def gains_of(comparison: Comparison) -> dict[str, Any] | None:
    """Return what clients gained over the baseline on the test rows of each domain, by method.

    ``title``, ``unit`` and ``baseline``; ``tables``, each with its ``name`` (scenario, condition, method),
    ``domains`` and ``rows`` [(client, gains as text: mean over seeds, ± half the width of its interval)].
    None where test rows have no domains.
    """
    table, figure, baseline = comparison.domains, comparison.metric, comparison.settings["baseline"]
    table = table[(table["method"] != baseline) & table["gain"].notna()]
    tables = []
    for keys, part in table.groupby(["scenario", "condition", "method"], sort=False):
        gains = {at: cell.to_numpy() for at, cell in part.groupby(["client", "domain"])["gain"]}
        text = {at: points(cell.mean(), *interval(cell), figure) for at, cell in gains.items()}
        clients, domains = (list(part[name].unique()) for name in ("client", "domain"))
        rows = [(client, [text.get((client, name), "–") for name in domains]) for client in clients]
        tables.append({"name": " ".join(filter(None, keys)), "domains": domains, "rows": rows})
    if not tables:
        return None
    return {"title": figure.title, "unit": figure.unit_of_gain, "baseline": baseline, "tables": tables}


def texts_of(run: Path) -> dict[str, Any] | None:
    """Return what models wrote and what a passage costs in bytes; None where the run's models write none."""
    if (held := _read(run / EXAMPLES)) is None:
        return None
    about = _read(run / "federation.json") or {"message": {}}
    transfer = load(run / "scenario.yaml").data.transfer
    passages = (transfer and transfer.asked) or about["transfer"]["rows"]
    cost = {way: sum(arrays.values()) / passages for way, arrays in about["message"].items()}
    return {"prompt": held["prompt"], "texts": list(held["texts"].items()), "bytes": cost}


def _read(file: Path) -> dict[str, Any] | None:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
