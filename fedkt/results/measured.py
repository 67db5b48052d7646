"""The accuracy of every client in every round of a run, as arrays: what heat maps and distributions need."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METRICS = ("personal", "global")


@dataclass(frozen=True)
class Measured:
    """``values[metric]`` float32 [rounds, clients], a client's newest value of each round's end.

    NaN before its first measurement. ``rounds`` and ``clients`` name the axes; ``hostile``: those of the
    clients who attack, whose accuracy counts in no figure.
    """

    rounds: tuple[int, ...]
    clients: tuple[int | str, ...]
    values: dict[str, NDArray[np.float32]]
    hostile: frozenset[int | str] = frozenset()


def read_measured(run: Path) -> Measured:
    """Read ``clients.jsonl`` of a run's folder, and from ``federation.json`` who is hostile.

    Without them everything is empty.
    """
    file = run / "clients.jsonl"
    rows = []
    if file.is_file():
        with open(file, encoding="utf-8") as lines:
            # A last line that a crash cut off does not count.
            rows = [json.loads(line) for line in lines if line.endswith("\n")]
    rounds = tuple(sorted({row["round"] for row in rows}))
    named = {row["client"] for row in rows}
    clients = tuple(sorted(named, key=lambda name: (isinstance(name, str), name)))
    at_round = {number: i for i, number in enumerate(rounds)}
    at_client = {name: i for i, name in enumerate(clients)}
    i = np.array([at_round[row["round"]] for row in rows], dtype=int)
    k = np.array([at_client[row["client"]] for row in rows], dtype=int)
    values = {}
    for metric in METRICS:
        held = np.full((len(rounds), len(clients)), np.nan, np.float32)
        held[i, k] = np.array([row.get(metric) for row in rows], dtype=np.float32)
        values[metric] = _filled(held)
    hostile = _hostile(run)
    return Measured(rounds, clients, values, frozenset(name for name in clients if str(name) in hostile))


def _hostile(run: Path) -> set[str]:
    file = run / "federation.json"
    parties = json.loads(file.read_text(encoding="utf-8"))["clients"] if file.is_file() else []
    return {party["client"] for party in parties if party.get("hostile")}


def _filled(held: NDArray[np.float32]) -> NDArray[np.float32]:
    """Carry each column's last number forward over NaN."""
    if not held.size:
        return held
    places = np.where(np.isnan(held), 0, np.arange(len(held))[:, None])
    return np.asarray(np.take_along_axis(held, np.maximum.accumulate(places, axis=0), axis=0))
