"""Lines of a run's folder, and the figures in them, from what became of a round's messages."""

import statistics
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from fedkt.results import metrics
from fedkt.strategy.base import Strategy
from fedkt.strategy.rounds.receiving import Outcome
from fedkt.tasks import CLASSIFICATION, Figure


def losses_told(*stages: Mapping[str, Outcome]) -> dict[str, metrics.Losses]:
    """Take the losses out of the metrics of a round's replies; return them by client."""
    found: dict[str, metrics.Losses] = {}
    for client, outcome in chain.from_iterable(stage.items() for stage in stages):
        lost, outcome.metrics = metrics.parted(outcome.metrics)
        found[client] = found.get(client, {}) | lost
    return found


def client_name(client: str) -> int | str:
    """Return a client as lines have it: numbered ones as numbers."""
    return int(client) if client.isdecimal() else client


def client_row(
    number: int, client: str, trained: Outcome | None, evaluated: Outcome | None, epsilon: float | None = None
) -> dict[str, Any]:
    """Return one line of ``clients.jsonl``."""
    parts = [o for o in (trained, evaluated) if o is not None]
    telling = next((o for o in parts if o.status != "accepted"), parts[0])
    metrics = {**(trained.metrics if trained else {}), **(evaluated.metrics if evaluated else {})}
    return {
        "round": number,
        "client": client_name(client),
        "status": telling.status if trained else "idle",
        "reason": telling.reason,
        "detail": telling.detail.partition("\n")[0],
        "global": metrics.pop("global", None),
        "personal": metrics.pop("personal", None),
        "before_digest": metrics.pop("before_digest", None),
        "bytes": {"up": sum(o.up for o in parts), "down": sum(o.down for o in parts)},
        "epsilon": epsilon,
        **metrics,
    }


def server_accuracy(strategy: Strategy) -> float | None:
    """Return the accuracy of the server's own model on the common test set, where both are there."""
    federation = strategy.setting.federation
    test = None if federation is None else federation.server_tensors()[1]
    logits = None if test is None else strategy.serve(test[0])
    return None if test is None or logits is None else strategy.task.leading(logits, test[1])


def group_effect(
    measured: Iterable[Mapping[str, float]], figure: Figure = CLASSIFICATION.metric
) -> float | None:
    """Return the mean over taught clients of what they gained in accuracy by the round's teacher.

    On the common test set where there is one (the target domain's, in a domain shift), else on their own.
    Below 0: negative transfer. Where weights are averaged, after is the aggregated model and before the
    clients' own ones, which is the Group Effect of FedKA (Sun et al. 2022, arXiv:2203.11635). None where
    nobody was both taught and measured. It is reported only: nothing in a run depends on it.
    """
    effects = [
        figure.gain(m.get("global", m.get("personal", m["before_digest"])), m["before_digest"])
        for m in measured
        if "before_digest" in m
    ]
    return statistics.fmean(effects) if effects else None


def spread(measured: Mapping[str, Mapping[str, float]]) -> dict[str, float | None]:
    """Return mean and population standard deviation over clients, by metric name."""
    names = {"global": None, "personal": None} | {n: None for m in measured.values() for n in m}
    found: dict[str, float | None] = {}
    for name in names:
        values = [m[name] for m in measured.values() if name in m]
        found[f"{name}_mean"] = statistics.fmean(values) if values else None
        found[f"{name}_std"] = statistics.pstdev(values) if values else None
    return found
