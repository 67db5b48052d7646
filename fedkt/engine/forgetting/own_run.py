"""A client's own run again: from its first weights, without some rows, among what the others said then.

It costs one client's training, not everybody's. In each round the recorded contributions are fused again with
what the client says now in the place of what it said then: its own share of a teacher would bring back what
it forgets. It is not exact: the others had learned from teachers that it helped to make, so an echo stays.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fedkt.client.state import DiskStore, MemoryStore
from fedkt.client.training import one_thread
from fedkt.engine.clients.jobs import lockstep
from fedkt.engine.clients.party import Party
from fedkt.engine.forgetting.continued import Made
from fedkt.engine.loop.recording import Recorded, recorded
from fedkt.engine.world.world import World
from fedkt.errors import InputError, RunError
from fedkt.knowledge.protocol import Binding, Reply, Request
from fedkt.results.folder import read_rows
from fedkt.results.metrics import parted


def own_run(run: Path, world: World, client: str) -> Made:
    """Return a client's model after the rounds in which it took part, among the run's recorded contributions.

    ``world``: of the scenario in which the client does not hold the rows. Raises InputError where not all
    rounds were recorded.
    """
    rows = [row for row in read_rows(run / "clients.jsonl") if str(row["client"]) == client]
    mine = [row["round"] for row in rows if row["status"] == "accepted"]
    fused = {row["round"] for row in read_rows(run / "rounds.jsonl") if row["status"] == "fused"}
    records = recorded(run)
    if missing := sorted(fused - set(records)):
        raise InputError(
            f"--how own needs what made the teachers of all rounds, but {run} recorded that of "
            f"{len(records)} of {len(fused)}, not of round {missing[0]}; run with checkpoint.teachers true, "
            "or use --how replay."
        )
    looks = world.scenario.clients.guard is not None  # which decides by what it sees; else the end counts
    had, metrics = -1, dict[str, float]()
    with tempfile.TemporaryDirectory() as folder, one_thread():
        store, server = MemoryStore(DiskStore(Path(folder, "client"))), Server(world, client, Path(folder))
        for number in sorted({*mine, *records}):
            binding, said = Binding("", number, world.transfer_hash_in(number)), None
            if number in mine:
                asked_about = records[number].rows if number in records else None
                teacher, made = server.teacher(had)
                request = Request(binding, rows=asked_about, teacher=teacher, teacher_round=made)
                said, had = _answer(world, store, client, request, "train").arrays, max(had, made)
            if number in records:
                server.fuse(number, records[number], said)
            if number in mine:
                teacher, made = server.teacher(had)
                evaluate = looks or number == mine[-1]
                request = Request(binding, teacher=teacher, teacher_round=made, evaluate=evaluate)
                metrics = parted(_answer(world, store, client, request, "evaluate").metrics)[1]
                had = max(had, made)
        state = store.load(client, 2 * mine[-1] + 2) if mine else None
    if state is None:
        raise RunError(f"client {client} took part in no round of {run}.")
    return Made(state, metrics)


class Server:
    """The server of a run again, in which one client contributes something else."""

    def __init__(self, world: World, client: str, own: Path) -> None:
        self._strategy, self._client = world.strategy(world.config, world.setting("", own)), client

    def fuse(self, number: int, record: Recorded, said: Mapping[str, NDArray[Any]] | None) -> None:
        """Fuse what was contributed in a round; ``said``: by the client now, None where it was not there."""
        course, arrays = self._strategy.course, dict(record.by_client)
        if said is not None:
            arrays[self._client] = said
        course.round, course.rows = number, record.rows
        course.take(number, arrays)

    def teacher(self, had: int) -> tuple[dict[str, NDArray[Any]] | None, int]:
        """Return the client's newest teacher and its round; None and 0 unless that is after round ``had``."""
        made = self._strategy.teachers.round_of(self._client)
        teacher = self._strategy.teachers.of(self._client)
        if teacher is None or made <= had:
            return None, 0
        return {name: tensor.numpy() for name, tensor in teacher.items()}, made


def _answer(world: World, store: MemoryStore, client: str, request: Request, stage: str) -> Reply:
    party = Party(world, store, client)
    step = party.train if stage == "train" else party.evaluate
    (reply,) = lockstep([step(request, lambda _: None)])
    return reply
