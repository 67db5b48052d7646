"""States and checkpoints that a thread writes while the next round trains."""

import errno
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import fedkt
from fedkt.cli import app
from fedkt.client.state import ClientState, DiskStore, MemoryStore
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.errors import InputError, RunError
from fedkt.files import Aside
from fedkt.results.observer import Silent
from tests.engine.test_engine import final_states, rows
from tests.engine.test_reliability import SMALL, run


def state(value: float) -> ClientState:
    return ClientState({"w": torch.full((10,), value)})


class Gate:
    """Lets a store's writes begin, and hold them until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        write = MemoryStore._write

        def gated(*args: Any) -> None:
            self.reached.set()
            assert self.open.wait(60)
            write(*args)

        monkeypatch.setattr(MemoryStore, "_write", gated)


def values(store: MemoryStore | DiskStore, client: str, below: int) -> list[float]:
    found = store.load(client, below)
    return [] if found is None else found.tensors["w"][:1].tolist()


def test_what_is_saved_meanwhile_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, disk = Gate(monkeypatch), DiskStore(tmp_path)
    store = MemoryStore(disk)
    store.save("a", 3, state(1.0), 0)
    store.flush(0)
    assert gate.reached.wait(60) and values(disk, "a", 9) == []  # nobody waits
    store.save("a", 4, state(2.0), 0)
    gate.open.set()
    store.written()
    assert values(disk, "a", 9) == [1.0] and values(store, "a", 9) == [2.0]
    store.flush(0)
    store.written()
    assert values(disk, "a", 9) == [2.0] and values(disk, "a", 4) == [1.0]


def test_a_state_on_its_way_to_disk_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, disk = Gate(monkeypatch), DiskStore(tmp_path)
    store = MemoryStore(disk, limit=40)
    store.save("a", 3, state(1.0), 0)
    store.flush(0)
    moved = store.give("a")
    assert moved is not None and not moved.saved  # it is not there yet, so it is written where it goes to
    store.take("a", moved._replace(saved=True))
    threading.Timer(0.1, gate.open.set).start()
    store.save("b", 3, state(2.0), 0)  # puts a out of memory, which waits until it can be read again
    assert values(store, "a", 9) == [1.0] and gate.open.is_set()
    store.flush(0)
    store.written()
    moved = store.give("b")
    assert moved is not None and moved.saved


def test_a_job_aside_raises_where_it_is_waited_for() -> None:
    aside = Aside()
    aside.wait()
    aside.begin(lambda: [][0])
    for _ in range(2):
        with pytest.raises(IndexError):
            aside.wait()
    with pytest.raises(IndexError):
        aside.begin(lambda: None)
    assert not aside.busy


@pytest.mark.parametrize("where", ["states", "checkpoint"])
def test_a_disk_that_fills_in_the_background_leaves_the_last_complete_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    run(tmp_path / "whole")
    full = OSError(errno.ENOSPC, "No space left on device")
    state_of, server_of = DiskStore.write, checkpoint.write

    def of_states(self: DiskStore, client: str, version: int, *rest: Any, **more: Any) -> None:
        if version == 5 and client == "2":  # round 2, one of its last
            raise full
        state_of(self, client, version, *rest, **more)

    def of_server(folder: Path, round_: int, content: bytes) -> None:
        if round_ == 2:
            raise full
        server_of(folder, round_, content)

    with monkeypatch.context() as patch:
        if where == "states":
            patch.setattr(DiskStore, "write", of_states)
        else:
            patch.setattr(checkpoint, "write", of_server)
        with pytest.raises(RunError, match=r"run cannot be written \(No space left on device\)"):
            run(tmp_path / "run")
    assert checkpoint.rounds(tmp_path / "run" / "checkpoint") == [1]
    assert checkpoint.read(tmp_path / "run" / "checkpoint").round == 1
    run(tmp_path / "run", resume=True)
    assert final_states(tmp_path / "run") == final_states(tmp_path / "whole")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


class StopsAfter(Silent):
    def __init__(self, round_: int) -> None:
        self.round = round_

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        if row["round"] == self.round:
            raise KeyboardInterrupt


def test_checkpoints_every_n_rounds(tmp_path: Path) -> None:
    run(tmp_path / "each", rounds=5)
    described = fedkt.scenario.load({**SMALL, "rounds": 5, "checkpoint": {"every": 2}})
    with pytest.raises(KeyboardInterrupt):
        simulate(described, out=tmp_path / "run", observer=StopsAfter(3))
    folder = tmp_path / "run" / "checkpoint"
    assert checkpoint.rounds(folder) == [2]
    assert {file.name for file in folder.glob("clients/*/*.safetensors")} == {"00000005.safetensors"}
    simulate(described, out=tmp_path / "run", resume=True)
    assert checkpoint.rounds(folder) == [4, 5]  # the last round always has one
    assert final_states(tmp_path / "run") == final_states(tmp_path / "each")
    assert rows(tmp_path / "run") == rows(tmp_path / "each")


def test_checkpoints_every_0_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.every is 0; it must be"):
        fedkt.scenario.load({**SMALL, "checkpoint": {"every": 0}})
    done = CliRunner().invoke(
        app, ["simulate", "quickstart", "--set", "checkpoint.every=0", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 2 and not (tmp_path / "run").exists()
