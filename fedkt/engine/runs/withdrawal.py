"""Withdrawal: a run again without one client, from before it took part.

Everything that is not private is a function of the scenario, so a replay gives what a run would have given
in which the client was never asked. It starts from the newest checkpoint before the client was first asked;
where that is no longer kept, from the beginning.
"""

import shutil
from pathlib import Path

from fedkt import data
from fedkt import scenario as scenarios
from fedkt.client.state import DiskStore
from fedkt.data.identity import data_hashes
from fedkt.engine.loop import checkpoint
from fedkt.engine.runs.run import simulate
from fedkt.errors import InputError
from fedkt.registry import find
from fedkt.results.folder import LINES, RunFolder, check_data, is_run, read_rows
from fedkt.results.observer import Observer
from fedkt.results.result import Result
from fedkt.scenario import Scenario


def forget(
    run: Path,
    client: str,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    observer: Observer | None = None,
) -> tuple[Result, int]:
    """Run the rest of a run again without a client; return the result and the round that it started from.

    ``out``: the new run's folder (default: ``<run>-without-<client>``). The old folder stays as it is: it
    holds what the client contributed until it is deleted. Raises InputError where there is nothing to
    forget, where the data are others now, and where a replay would not be exact or would cost the others.
    """
    if not is_run(run):
        raise InputError(f"{run} is no run's folder; it must be one that fedkt simulate made.")
    before = scenarios.load(run / "scenario.yaml")
    first = first_asked(run, client)
    _refuse(run, before, client)
    folder = out or run.with_name(f"{run.name}-without-{client}")
    after = _without(before, client, first)
    start = max((r for r in checkpoint.rounds(run / "checkpoint") if r < first), default=0)
    check_data(run, data_hashes(data.build(after, data_dir)))
    new = RunFolder.create(folder, after, resume=False)
    try:
        if start:
            _copy(run, folder, start, client)
    finally:
        new.close()
    return simulate(after, out=folder, resume=True, data_dir=data_dir, observer=observer), start


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


def _refuse(run: Path, scenario: Scenario, client: str) -> None:
    mode, name = scenario.privacy.mode, scenario.strategy.name
    if mode != "none":
        raise InputError(
            f"{run} was trained with privacy.mode '{mode}': a replay would spend the others' budgets again; "
            f"start a new run in which client '{client}' has no part."
        )
    if "data" in find("strategies", name).shares:
        raise InputError(
            f"strategy '{name}' pools all data in one place; a replay cannot leave a client out."
        )


def _without(scenario: Scenario, client: str, first: int) -> Scenario:
    part = scenario.participation
    withdrawn = {**part.withdrawn, client: first}
    return scenario.model_copy(update={"participation": part.model_copy(update={"withdrawn": withdrawn})})


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
