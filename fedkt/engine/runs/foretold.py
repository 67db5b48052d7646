"""``fedkt forecast``: one exchange of a scenario, and what the server can tell from it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord
from torch import Tensor

from fedkt.client.state import DiskStore, MemoryStore
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.checks.method_checks import no_forecast
from fedkt.engine.clients.app import make_app
from fedkt.engine.runtimes.inline import InlineGrid
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.knowledge.contributions import Contributions
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy
from fedkt.strategy.fusing.evidence import evidence_of
from fedkt.strategy.fusing.forecast import Chance, forecast
from fedkt.strategy.fusing.fusion import Fused


@dataclass(frozen=True)
class Prospect:
    """What a strategy promises a client: the chances that it does better than by training alone."""

    strategy: str
    client: str
    personal: Chance
    common: Chance
    """Of global accuracy."""


def prospects(scenarios: list[Scenario], data_dir: Path | None = None) -> list[Prospect]:
    """Return the prospects of every client under each scenario, after one exchange that nobody keeps.

    Raises InputError, before anything is trained, with every problem of all of them; and afterwards where
    ``robust.filter`` leaves a single client.
    """
    worlds, problems = [], []
    for scenario in scenarios:
        problems += [f"forecast: {why}" for why in no_forecast(scenario)]
        try:
            worlds.append(checked_world(scenario, data_dir))
        except InputError as error:
            problems += error.problems
            continue
        if len(worlds[-1].shards) < 2:
            problems.append("forecast: there is one client, which has no peers; there must be at least 2.")
    if problems:
        raise InputError(*dict.fromkeys(problems))
    found = []
    for world in worlds:
        name = world.scenario.strategy.name
        told = first_exchange(world)
        if not told:
            raise InputError(
                f"forecast: robust.filter '{world.scenario.robust.filter}' leaves '{name}' a single client, "
                "which has no peers; it must leave at least 2."
            )
        for client, evidence in told.items():
            (chance,) = forecast(name, evidence[None])
            found.append(Prospect(name, client, chance["personal"], chance["global"]))
    return found


def first_exchange(world: World) -> dict[str, Tensor]:
    """Return the evidence of each client whose contribution counted in a first round, of two at least."""
    with tempfile.TemporaryDirectory(prefix="fedkt-") as name:
        folder = Path(name)
        strategy = world.strategy(world.config, world.setting("forecast", folder / "server"))
        seen = watch(strategy)
        store = MemoryStore(DiskStore(folder / "clients"))
        grid = InlineGrid(make_app(lambda: (world, store), raise_errors=True), len(world.shards))
        messages = list(strategy.configure_train(1, ArrayRecord(), ConfigRecord(), grid))
        strategy.aggregate_train(1, grid.send_and_receive(messages))
    return seen[0] if seen else {}


def watch(strategy: Strategy) -> list[dict[str, Tensor]]:
    """Return a list that gets the evidence of each client, by name, whenever the strategy fuses.

    Not where a filter leaves a single one, which has no peers.
    """
    seen: list[dict[str, Tensor]] = []
    fuse, form, scenario = strategy.fuse, strategy.client_settings["form"], strategy.setting.scenario

    def noted(contributions: Contributions) -> Fused | None:
        fused = fuse(contributions)
        if fused is not None and len(contributions.clients) > 1:
            told = evidence_of(contributions, fused, form, scenario, together=strategy.jointly)
            seen.append(dict(zip(contributions.clients, told, strict=True)))
        return fused

    vars(strategy)["fuse"] = noted
    return seen
