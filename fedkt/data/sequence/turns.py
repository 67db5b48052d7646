"""Which rows belong to which task, and which task a client has in a round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedkt.data.content.withheld import class_numbers, shown
from fedkt.data.federation import Federation
from fedkt.data.sets.dataset import Dataset
from fedkt.errors import InputError
from fedkt.rng import numpy_stream

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Turns:
    """The tasks of a federation.

    ``members`` bool [tasks, rows of the pool], ``tested`` and ``tested_own`` the same of the common and of
    own test rows (None: there are none); ``order``: by client the numbers of its tasks in order; ``rounds``
    that each lasts; ``keep``: rows of each earlier one that stay.
    """

    members: NDArray[np.bool_]
    tested: NDArray[np.bool_] | None
    tested_own: NDArray[np.bool_] | None
    order: Mapping[str, tuple[int, ...]]
    rounds: int
    keep: int
    seed: int

    def stage(self, client: str, round_: int) -> int:
        """Return how many tasks a client has behind it in a round, counted from 1."""
        return min(max(round_ - 1, 0) // self.rounds, len(self.order[client]) - 1)

    def holds(self, client: str, rows: Numbers, round_: int) -> NDArray[np.bool_]:
        """Return which of a client's rows [n], numbers of the pool, it holds in a round."""
        order, stage = self.order[client], self.stage(client, round_)
        held: NDArray[np.bool_] = self.members[order[stage]][rows]
        for task in order[:stage] if self.keep else ():
            its = np.flatnonzero(self.members[task][rows])
            drawn = numpy_stream(self.seed, "kept rows", client, task).permutation(its)[: self.keep]
            held = held | np.isin(np.arange(len(rows)), drawn)
        return held


def turns_of(scenario: "Scenario", federation: Federation) -> Turns | None:
    """Return the tasks of a scenario, None where it has none. Raises InputError with every problem."""
    tasks = scenario.data.tasks
    if tasks is None:
        return None
    groups, problems = _groups(tasks, federation)
    if problems:
        raise InputError(*problems)
    count = len(groups)
    orders: dict[str, tuple[int, ...]] = {}
    for number, shard in enumerate(federation.shards):
        order = list(range(count))
        if tasks.order == "shifted":
            order = order[number % count :] + order[: number % count]
        elif tasks.order == "random":
            order = numpy_stream(scenario.seed, "order of tasks", shard.id).permutation(count).tolist()
        elif not isinstance(tasks.order, str) and shard.id in tasks.order:
            order = list(tasks.order[shard.id])
        orders[shard.id] = tuple(order)
    if not isinstance(tasks.order, str):
        problems += _order_problems(tasks.order, list(orders), count)
    lasted = max(len(order) for order in orders.values()) * tasks.rounds
    if scenario.rounds < lasted:
        problems.append(
            f"rounds is {scenario.rounds}, but {lasted // tasks.rounds} tasks of {tasks.rounds} rounds each "
            f"take {lasted}; it must be at least that."
        )
    if tasks.rounds % scenario.evaluate.every:
        problems.append(
            f"evaluate.every is {scenario.evaluate.every}, but accuracy is asked for at the end of each "
            f"task; it must divide data.tasks.rounds, {tasks.rounds}."
        )
    if scenario.privacy.mode != "none":
        problems.append(
            f"data.tasks with privacy.mode '{scenario.privacy.mode}': what a task's rows pay is not counted "
            "by task, so it is refused; privacy.mode must be none."
        )
    if scenario.clients.guard is not None:
        problems.append(
            "clients.guard judges a teacher by rows of all tasks, of which a client holds those of one with "
            "data.tasks; leave one of them out."
        )
    if problems:
        raise InputError(*problems)
    members = _members(tasks.by, groups, federation.pool)
    for shard in federation.shards:
        empty = [task for task in orders[shard.id] if not members[task][shard.rows].any()]
        if empty:
            problems.append(
                f"client {shard.id} holds no row of task {shown(empty)} of data.tasks; leave it out of its "
                "order, or deal rows otherwise."
            )
    own = federation.own_test if any(shard.test is not None for shard in federation.shards) else None
    tested = None if federation.test is None else _members(tasks.by, groups, federation.test)
    if tested is None and own is None:
        problems.append("data.tasks measures what is kept on test rows, and there are none.")
    if problems:
        raise InputError(*problems)
    tested_own = None if own is None else _members(tasks.by, groups, own)
    return Turns(members, tested, tested_own, orders, tasks.rounds, tasks.keep, scenario.seed)


def notes_of(scenario: "Scenario", federation: Federation) -> list[str]:
    """Return what is odd about the tasks of a scenario without being wrong."""
    tasks = scenario.data.tasks
    if tasks is None:
        return []
    groups, _ = _groups(tasks, federation)
    named = [value for group in groups for value in group]
    twice = sorted({value for value in named if named.count(value) > 1}, key=str)
    found = []
    if twice:
        many = f"{tasks.by} {shown(twice)} belongs to more than one task"
        found.append(f"data.tasks: {many}, so tasks overlap.")
    spare = sorted(set(range(federation.classes)) - set(named))
    if tasks.by == "label" and spare:
        found.append(f"data.tasks: label {shown(spare)} belongs to no task, so nobody ever trains on it.")
    return found


def _groups(tasks: Any, federation: Federation) -> tuple[list[list[Any]], list[str]]:
    """Return the values of each task, labels as their numbers, and what is wrong with them."""
    pool, by, problems = federation.pool, tasks.by, list[str]()
    right = "it must be label, or the name of a column"
    if by == "domain" and pool.domain is None:
        return [], [f"data.tasks.by is domain, but the data set has none; {right}."]
    if by not in ("label", "domain") and by not in (pool.columns or ()):
        has = f"columns {', '.join(pool.columns)}" if pool.columns else "no columns"
        return [], [f"data.tasks.by is {by!r}, but the data set has {has}; {right}, or domain."]
    there = set(_values(by, pool).tolist())
    if tasks.groups is None:
        if by != "domain":
            return [], [f"data.tasks.groups is missing; it must say which {by} belongs to which task."]
        return [[name] for name in dict.fromkeys(pool.domain.tolist())], []  # type: ignore[union-attr]
    found: list[list[Any]] = []
    for number, group in enumerate(tasks.groups):
        where = f"data.tasks.groups.{number}"
        values = list(group)
        if by == "label":
            try:
                values = list(class_numbers(group, federation.classes, federation.label_names, where))
            except InputError as error:
                problems += error.problems
                continue
        elif unknown := [value for value in values if value not in there]:
            problems.append(f"{where} names {shown(unknown)}, which no row has as its {by}.")
        found.append(values)
    return found, problems


def _values(by: str, rows: Dataset) -> NDArray[Any]:
    if by == "label":
        return rows.y
    if by == "domain":
        return rows.domain if rows.domain is not None else np.full(len(rows), "")
    found: NDArray[Any] = rows.x[:, (rows.columns or ()).index(by)]
    return found


def _members(by: str, groups: Sequence[Sequence[Any]], rows: Dataset) -> NDArray[np.bool_]:
    values = _values(by, rows)
    return np.stack([np.isin(values, list(group)) for group in groups])


def _order_problems(order: Mapping[str, Sequence[int]], clients: Sequence[str], count: int) -> list[str]:
    found = []
    for client, its in order.items():
        if client not in clients:
            found.append(
                f"data.tasks.order names '{client}', which is no client; there are {', '.join(clients)}."
            )
        wrong = [task for task in its if not 0 <= task < count]
        if wrong or len(set(its)) < len(its) or not its:
            found.append(
                f"data.tasks.order of client '{client}' is {list(its)}; it must name tasks from 0 to "
                f"{count - 1}, each once at most."
            )
    return found
