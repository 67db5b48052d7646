"""A client's own run again: from its first weights, without some rows, on the teachers that were recorded.

It costs one client's training, not everybody's. It is not exact: the recorded teachers were made while the
client still held what it forgets, so an echo of it stays.
"""

import tempfile
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedkt.client.state import DiskStore, MemoryStore
from fedkt.client.training import one_thread
from fedkt.engine.clients.jobs import lockstep
from fedkt.engine.clients.party import Party
from fedkt.engine.forgetting.continued import Made
from fedkt.engine.loop.recording import recorded
from fedkt.engine.world.world import World
from fedkt.errors import InputError, RunError
from fedkt.knowledge.protocol import Binding, Request
from fedkt.results.folder import read_rows
from fedkt.results.metrics import parted
from fedkt.strategy.rounds.teachers import Teachers


def own_run(run: Path, world: World, client: str) -> Made:
    """Return a client's model after the rounds in which it took part, on the run's recorded teachers.

    ``world``: of the scenario in which the client does not hold the rows. Raises InputError where not all
    teachers were recorded.
    """
    rows = [row for row in read_rows(run / "clients.jsonl") if str(row["client"]) == client]
    mine = [row["round"] for row in rows if row["status"] == "accepted"]
    fused = {row["round"] for row in read_rows(run / "rounds.jsonl") if row["status"] == "fused"}
    teachers = recorded(run)
    if missing := sorted(fused - set(teachers)):
        raise InputError(
            f"--how own needs the teachers of all rounds, but {run} recorded those of {len(teachers)} of "
            f"{len(fused)}, not of round {missing[0]}; run with checkpoint.teachers true, or use --how "
            "replay."
        )
    version, had = 0, -1
    looks = world.scenario.clients.guard is not None  # which decides by what it sees; else the end counts
    metrics: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, one_thread():
        store = MemoryStore(DiskStore(Path(folder)))
        for number in mine:
            binding = Binding("", number, world.transfer_hash_in(number))
            missed = max((r for r in teachers if had < r < number), default=None)
            request = Request(binding, teacher_round=0)
            if missed is not None and (told := _of(teachers[missed], client)):
                request, had = Request(binding, teacher=told, teacher_round=missed), missed
            _answer(world, store, client, request, "train")
            told = _of(teachers[number], client) if number in teachers else None
            made = number if told else 0
            request = Request(binding, teacher=told, teacher_round=made, evaluate=looks or number == mine[-1])
            metrics = _answer(world, store, client, request, "evaluate")
            had, version = (number if told else had), 2 * number + 2
        state = store.load(client, version)
    if state is None:
        raise RunError(f"client {client} took part in no round of {run}.")
    return Made(state, metrics)


def _of(teachers: Teachers, client: str) -> dict[str, NDArray[Any]] | None:
    teacher = teachers.of(client)
    return None if teacher is None else {name: tensor.numpy() for name, tensor in teacher.items()}


def _answer(world: World, store: MemoryStore, client: str, request: Request, stage: str) -> dict[str, float]:
    party = Party(world, store, client)
    step = party.train if stage == "train" else party.evaluate
    (reply,) = lockstep([step(request, lambda _: None)])
    return parted(reply.metrics)[1]
