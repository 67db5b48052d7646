"""What a run's page tells of domains, and of models that write text: tables that need no script."""

import json
from pathlib import Path
from typing import Any

from fedkt.client.state import DOMAINS
from fedkt.results.folder import EXAMPLES
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
