"""Simulate a scenario: check it, lay out the run folder, drive the rounds, sum up."""

import os
import sys
import threading
from functools import partial
from pathlib import Path

from fedkt.engine import checkpoint
from fedkt.engine.check import checked_world
from fedkt.engine.loop import Loop
from fedkt.engine.observer import Observer, Silent
from fedkt.engine.world import Place, World
from fedkt.files import write_json
from fedkt.results.folder import RunFolder
from fedkt.results.result import Result
from fedkt.robust import Probe
from fedkt.scenario import Scenario
from fedkt.state import DiskStore, MemoryStore
from fedkt.strategy import Setting


def simulate(
    scenario: Scenario,
    *,
    out: Path | None = None,
    resume: bool = False,
    data_dir: Path | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run a scenario on this machine and return its result.

    ``out``: the run's folder (default ``runs/<name>-<time>``); ``resume``: continue the run in it;
    ``data_dir``: where data files lie (default ``$FEDKT_DATA``, else ``./data``).
    Raises InputError before anything is written, RunError if the run fails.
    """
    watcher = observer or Silent()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # so that package.module:name finds the user's own modules
    world = checked_world(scenario, data_dir)
    folder = RunFolder.create(out, scenario, resume)
    try:
        stop = threading.Event()
        loop = _loop(world, folder, watcher, stop)
        saved = checkpoint.read(folder.checkpoint)
        loop.restore(saved)
        folder.truncate(saved.round)
        write_json(folder.path / "model-input.json", _input(world))
        watcher.started(
            {
                "name": scenario.name,
                "strategy": scenario.strategy.name,
                "engine": scenario.engine.kind,
                "clients": len(world.shards),
                "rounds": scenario.rounds,
                "round": saved.round,
            }
        )
        if loop.round < scenario.rounds:
            _drive(loop, world, (folder.checkpoint / "clients").absolute(), data_dir, stop)
        summary = loop.summary()
        folder.finish(summary)
        watcher.finished(summary)
    finally:
        folder.close()
    return Result(folder.path)


def _loop(world: World, folder: RunFolder, observer: Observer, stop: threading.Event) -> Loop:
    labels, robust = world.federation.transfer_labels, world.scenario.robust
    probe = None
    if robust.filter == "probe" and labels is not None:
        probe = Probe.drawn(labels, robust.probe_rows, world.scenario.seed)
    setting = Setting(
        scenario=world.scenario,
        run=folder.run,
        dims={client: world.dims(client) for client in world.shards},
        transfer=world.transfer_hash,
        input=world.federation.input,
        federation=world.federation,
        probe=probe,
    )
    strategy = world.strategy(world.config, setting)
    return Loop(strategy, folder, observer, stop)


def _drive(loop: Loop, world: World, states: Path, data_dir: Path | None, stop: threading.Event) -> None:
    """Run the loop over the grid of the scenario's engine."""
    engine, clients = world.scenario.engine, len(world.shards)
    if engine.kind == "inline":
        from fedkt.engine.app import make_app
        from fedkt.engine.inline import InlineGrid

        store = MemoryStore(DiskStore(states))
        loop.run(InlineGrid(make_app(lambda: (world, store), raise_errors=True), clients), store.flush)
    elif engine.kind == "ray":
        from fedkt.engine.app import flush_at, resident_app
        from fedkt.engine.resident import RayGrid, ray_session, worker_count

        with ray_session(engine):
            grid = RayGrid(
                partial(resident_app, states),
                world,
                [len(shard.rows) for shard in world.shards.values()],
                workers=worker_count(engine),
                cpus=engine.cpus,
                gpus=engine.gpus,
            )
            loop.run(grid, lambda kept: grid.everywhere(partial(flush_at, states, kept)))
    else:
        from fedkt.engine import flower
        from fedkt.engine.app import at_home, make_app

        found = data_dir or (Path(os.environ["FEDKT_DATA"]) if "FEDKT_DATA" in os.environ else Path("data"))
        place = Place(world.scenario.model_dump_json(by_alias=True), str(found.absolute()), str(states))
        flower.run(loop, make_app(partial(at_home, place)), clients, engine, stop)


def _input(world: World) -> dict[str, object]:
    spec = world.federation.input
    return {
        "kind": spec.kind,
        "shape": list(spec.shape),
        "vocabulary": spec.vocabulary,
        "classes": world.federation.classes,
    }
