"""From scores to what a client says of its accuracy: the same code for every method."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkt.client.behaviour import Holding
from fedkt.client.lessons.turning import narrowed
from fedkt.client.lessons.watching import noted
from fedkt.client.state import CONFUSION, DOMAINS
from fedkt.data import Federation
from fedkt.data.federation import Shard
from fedkt.data.sequence.turns import Turns
from fedkt.engine.world.world import World
from fedkt.tasks import Figures

MOST_DOMAINS = 30
"""Of more domains nobody reads a figure each."""
MOST_CLASSES = 100
"""Of more classes nobody reads who is taken for whom."""

Scores = dict[tuple[str, str], Tensor]
"""Scores [n, classes] by set of test rows and by predictor, whose own name is empty for the model's."""


def measured(
    before: Scores, after: Scores, federation: Federation, shard: Shard, own: str
) -> dict[str, float]:
    """Return global, personal and validation accuracy, and that before the teacher was digested.

    ``own``: the predictor that decides about rows which are dealt as the client's are, empty for none.
    """
    found = _metrics(after, federation, shard, own)
    if before:
        earlier = _metrics(before, federation, shard, own)
        # Neither is there where a client has no test rows of its own, and nobody else has.
        if (accuracy := earlier.get("global", earlier.get("personal"))) is not None:
            found["before_digest"] = accuracy
    return found


def held_in(world: World, client: str, round_: int) -> Holding:
    """Return what a client holds in a round: of tasks in sequence the rows of its task of that time."""
    whole, turns = world.holding(client), world.turns
    if turns is None:
        return whole
    rows = np.delete(world.shards[client].rows, world.aside(client))
    return narrowed(whole, turns.holds(client, rows, round_), world.federation.task)


def by_task(
    scores: Scores, federation: Federation, shard: Shard, turns: Turns | None, round_: int
) -> dict[str, float]:
    """Return the accuracy on each task of a client's order (``task_0`` ...), and what it means by then.

    ``task_now``: on the one that it has, ``task_seen``: mean over those that it had until then. Of the common
    test rows, else of its own. Empty where there are no tasks, or no test rows of one.
    """
    if turns is None:
        return {}
    rows = "global" if ("global", "") in scores else "personal"
    members = turns.tested if rows == "global" else turns.tested_own
    if (rows, "") not in scores or members is None:
        return {}
    right = federation.task.goodness(scores[rows, ""], federation.test_labels(shard, rows)).numpy()
    its = members if rows == "global" or shard.test is None else members[:, shard.test]
    order, stage = turns.order[shard.id], turns.stage(shard.id, round_)
    if not its[list(order)].any(1).all():
        return {}
    each = [float(right[its[task]].mean()) for task in order]
    seen = each[: stage + 1]
    found = {f"task_{place}": value for place, value in enumerate(each)}
    return found | {"task_now": each[stage], "task_seen": sum(seen) / len(seen)}


def watched(world: World, client: str, round_: int, scores: Scores, folder: Path) -> dict[str, float]:
    """Note how well a client does on the rows that it sets aside; return whether it gives the alarm of drift.

    Of tasks in sequence the rows of its task. What its model alone says counts. Empty where nobody watches.
    """
    rule, shard, federation = world.scenario.drift, world.shards[client], world.federation
    if rule is None or ("validation", "") not in scores:
        return {}
    y = federation.test_labels(shard, "validation")
    right = federation.task.goodness(scores["validation", ""], y)
    if world.turns is not None:
        its = torch.from_numpy(world.turns.holds(client, shard.validation, round_))
        y, right = y[its], right[its]
    if not len(y):
        return {}
    counts = [torch.bincount(part, minlength=federation.classes).tolist() for part in (y[right > 0], y)]
    return {"alarm": float(noted(folder, round_, counts[0], counts[1], rule))}


def files_of(scores: Scores, federation: Federation, shard: Shard, own: str) -> dict[str, dict[str, Any]]:
    """Return what a client keeps of itself after the last round, by the file's name."""
    found: dict[str, dict[str, Any]] = {}
    if counts := confusion(scores, federation, shard, own):
        found[CONFUSION] = counts
    if domains := by_domain(scores, federation):
        found[DOMAINS] = {"figures": domains}
    return found


def confusion(scores: Scores, federation: Federation, shard: Shard, own: str) -> dict[str, Any] | None:
    """Return how many test rows of each class (a row) were taken for each (a column): ``rows counts``.

    Of the common test rows where there are some (``rows`` is ``global``), else of the client's own
    (``personal``, by the predictor ``own``). None where there are neither, or too many classes to look at.
    """
    rows = next((rows for rows in ("global", "personal") if (rows, "") in scores), None)
    if rows is None or federation.classes > MOST_CLASSES:
        return None
    chosen = scores.get((rows, f"{own}_"), scores[rows, ""]) if rows == "personal" else scores[rows, ""]
    counts = federation.task.confusion(chosen, federation.test_labels(shard, rows), federation.classes)
    return None if counts is None else {"rows": rows, "counts": counts.tolist()}


def by_domain(scores: Scores, federation: Federation) -> dict[str, float] | None:
    """Return the leading figure on the common test rows of each domain, in the order of the data.

    None where there are no such rows, they have no domains, or there are too many domains to look at.
    """
    test = federation.test
    if test is None or test.domain is None or ("global", "") not in scores:
        return None
    names, first = np.unique(test.domain, return_index=True)
    if not 1 < len(names) <= MOST_DOMAINS:
        return None
    values, y = scores["global", ""], federation.test_labels(next(iter(federation.shards)), "global")
    found = {}
    for name in names[np.argsort(first)]:
        there = torch.from_numpy(test.domain == name)
        if (figure := federation.task.leading(values[there], y[there])) is not None:
            found[str(name)] = figure
    return found


def _metrics(scores: Scores, federation: Federation, shard: Shard, own: str) -> dict[str, float]:
    found: dict[str, float | None] = {}
    task, outputs = federation.task, federation.classes
    for (rows, predictor), values in scores.items():
        y = federation.test_labels(shard, rows)
        if rows == "global":
            # Where a client has no test rows of its own, the common ones are weighed by its groups.
            alike = (shard.share, federation.test_strata) if shard.test is None else (None, None)
            found |= _named(predictor, "global", task.measure(values, y, outputs, *alike))
        elif rows == "personal":
            found |= _named(predictor, "personal", task.measure(values, y, outputs, None, None))
        elif predictor == (f"{own}_" if (rows, f"{own}_") in scores else ""):
            found["validation"] = task.leading(values, y)
    decided = _decided(found, own)
    return {name: value for name, value in decided.items() if value is not None}


def _named(predictor: str, rows: str, measured: Figures) -> Figures:
    """Name the leading figure by whose rows it is of, what stands beside it by that and a short word."""
    found: Figures = {}
    for name, value in measured.items():
        personal = name.partition("_")[0] == "personal"  # on common rows, weighed as the client's own are
        found[f"{predictor}{name}" if personal else f"{predictor}{rows}{name and f'_{name}'}"] = value
    return found


def _decided(found: Figures, own: str) -> Figures:
    """Return metrics with those of the predictor ``own`` as the personal ones, the model's as ``model_``."""
    personal = [name for name in found if name.startswith("personal") and f"{own}_{name}" in found]
    moved = {f"model_{name}": found[name] for name in personal}
    return {**found, **moved, **{name: found[f"{own}_{name}"] for name in personal}}
