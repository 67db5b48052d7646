"""Simulate a scenario: check it, lay out the run folder, drive the rounds, sum up."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING

from fedkt.data.federation import Federation
from fedkt.data.identity import changed, data_hashes
from fedkt.data.raw import described
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients import trial
from fedkt.engine.clients.cohorts import Plan
from fedkt.engine.loop import checkpoint
from fedkt.engine.loop.board_loop import BoardLoop
from fedkt.engine.loop.loop import Loop
from fedkt.engine.loop.plug_in import plug_in
from fedkt.engine.runs.drifted import sum_up_drift
from fedkt.engine.runs.sequenced import sum_up_tasks
from fedkt.engine.runs.summed import sum_up_clients, write_examples
from fedkt.engine.runtimes.flwr_internals import seats
from fedkt.engine.world.private import privacy_notes
from fedkt.engine.world.traffic import parties
from fedkt.engine.world.unused import settings_notes
from fedkt.engine.world.world import Place, World
from fedkt.errors import InputError, RunError
from fedkt.files import write_json
from fedkt.results.folder import RunFolder, rounds_of
from fedkt.results.observer import Observer, Silent
from fedkt.results.result import Result
from fedkt.scenario import Scenario

if TYPE_CHECKING:
    from fedkt.engine.runtimes.wires import Session

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
"""What the system says of a disk that is full, and of a folder that is not ours to write."""


def simulate(
    scenario: Scenario,
    *,
    out: Path | None = None,
    resume: bool = False,
    data_dir: Path | None = None,
    observer: Observer | None = None,
    expected: Mapping[str, str] | None = None,
    hurry: bool = False,
    federation: Federation | None = None,
) -> Result:
    """Run a scenario on this machine and return its result.

    ``out``: the run's folder (default ``runs/<name>-<time>``); ``resume``: continue the run in it;
    ``data_dir``: where data files lie (default ``$FEDKT_DATA``, else ``./data``); ``expected``: the hashes
    that the data must have (:func:`~fedkt.data.identity.data_hashes`).
    ``hurry``: this process does nothing else and ends once the run is told of, so what clients live in starts
    while the scenario is still checked, and nobody waits until it is gone. ``federation``: the data, where
    they are not what the scenario's seed makes of them; not with engine flower, whose processes make their
    own. Raises InputError before anything is written, RunError if the run fails.
    """
    with _host(scenario, hurry) as session:
        watcher = observer or Silent()
        return _simulated(scenario, out, resume, data_dir, watcher, expected, session, federation)


@contextmanager
def _host(scenario: Scenario, hurry: bool) -> "Iterator[Session | None]":
    """Have what clients of several processes live in; in a hurry Ray begins to start at once."""
    from fedkt.engine.clients.app import prepare

    if scenario.engine.kind == "ray":
        from fedkt.engine.runtimes.cluster import begun
        from fedkt.engine.runtimes.ray_hosts import host

        with begun(scenario.engine, partial(host, scenario.engine, prepare), hurry=hurry) as session:
            yield session
    elif scenario.engine.kind == "processes":
        from fedkt.engine.runtimes.forked import ForkedSession

        with closing(ForkedSession(scenario.engine, prepare)) as session:
            yield session
    else:
        yield None


def _simulated(
    scenario: Scenario,
    out: Path | None,
    resume: bool,
    data_dir: Path | None,
    watcher: Observer,
    expected: Mapping[str, str] | None,
    session: "Session | None",
    federation: Federation | None,
) -> Result:
    begun = time.monotonic()
    world = checked_world(scenario, data_dir, federation)
    scenario = world.scenario
    if session is not None:
        session.begin(world)
    if scenario.engine.kind == "ray" and scenario.engine.address is not None:
        from fedkt.engine.runtimes.cluster import knock

        knock(scenario.engine)  # before there is a folder
    if resume and out is not None:
        _check_longer(out, world)
    hashes = data_hashes(world.federation)
    if expected and (others := changed(expected, hashes)):
        raise InputError(f"{' and '.join(others)} changed meanwhile; restore the data, or begin anew.")
    folder = RunFolder.create(out, scenario, resume, data=hashes)
    try:
        stop = threading.Event()
        loop = _loop(world, folder, watcher, stop, begun)
        saved = checkpoint.read(folder.checkpoint, scenario.rounds * loop.visits)
        loop.restore(saved)
        folder.truncate(loop.round)
        write_json(folder.path / "model-input.json", described(world.federation, scenario.data))
        write_json(folder.path / "federation.json", parties(world))
        watcher.started(
            {
                "name": scenario.name,
                "strategy": scenario.strategy.name,
                "engine": scenario.engine.kind,
                "clients": len(world.shards),
                "rounds": scenario.rounds,
                "round": loop.round,
                "metric": world.federation.task.metric.told(),
            }
        )
        for note in (*world.federation.notes, *privacy_notes(world), *settings_notes(world)):
            watcher.noted(note)
        if not loop.over:
            (folder.path / "summary.json").unlink(missing_ok=True)  # of a run that had fewer rounds
            plan = Plan.read(saved.engine) if saved.engine else None
            if plan is not None and plan.sizes and scenario.engine.kind == "flower":
                raise InputError(
                    f"{folder.path} was trained in cohorts, which engine flower cannot do; resume it with "
                    "engine ray or inline."
                )
            _drive(loop, world, (folder.checkpoint / "clients").absolute(), data_dir, stop, plan, session)
        if session is not None:
            session.end()  # while the run is summed up
        summary = loop.summary()
        sum_up_clients(world, folder, loop.round)
        sum_up_tasks(world, folder, loop.round)
        sum_up_drift(world, folder)
        folder.finish(summary)
        write_examples(world, folder)
        watcher.finished(summary)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        raise RunError(
            f"{folder.path} cannot be written ({error.strerror}); what is done is kept: "
            "make room, or writable, and continue with --resume."
        ) from error
    finally:
        folder.close()
    return Result(folder.path)


def _check_longer(run: Path, world: World) -> None:
    """Raise InputError where a run cannot go on for more rounds as if it had been begun with them."""
    before, now = rounds_of(run), world.scenario.rounds
    if before is None or before >= now:
        return
    scenario = world.scenario
    why = {
        "privacy.target_epsilon was spread over them": scenario.privacy.target_epsilon is not None,
        "churn.leavers were drawn over them": scenario.churn.leavers > 0,
        f"strategy '{scenario.strategy.name}' weighs by the share that is done": world.strategy.counts_rounds,
    }
    for reason in (reason for reason, holds in why.items() if holds):
        raise InputError(
            f"{run} was begun with {before} rounds and {reason}, so {now} cannot continue it; "
            "start a new run."
        )


def _loop(world: World, folder: RunFolder, observer: Observer, stop: threading.Event, begun: float) -> Loop:
    setting = replace(
        world.setting(folder.run, folder.checkpoint / "server"),
        churn=world.churn,
        hostile=frozenset(world.hostile),
    )
    with plug_in(folder.path, f"strategy '{world.scenario.strategy.name}' failed before the first round"):
        strategy = world.strategy(world.config, setting)
    kind = BoardLoop if world.scenario.engine.kind == "board" else Loop
    return kind(strategy, folder, observer, stop, begun)


def _drive(
    loop: Loop,
    world: World,
    states: Path,
    data_dir: Path | None,
    stop: threading.Event,
    plan: Plan | None,
    session: "Session | None",
) -> None:
    """Run the loop over the grid of the scenario's engine; ``plan``: the one of the run that is resumed."""
    engine, clients = world.scenario.engine, len(world.shards)
    if engine.kind != "flower":  # whose nodes have numbers of its own
        loop.strategy.course.asking.seat(seats(world.names))
    if engine.kind == "flower":
        from fedkt.engine.clients.app import at_home, make_app
        from fedkt.engine.runtimes import flower
        from fedkt.engine.runtimes.cluster import by_value

        found = data_dir or (Path(os.environ["FEDKT_DATA"]) if "FEDKT_DATA" in os.environ else Path("data"))
        hashes = tuple(data_hashes(world.federation).items())
        text = world.scenario.model_dump_json(by_alias=True)
        given = by_value(world.given) if world.given else b""
        place = Place(text, str(found.absolute()), str(states), hashes, given)
        flower.run(loop, make_app(partial(at_home, place)), clients, engine, stop)
    elif engine.kind in ("inline", "board"):
        from fedkt.engine.clients.app import ResidentApp
        from fedkt.engine.runtimes.inline import InlineGrid

        begin = plan or Plan(trial.units(world, 1))
        # A client's failure costs its reply, as on every engine; who looks for its cause may stop there.
        app = ResidentApp(world, states, begin, raise_errors=os.environ.get("FEDKT_DEBUG") == "1")
        alone = engine.kind == "board"  # clients come one by one, so there are no cohorts
        chosen = plan or (begin if alone else _told(app.choose(), loop.observer))

        def flushed(kept: int) -> tuple[dict[str, object], Callable[[], bool]]:
            return _noted(chosen, [app.flush(kept)]), app.written

        loop.run(InlineGrid(app, clients), flushed)
    else:
        from fedkt.engine.clients.app import resident_app
        from fedkt.engine.runtimes.resident import ResidentGrid

        assert session is not None
        workers = session.workers()
        begin = plan or Plan(trial.units(world, workers))
        number = {client: i for i, client in enumerate(world.names)}
        units = [[number[client] for client in unit] for unit in begin.units]
        grid = ResidentGrid(
            partial(resident_app, states, begin, 1 / workers),
            [len(shard.rows) for shard in world.shards.values()],
            session.hosts(world),
            workers=workers,
            units=units,
            remember=True,
        )
        with closing(grid):
            chosen = plan or _told(grid.somewhere(methodcaller("choose")), loop.observer)
            if chosen is not begin:
                grid.make = partial(resident_app, states, chosen, 1 / workers)
                grid.everywhere(methodcaller("follow", chosen))
            # A cohort is cut from those who live together, so who may be in one does not move alone.
            grid.bind([u for u in units if world.architecture(world.names[u[0]]) in chosen.sizes])

            def flush(kept: int) -> tuple[dict[str, object], Callable[[], bool]]:
                sizes, written = grid.saved(methodcaller("flush", kept), methodcaller("written"))
                return _noted(chosen, sizes), written

            loop.run(grid, flush)


def _told(plan: Plan, observer: Observer) -> Plan:
    for text in plan.notes:
        observer.noted(text)
    return plan


def _noted(plan: Plan, sizes: Sequence[Mapping[str, int]]) -> dict[str, object]:
    """Return the plan for the checkpoint, with the sizes to which cohorts shrank."""
    least = {key: min((s.get(key, most) for s in sizes), default=most) for key, most in plan.sizes.items()}
    return {**vars(plan), "sizes": least}
