"""What is to be forgotten, and by whom: checked against the run before anything is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedkt.client.lessons.blocking import maskable
from fedkt.data import Federation
from fedkt.data.content.withheld import class_numbers, read_rows_of, shown
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.registry import find
from fedkt.results.folder import read_rows
from fedkt.scenario import Scenario
from fedkt.strategy.own_settings import behaviour_of

How = Literal["replay", "own", "fresh"]


@dataclass(frozen=True)
class Asked:
    """A wish to be forgotten, as the command names it.

    ``client``: whose rows, or who is never to know the class; None, with ``label`` only: everybody; ``rows``:
    a file with numbers of its rows, or these numbers; ``label``: a class, its number or name. With neither
    all that the client contributed.
    """

    client: str | None
    rows: Path | Sequence[int] | None = None
    label: str | None = None
    how: How = "replay"


@dataclass(frozen=True)
class Forgetting:
    """A wish that was checked: ``clients`` whose models must change by themselves, their ``rows`` (numbers of
    the federation's pool) and the ``label`` (None: no class) that are to be forgotten, and ``how``;
    ``first``: the round from which the run is another one."""

    clients: tuple[str, ...]
    rows: NDArray[np.int64]
    label: int | None
    how: How
    first: int
    whole: bool
    """Whether the client itself leaves."""

    def scenario(self, before: Scenario) -> Scenario:
        """Return the scenario of the run in which this was never learned."""
        part, held = before.participation, self.rows.tolist()
        if self.whole:
            changed: dict[str, Any] = {"withdrawn": {**part.withdrawn, self.clients[0]: self.first}}
        elif self.label is not None:
            blocked = {name: (*part.blocked.get(name, ()), self.label) for name in self.clients}
            changed = {"blocked": {**part.blocked, **blocked}}
        else:
            (client,) = self.clients
            earlier = part.withdrawn_rows.get(client, ())
            known = read_rows_of(earlier, None).tolist() if isinstance(earlier, str) else earlier
            changed = {"withdrawn_rows": {**part.withdrawn_rows, client: (*known, *held)}}
        return before.model_copy(update={"participation": part.model_copy(update=changed)})

    def words(self, names: Sequence[str] | None) -> str:
        """Say what is forgotten; ``names``: of the classes, where they have some."""
        who = f"client {self.clients[0]}" if len(self.clients) == 1 else "all clients"
        if self.label is not None:
            named = f" ({names[self.label]})" if names is not None else ""
            return f"class {self.label}{named} at {who}"
        return f"{who} and all it contributed" if self.whole else f"{len(self.rows)} rows of {who}"


def checked(
    asked: Asked, run: Path, scenario: Scenario, federation: Federation, data_dir: Path | None
) -> Forgetting:
    """Return what is to be forgotten. Raises InputError where that cannot be done, or is nothing.

    ``scenario``, ``federation``: the run's, and its data.
    """
    if asked.rows is not None and asked.label is not None:
        raise InputError("--rows and --class are both given; forget one, then the other.")
    if asked.client is None and asked.label is None:
        raise InputError("--client is missing; only a class (--class) can be forgotten by everybody.")
    if asked.client is None and asked.how != "replay":
        raise InputError(
            f"--how {asked.how} makes one client forget; name it with --client, or replay the run for "
            "everybody."
        )
    shards = {shard.id: shard for shard in federation.shards}
    first = 1 if asked.client is None else first_asked(run, asked.client)
    clients = tuple(shards) if asked.client is None else (asked.client,)
    _refuse(run, scenario, asked)
    held = {name: np.concatenate([shards[name].rows, shards[name].validation]) for name in clients}
    if asked.label is not None:
        (label,) = class_numbers([asked.label], federation.classes, federation.label_names, "--class")
        if not federation.counts()[:, label].any():
            raise InputError(
                f"--class is {asked.label}, but nobody holds a row of it; there is nothing to forget."
            )
        rows = np.sort(np.concatenate(list(held.values())))
        rows = rows[federation.pool.y[rows] == label]
        return Forgetting(clients, rows, label, asked.how, first, whole=False)
    (client,) = clients
    if asked.rows is None:
        if asked.how != "replay":
            raise InputError(
                f"--how {asked.how} makes a client forget some of what it knows; a client that leaves is "
                "forgotten "
                "by the others, by --how replay."
            )
        return Forgetting(clients, np.sort(held[client]), None, asked.how, first, whole=True)
    given = asked.rows
    rows = (
        read_rows_of(str(given), data_dir)
        if isinstance(given, Path)
        else np.unique(np.array(given, np.int64))
    )
    if len(other := np.setdiff1d(rows, held[client])):
        raise InputError(
            f"--rows names {shown(other)}, which {'is' if len(other) == 1 else 'are'} not among the "
            f"{len(held[client])} rows of client '{client}' in {run}."
        )
    return Forgetting(clients, rows, None, asked.how, first, whole=False)


def first_asked(run: Path, client: str) -> int:
    """Return the first round in which a client was asked to train. Raises InputError where there is none."""
    rows = read_rows(run / "clients.jsonl")
    asked: list[int] = [
        row["round"] for row in rows if str(row["client"]) == client and row["status"] != "idle"
    ]
    if not asked:
        known = sorted({str(row["client"]) for row in rows})
        raise InputError(
            f"client '{client}' took no part in {run}, so there is nothing to forget; "
            f"those who did are {', '.join(known)}."
        )
    return min(asked)


def check_judge(world: World, what: Forgetting) -> None:
    """Raise InputError where nothing can be judged; ``world``: of the run in which all was still known."""
    if world.scenario.data.task != "classification":
        raise InputError(
            f"--judge measures accuracy of classes, but data.task is {world.scenario.data.task}; leave it "
            "out."
        )
    if world.federation.test is None and any(world.shards[c].test is None for c in world.names):
        raise InputError("--judge compares models on test rows, and there are none.")
    if what.whole and len(world.names) == 1:
        raise InputError("--judge looks at those who stay, and there is nobody else.")
    fitted = [client for client in what.clients if what.label is not None and world.refits(client)]
    if fitted:
        raise InputError(
            f"--judge teaches models the class again step by step, but that of client '{fitted[0]}' is an "
            "estimator, which knows no steps; leave it out."
        )


def _refuse(run: Path, scenario: Scenario, asked: Asked) -> None:
    """Raise InputError where forgetting would not be what it says, or would cost the others."""
    if scenario.engine.kind == "board":
        raise InputError(
            f"{run} was made on a board, where the order of all visits follows from who comes; forgetting "
            "repeats rounds, so it needs a run with them."
        )
    mode, name, client = scenario.privacy.mode, scenario.strategy.name, asked.client
    strategy = find("strategies", name)
    if mode != "none":
        raise InputError(
            f"{run} was trained with privacy.mode '{mode}': a replay would spend the others' budgets "
            "again, and a "
            f"client's own run again its own; start a new run in which client '{client}' has no part."
        )
    if "data" in strategy.shares:
        raise InputError(
            f"strategy '{name}' pools all data in one place; a replay cannot leave a client out."
        )
    if asked.how != "replay" and {"weights", "features"} & set(strategy.shares):
        raise InputError(
            f"strategy '{name}' shares {' and '.join(strategy.shares)}, so others' models hold what the "
            "client "
            f"learned as its own does; --how {asked.how} forgets nothing there, --how replay does."
        )
    if scenario.data.task != "classification" and (asked.label is not None or asked.how == "fresh"):
        raise InputError(
            f"--class and --how fresh speak of one class per row, but data.task is {scenario.data.task}; "
            "forget "
            "rows or a client by a replay."
        )
    if asked.label is not None and not maskable(behaviour_of(strategy, scenario.data).accepts):
        raise InputError(
            f"no class can be taken out of the teachers of strategy '{name}', so it would come back with "
            "the next "
            "one; forget its rows with --rows."
        )
    if asked.how == "fresh" and scenario.data.transfer is None:
        raise InputError(
            "--how fresh teaches a new model on the transfer set, but the scenario has no data.transfer; "
            "--how replay needs none."
        )
