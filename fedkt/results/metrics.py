"""What a run's files say of its figures, and the losses of its phases: what clients minimised, by part.

How figures are measured on test rows: :mod:`fedkt.tasks`.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedkt.tasks import CLASSIFICATION, TASKS, Metric, named

TITLES = {task.metric.name: task.metric for task in map(named, TASKS)}


def metric_of(summary: Mapping[str, Any]) -> Metric:
    """Return what a run's figures are of, from its summary; of runs that do not say so, accuracy.

    >>> metric_of({"metric": {"name": "r2", "higher_is_better": True}}).title
    'R²'
    """
    return TITLES.get((summary.get("metric") or {}).get("name", ""), CLASSIFICATION.metric)


def measured_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured, of a summary or a line of ``rounds.jsonl``; {} where nothing was.

    >>> measured_in({"round": 3, "score": {"personal_mean": 0.5}}), measured_in({"accuracy": None})
    ({'personal_mean': 0.5}, {})
    """
    return next((dict(row[m.part]) for m in TITLES.values() if row.get(m.part) is not None), {})


def beside_in(summary: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what stands beside the leading figure, in words, by whose rows it is of; {} where nothing does.

    >>> beside_in({"metric": {"name": "r2"}, "score": {"global_rmse_mean": 0.25, "global_mae_mean": None}})
    {'global': ['RMSE 0.25']}
    """
    found: dict[str, list[str]] = {}
    held = measured_in(summary)
    for rows in ("personal", "global"):
        values = {one: held.get(f"{rows}_{one.name}_mean") for one in metric_of(summary).beside}
        words = [f"{one.title} {one.text(value)}" for one, value in values.items() if value is not None]
        found |= {rows: words} if words else {}
    return found


PARTS = ("train", "distill")
"""What clients minimise: ``train`` is the mean, over all rows that a round's steps took, of the objective of
training on private data (with cross entropy in nats), while the model moved; ``distill`` that of learning
from a teacher. Objectives differ between strategies: a run's own curve says something, not the height of one
strategy's against another's."""
_LOSS = "loss_"

Losses = dict[str, float]
"""Mean losses by part."""


def losses_of(stage: str, means: Sequence[float]) -> Losses:
    """Return the losses of a phase: the mean of its rows or, in joint steps, of private and transfer rows."""
    parts = {"digest": ("distill",), "train": PARTS}.get(stage, ())
    return {part: mean for part, mean in zip(parts, means, strict=False) if math.isfinite(mean)}


def as_metrics(losses: Mapping[str, float]) -> dict[str, float]:
    """Name losses as they are named among the metrics of a reply."""
    return {f"{_LOSS}{part}": loss for part, loss in losses.items()}


def parted(told: Mapping[str, float]) -> tuple[Losses, dict[str, float]]:
    """Return the losses among a reply's metrics, and the other metrics."""
    named = {f"{_LOSS}{part}": part for part in PARTS}
    losses = {named[name]: value for name, value in told.items() if name in named}
    return losses, {name: value for name, value in told.items() if name not in named}


def mean_losses(held: Iterable[Mapping[str, float]]) -> dict[str, float | None]:
    """Return the mean over those clients who have a loss, by part; None where nobody has."""
    told = list(held)
    found: dict[str, float | None] = {}
    for part in PARTS:
        values = [losses[part] for losses in told if part in losses]
        found[part] = statistics.fmean(values) if values else None
    return found
