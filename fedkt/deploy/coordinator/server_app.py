"""The Flower ``ServerApp`` at the coordinator: greet the sites, then the round loop that every engine runs.

It keeps a run's folder of its own under ``$FEDKT_COORDINATOR`` (else ``fedkt`` in Flower's home), by the
run's id, with the checkpoint from which a later Flower run of the same invitation goes on.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedkt.data.made.stock import Stock, stock_for
from fedkt.deploy.coordinator.events import EventLines, tell
from fedkt.deploy.coordinator.reception import Reception, alike_made, fitting
from fedkt.deploy.coordinator.site_grid import SiteGrid
from fedkt.deploy.wire.hello import Facts
from fedkt.deploy.wire.invitation import Invitation
from fedkt.deploy.wire.refusal import Refused
from fedkt.errors import FedktError, InputError, RunError
from fedkt.files import write_json
from fedkt.knowledge.contributions import client_order
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy
from fedkt.strategy.rounds.given import Setting
from fedkt.tasks import task_of

ROSTER = "roster.json"


def server_app(invitation: str) -> ServerApp:
    """Build the app of a coordinator with this invitation (its text)."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            coordinate(grid, Invitation.read(invitation), home())
        except FedktError as error:
            tell("failed", problem=str(error))
            raise

    return app


def home() -> Path:
    """Return where the coordinator keeps its runs."""
    from flwr.supercore.utils import get_flwr_home

    named = os.environ.get("FEDKT_COORDINATOR")
    return Path(named) if named else Path(get_flwr_home()) / "fedkt"


def coordinate(grid: Grid, invitation: Invitation, folder: Path) -> None:
    """Run a scenario over the sites behind a grid; continue where a run of this invitation stopped."""
    from fedkt.engine.checks.method_checks import checked_method
    from fedkt.engine.loop import checkpoint
    from fedkt.engine.loop.loop import Loop
    from fedkt.results.folder import RunFolder, is_run

    scenario = invitation.checked()
    kind, config = checked_method(scenario)
    path = folder / invitation.run
    run = RunFolder.create(path, scenario, resume=is_run(path), run=invitation.run)
    try:
        reception = Reception(grid, _tell_refusal)
        roster = _roster(path / ROSTER, reception, invitation, scenario)
        problems = kind.problems(config, scenario, len(roster))
        if problems:
            raise InputError(*problems)
        some, answers = next(iter(roster.values())), task_of(scenario.data).answers
        setting = Setting(
            scenario=scenario,
            run=invitation.run,
            dims={n: replace(roster[n].dims, answers=answers) for n in sorted(roster, key=client_order)},
            transfer=some.transfer,
            input=some.spec,
            own=run.checkpoint / "server",
            stock=_stock(scenario, some),
        )
        strategy = kind(config, setting)
        _bound(strategy)
        quorum, patience = scenario.participation.quorum, scenario.participation.deadline_s
        sites = SiteGrid(grid, reception, roster, strategy.course.asking.seat)
        sites.wait_for(quorum, patience)
        watch = Watch(lambda: sites.wait_for(quorum, patience))
        loop = Loop(strategy, run, watch, threading.Event())
        saved = checkpoint.read(run.checkpoint)
        loop.restore(saved)
        run.truncate(saved.round)
        watch.started(_about(scenario, roster, saved.round))
        loop.run(sites)
        summary = loop.summary() | {"engine": "sites"}
        run.finish(summary)
        watch.finished(summary)
    finally:
        run.close()


class Watch(EventLines):
    """Tells the progress, waits between rounds until there is a quorum again (so that no round is spent
    that nobody can take part in), and ends a run in which no site wants to go on."""

    def __init__(self, gather: Callable[[], None]) -> None:
        self._gather = gather

    def round_done(self, row: Mapping[str, Any], clients: Sequence[Mapping[str, Any]]) -> None:
        """Tell a round's results. Raises RunError where every site that answered declined."""
        super().round_done(row, clients)
        replies = row["replies"]
        if replies["declined"] and not any(replies[s] for s in ("accepted", "rejected", "failed")):
            why = {
                f"{c['client']}: {c['reason']}: {c['detail']}" for c in clients if c["status"] == "declined"
            }
            raise RunError(f"no site goes on ({'; '.join(sorted(why))}).")
        self._gather()


def _roster(file: Path, reception: Reception, invitation: Invitation, scenario: Scenario) -> dict[str, Facts]:
    """Return who takes part: of a run that goes on, those of its beginning, whether they are there or not."""
    if file.is_file():
        return {name: Facts(**facts) for name, facts in json.loads(file.read_text()).items()}
    tell("waiting", sites=invitation.sites, seconds=invitation.wait_s)
    reception.wait(invitation.sites, invitation.wait_s)
    alike = alike_made(reception.facts, partial(_stock, scenario), _tell_refusal)
    roster = fitting(alike, _tell_refusal)
    quorum = scenario.participation.quorum
    if len(roster) < quorum:
        raise RunError(
            f"{len(roster)} sites came within {invitation.wait_s:g} s ({', '.join(roster) or 'none'}); the "
            f"scenario's quorum is {quorum}."
        )
    write_json(file, {name: facts.model_dump() for name, facts in roster.items()})
    return roster


def _stock(scenario: Scenario, facts: Facts) -> Stock | None:
    """Return what makes the transfer rows for a kind of data, None where none are made."""
    return stock_for(scenario, facts.spec, tuple(facts.columns) or None, None)


def _tell_refusal(who: str, refusal: Refused) -> None:
    tell("refused", who=who, reason=refusal.reason, detail=refusal.detail)


def _bound(strategy: Strategy) -> None:
    """Let no reply be fetched that is far larger than any of this run can be."""
    from fedkt.deploy.wire.flwr_control import bound_replies

    largest = 0
    for dims in strategy.setting.dims.values():
        specs = strategy.behaviour.contribution(dims.about(0), strategy.client_settings).values()
        largest = max(largest, sum(4 + spec.nbytes // 1_000_000 for spec in specs))
    bound_replies(32 + largest, seconds=20.0)


def _about(scenario: Scenario, roster: Mapping[str, Facts], done: int) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "strategy": scenario.strategy.name,
        "engine": "sites",
        "clients": len(roster),
        "rounds": scenario.rounds,
        "round": done,
    }
