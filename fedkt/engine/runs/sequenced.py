"""``tasks.json``: what was kept and lost of tasks that followed each other (``data.tasks``)."""

import statistics
from typing import Any

from fedkt.client.training import one_thread, predict
from fedkt.data.sequence.matrix import draw, figures
from fedkt.data.sequence.turns import Turns
from fedkt.engine.clients.measuring import by_task
from fedkt.engine.world.world import World
from fedkt.files import write_json
from fedkt.results.folder import RunFolder, read_rows

FILE, PICTURE = "tasks.json", "tasks.png"


def sum_up_tasks(world: World, folder: RunFolder, last: int) -> None:
    """Write ``tasks.json`` and its picture, where the scenario has tasks and all of them were learned."""
    turns, tasks = world.turns, world.scenario.data.tasks
    if turns is None or tasks is None:
        return
    measured: dict[str, dict[int, dict[str, float]]] = {}
    for row in read_rows(folder.path / "clients.jsonl"):
        if row.get("task_0") is not None:
            measured.setdefault(str(row["client"]), {})[row["round"]] = row
    clients = {}
    for client in (client for client in world.names if client in measured):
        found = _of_client(world, turns, client, measured[client], last)
        if found is not None:
            clients[client] = found
    if not clients:
        return
    names = next(iter(clients.values()))["figures"]
    told: dict[str, Any] = {
        "by": tasks.by,
        "groups": None if tasks.groups is None else [list(group) for group in tasks.groups],
        "order": tasks.order if isinstance(tasks.order, str) else "by client",
        "rounds": tasks.rounds,
        "mean": {name: statistics.fmean(c["figures"][name] for c in clients.values()) for name in names},
        "std": {name: statistics.pstdev(c["figures"][name] for c in clients.values()) for name in names},
        "clients": clients,
    }
    write_json(folder.path / FILE, told)
    draw(told, folder.path / PICTURE)


def _of_client(
    world: World, turns: Turns, client: str, rounds: dict[int, dict[str, float]], last: int
) -> dict[str, Any] | None:
    """Return a client's matrix and figures; None where it was not measured at the end of each task."""
    order = turns.order[client]
    ends = [min((i + 1) * turns.rounds, last) for i in range(len(order))]
    ends[-1] = last
    if len(order) < 2 or not all(end in rounds for end in ends):
        return None
    matrix = [_accuracies(rounds[end], len(order)) for end in ends]
    within = [
        [
            row[f"task_{place}"]
            for number, row in sorted(rounds.items())
            if turns.stage(client, number) == place
        ]
        for place in range(len(order))
    ]
    untrained = untrained_accuracy(world, turns, client)
    return {
        "order": list(order),
        "matrix": matrix,
        "untrained": untrained,
        "figures": figures(matrix, untrained, within),
    }


def untrained_accuracy(world: World, turns: Turns, client: str) -> list[float]:
    """Return the accuracy of a client's first weights on each task of its order."""
    federation, shard = world.federation, world.shards[client]
    rows = "global" if federation.test is not None else "personal"
    x = (federation.test_tensors if rows == "global" else federation.own_test_tensors)(shard)[0]
    with one_thread():
        _, scores = predict(world.net(client), x)
    return _accuracies(by_task({(rows, ""): scores}, federation, shard, turns, 1), len(turns.order[client]))


def _accuracies(row: dict[str, float], tasks: int) -> list[float]:
    return [row[f"task_{place}"] for place in range(tasks)]
