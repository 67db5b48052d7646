"""``drift.json``: by class and site how well the newest and older models do, and where the alarm was given.

An older model is the site's own after it digested the teacher of a round that ``checkpoint.keep`` kept. All
are counted on the same rows: those that the site sets aside, ``now`` (of tasks in sequence those of its
task at the end), and after an alarm also those that it had before, ``then``. Where an older one does better
on the rows of now, what came down since then did harm, and going back helps. Where it does so on those of
then alone, the site's rows have changed: going back helps if the change was a fault that is mended, else it
does harm.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedkt.client.lessons import watching
from fedkt.client.state import DiskStore
from fedkt.client.training import one_thread, predict
from fedkt.drawing import blank, write_picture
from fedkt.engine.loop.best import STAYS
from fedkt.engine.world.world import World
from fedkt.files import write_json
from fedkt.results.folder import RunFolder, read_rows

FILE, PICTURE = "drift.json", "drift.png"


def sum_up_drift(world: World, folder: RunFolder) -> None:
    """Write ``drift.json`` and its picture, where the scenario watches for drift."""
    rule = world.scenario.drift
    if rule is None:
        return
    lines = read_rows(folder.path / "rounds.jsonl")
    rounds = {row.get("visits", row["round"]): row["round"] for row in lines}
    kept = {
        rounds[int(path.name)]: path
        for path in sorted((folder.checkpoint / STAYS).glob("[0-9]*"))
        if int(path.name) in rounds
    }
    last = max(rounds, default=0)
    clients = {
        client: _of_client(world, client, folder.checkpoint, kept, last)
        for client in world.names
        if watching.read(folder.checkpoint / "clients" / client)
    }
    if not clients:
        return
    told = {"rule": rule.model_dump(), "classes": world.federation.classes, "clients": clients}
    write_json(folder.path / FILE, told)
    draw(told, folder.path / PICTURE)


def _of_client(
    world: World, client: str, checkpoint: Path, kept: Mapping[int, Path], last: int
) -> dict[str, Any]:
    rule = world.scenario.drift
    assert rule is not None
    history = watching.read(checkpoint / "clients" / client)
    accuracy, rows = watching.totals(history)
    seen = [its["round"] for its in history]
    given = [n for n, alarm in zip(seen, watching.alarms(accuracy, rows, rule), strict=True) if alarm]
    found: dict[str, Any] = {
        "rounds": seen,
        "accuracy": accuracy,
        "rows": rows,
        "by_class": [_shares(its["right"], its["rows"]) for its in history],
        "alarms": given,
    }
    stores = {str(number): DiskStore(path) for number, path in kept.items()}
    newest = DiskStore(checkpoint / "clients")
    at = {"now": seen[-1]}
    if given:
        at["then"] = seen[seen.index(given[0]) - rule.lasting]
    for when, round_ in at.items():
        older = {
            n: its for n, store in stores.items() if (its := _stands(world, client, store, last, round_))
        }
        its = _stands(world, client, newest, last, round_)
        best = max(older, key=lambda n: (older[n]["accuracy"], int(n)), default=None)
        helps = (
            its is not None and best is not None and older[best]["accuracy"] > its["accuracy"] + rule.least
        )
        found[when] = {"newest": its, "older": older, "go_back_to": int(best) if best and helps else None}
    return found


def _stands(world: World, client: str, store: DiskStore, last: int, round_: int) -> dict[str, Any] | None:
    """Return how well a kept model does, in all and by class, on the rows that the site had in a round."""
    state = store.load(client, below=2 * last + 2)
    if state is None:
        return None
    shard, federation = world.shards[client], world.federation
    net = world.net(client)
    net.load_state_dict(state.part("model"), strict=False)
    x, y = federation.validation_tensors(shard)
    if world.turns is not None:
        its = torch.from_numpy(world.turns.holds(client, shard.validation, round_))
        x, y = x[its], y[its]
    with one_thread():
        _, scores = predict(net, x)
    right = federation.task.goodness(scores, y)
    counts = (torch.bincount(part, minlength=federation.classes).tolist() for part in (y[right > 0], y))
    return {"accuracy": float(right.float().mean()), "by_class": _shares(*counts)}


def _shares(right: Sequence[int], rows: Sequence[int]) -> list[float | None]:
    """Return accuracies by class, None where there are no rows of one."""
    return [r / n if n else None for r, n in zip(right, rows, strict=True)]


def draw(told: Mapping[str, Any], path: Path) -> None:
    """Draw accuracy per round and site with the alarms, and by site and class the newest against an older
    model: that of the last kept round before the first alarm, else of the first one; as PNG."""
    clients = told["clients"]
    kept = sorted({int(number) for its in clients.values() for number in its["now"]["older"]})
    figure = blank(10 if kept else 6.4, 3.8)
    panels = figure.subplots(1, 2, width_ratios=(3, 2)) if kept else [figure.subplots()]
    for client, its in clients.items():
        alarmed = bool(its["alarms"])
        colour, width = ("#c8550b", 1.1) if alarmed else ("#9aa3a8", 0.6)
        panels[0].plot(its["rounds"], its["accuracy"], zorder=2 + alarmed, color=colour, linewidth=width)
        for number in its["alarms"]:
            value = its["accuracy"][its["rounds"].index(number)]
            panels[0].plot(number, value, marker="v", color="k", zorder=5)
            panels[0].annotate(client, (number, value), textcoords="offset points", xytext=(4, 4), fontsize=8)
    panels[0].set(xlabel="round", ylabel="accuracy on the rows set aside")
    panels[0].set_title("each site; alarms are marked", loc="left", fontsize=10)
    if kept:
        first = min((n for its in clients.values() for n in its["alarms"]), default=None)
        before = max((n for n in kept if first is None or n < first), default=kept[0])
        _draw_classes(panels[1], clients, before)
    write_picture(figure, path)


def _draw_classes(axes: Any, clients: Mapping[str, Any], before: int) -> None:
    """Draw, by site and class, the newest model's accuracy less that of an older one on the same rows."""
    grid = []
    for its in clients.values():
        newest = its["now"]["newest"]["by_class"]
        older = its["now"]["older"].get(str(before), its["now"]["newest"])["by_class"]
        pairs = zip(newest, older, strict=True)
        grid.append([float("nan") if now is None or was is None else now - was for now, was in pairs])
    axes.imshow(grid, vmin=-1, vmax=1, cmap="RdBu", aspect="auto")
    axes.set_yticks(range(len(clients)), list(clients), fontsize=8)
    axes.set(xlabel="class", ylabel="site")
    axes.set_title(f"newest less round {before}, on the rows of now", loc="left", fontsize=10)
