"""``fedkt forget``: a run again from before something was learned, or one client's model made anew.

Everything that is not private is a function of the scenario, so a replay gives what a run would have given
in which the client was never asked, or never held these rows. It starts from the newest checkpoint before the
client was first asked; where that is no longer kept, from the beginning.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from fedkt import data
from fedkt import scenario as scenarios
from fedkt.client.state import DiskStore
from fedkt.data import Federation
from fedkt.data.identity import data_hashes
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.forgetting.asked import Asked, Forgetting, How, check_judge, checked
from fedkt.engine.forgetting.continued import go_on
from fedkt.engine.forgetting.own_run import own_run
from fedkt.engine.forgetting.student import fresh_student
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.errors import InputError
from fedkt.results.folder import LINES, RunFolder, check_data, is_run
from fedkt.results.observer import Observer
from fedkt.results.result import Result
from fedkt.scenario import Scenario

MAKE = {"own": own_run, "fresh": fresh_student}
"""How one client's model is made anew."""


@dataclass(frozen=True)
class Forgotten:
    """What came of it: the new run, the round that it began from, and the seconds that it took."""

    result: Result
    start: int
    seconds: float
    what: Forgetting
    words: str


def forget(
    run: Path,
    client: str | None,
    *,
    rows: Path | list[int] | None = None,
    label: str | None = None,
    how: How = "replay",
    judge: bool = False,
    out: Path | None = None,
    data_dir: Path | None = None,
    observer: Observer | None = None,
) -> Forgotten:
    """Make a run, or one client's model, forget; the result is another run's folder, which can go on.

    ``client``, ``rows``, ``label``, ``how``: see :class:`~fedkt.engine.forgetting.asked.Asked`; ``judge``:
    whether the result is to be judged, so that what cannot be is refused before anything runs; ``out``: the
    new run's folder (default: ``<run>-without-<client>``). The old folder stays as it is: it holds what was
    contributed until it is deleted. Raises InputError where there is nothing to forget, where the data are
    others now, and where it would not be exact or would cost the others.
    """
    if not is_run(run):
        raise InputError(f"{run} is no run's folder; it must be one that fedkt simulate made.")
    before = scenarios.load(run / "scenario.yaml")
    federation = data.build(before, data_dir)
    what = checked(Asked(client, rows, label, how), run, before, federation, data_dir)
    check_data(run, data_hashes(federation))
    if judge:
        check_judge(checked_world(before, data_dir, federation), what)
    folder = out or run.with_name(f"{run.name}-without-{_name(client, label, rows is not None)}")
    after, begun = what.scenario(before), time.monotonic()
    if how == "replay":
        start = replay(run, after, what, folder, data_dir=data_dir, observer=observer)
    else:
        world = checked_world(after, data_dir)
        made = MAKE[how](run, world, what.clients[0])
        start = go_on(run, folder, after, data_hashes(federation), {what.clients[0]: made})
        # The processes of other engines read it themselves.
        there = world.federation if after.engine.kind == "inline" else None
        simulate(after, out=folder, resume=True, data_dir=data_dir, observer=observer, federation=there)
    seconds = time.monotonic() - begun
    return Forgotten(Result(folder), start, seconds, what, what.words(federation.label_names))


def replay(
    run: Path,
    after: Scenario,
    what: Forgetting,
    folder: Path,
    *,
    data_dir: Path | None = None,
    observer: Observer | None = None,
    federation: Federation | None = None,
) -> int:
    """Run the rest of a run again as ``after`` says; return the round that it started from.

    ``federation``: the data of ``after``, where they are not what its seed makes of them; then from the
    beginning.
    """
    rounds = [] if federation is not None else checkpoint.rounds(run / "checkpoint")
    start = max((r for r in rounds if r < what.first), default=0)
    if start:
        new = RunFolder.create(folder, after, resume=False)
        try:
            _copy(run, folder, start, what.clients[0])
        finally:
            new.close()
    simulate(after, out=folder, resume=start > 0, data_dir=data_dir, observer=observer, federation=federation)
    return start


def _name(client: str | None, label: str | None, rows: bool) -> str:
    what = "rows" if rows else None if label is None else f"class-{label}"
    return "-".join(part for part in (what, client) if part is not None)


def _copy(run: Path, folder: Path, round_: int, client: str) -> None:
    """Copy what a run needs to go on after a round, of everybody but the client."""
    for name in (name for name in LINES if (run / name).is_file()):
        shutil.copy2(run / name, folder / name)
    source, target = run / "checkpoint", folder / "checkpoint"
    target.mkdir(exist_ok=True)
    shutil.copy2(checkpoint.path(source, round_), checkpoint.path(target, round_))
    states, kept = DiskStore(source / "clients"), DiskStore(target / "clients")
    for other in states.clients():
        if other != client:
            states.copy(other, 2 * round_ + 2, kept)
