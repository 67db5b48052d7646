"""Client-runs: what an exchange tells of each client, and what fusing gave it beyond training alone."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from torch import Tensor

from fedkt import scenario as scenarios
from fedkt.data import Federation
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.clients.app import ResidentApp
from fedkt.engine.clients.cohorts import Plan
from fedkt.engine.clients.trial import units
from fedkt.engine.loop.loop import Loop
from fedkt.engine.runs.foretold import watch
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.world import World
from fedkt.results.folder import RunFolder
from fedkt.results.observer import Silent
from fedkt.scenario import Scenario
from fedkt.strategy import Strategy

Cell = tuple[str, bool]
"""A strategy, and whether its steps are joint."""
STRATEGIES = ("knfu", "fedmd", "dsfl", "dwc", "complementary", "dynamic_logits", "transferability")


def client_runs(
    base: Mapping[str, Any] | str,
    seed: int,
    cells: Sequence[Cell],
    overrides: Sequence[str] = (),
    data_dir: Path | None = None,
) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines of each cell's clients: the evidence of the first exchange and both gains, in [-1, 1].

    Gains are differences to training alone on the same data, which no forecast declines.
    """
    alone = run(_scenario(base, seed, ("local", False), [*overrides, "forecast=none"]), data_dir).metrics
    for strategy, together in cells:
        described = _scenario(base, seed, (strategy, together), overrides)
        done = run(described, data_dir)
        told, reached = done.evidence, done.metrics
        about = {"scenario": described.name, "seed": seed, "overrides": [*overrides]}
        yield [
            about
            | {"strategy": strategy, "together": together, "client": client}
            | {"evidence": [round(value, 6) for value in evidence.tolist()]}
            | {what: reached[client][what] - alone[client][what] for what in ("personal", "global")}
            for client, evidence in told.items()
        ]


@dataclass(frozen=True)
class Done:
    """What a run leaves: the evidence of its first round and the metrics of its last, by client."""

    evidence: dict[str, Tensor]
    metrics: dict[str, dict[str, float]]
    hostile: frozenset[str]

    @property
    def honest(self) -> dict[str, dict[str, float]]:
        """The metrics of the clients that are not hostile."""
        return {client: its for client, its in self.metrics.items() if client not in self.hostile}


def run(
    described: Scenario,
    data_dir: Path | None,
    federation: Federation | None = None,
    change: Callable[[Strategy, World], None] | None = None,
) -> Done:
    """Run a scenario as ``simulate`` does with engine inline, but leaving nothing behind.

    ``federation``: in place of the data that the scenario names; ``change`` is made to the strategy first.
    """
    world = checked_world(described, data_dir, federation)
    with tempfile.TemporaryDirectory(prefix="fedkt-") as name:
        folder = RunFolder.create(Path(name) / "run", described, resume=False, data={})
        try:
            strategy = world.strategy(world.config, world.setting(folder.run, folder.checkpoint / "server"))
            if change is not None:
                change(strategy, world)
            seen = watch(strategy) if strategy.needs_transfer else []
            app = ResidentApp(world, folder.checkpoint / "clients", Plan(units(world, 1)))
            app.choose()
            loop = Loop(strategy, folder, Silent(), Event())
            loop.run(InlineGrid(app, len(world.shards)))
        finally:
            folder.close()
    return Done(seen[0] if seen else {}, loop.totals.metrics, frozenset(world.hostile))


def _scenario(base: Mapping[str, Any] | str, seed: int, cell: Cell, overrides: Sequence[str]) -> Scenario:
    strategy, together = cell
    more = [f"strategy={{name: {strategy}}}", f"clients.distill.together={json.dumps(together)}"]
    return scenarios.load(
        base, [f"seed={seed}", "engine={kind: inline, cohort: 10}", *more, *overrides], several=True
    )
