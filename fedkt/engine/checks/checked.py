"""Everything about a scenario that can be known to be wrong before anything runs, all at once."""

from collections.abc import Mapping
from pathlib import Path

from fedkt import data
from fedkt.engine.checks.adversity_checks import adversity_problems, trace_of
from fedkt.engine.checks.method_checks import chosen
from fedkt.engine.checks.model_checks import model_problems, unknown_models
from fedkt.engine.checks.party_checks import party_problems
from fedkt.engine.world.device import compile_problems, device_problems
from fedkt.engine.world.private import privacy_problems
from fedkt.engine.world.unused import fitted
from fedkt.engine.world.world import World
from fedkt.errors import InputError, tried
from fedkt.scenario import Scenario
from fedkt.strategy.fusing.knowers import per_site_problems


def checked_world(
    scenario: Scenario,
    data_dir: Path | None = None,
    federation: "data.Federation | None" = None,
    *,
    slots: Mapping[str, int] | None = None,
) -> World:
    """Return the world of a scenario. Raises InputError with every problem that was found.

    ``federation``: the scenario's data, where it was built before; ``slots``: public numbers of rows, see
    :class:`~fedkt.engine.world.world.World`.
    """
    problems: list[str] = []
    scenario, left_out = fitted(scenario)
    strategy, config = chosen(scenario, problems)
    name = scenario.strategy.name
    if strategy is not None and scenario.server_model is not None and (why := strategy.no_server_model()):
        problems.append(f"strategy '{name}' can teach no server model, since {why}; leave server_model out.")
    problems += unknown_models(scenario)
    workers = 1 if scenario.engine.workers == "auto" else scenario.engine.workers
    problems += [*device_problems(scenario.engine, workers), *compile_problems(scenario)]
    federation = federation or tried(problems, lambda: data.build(scenario, data_dir))
    if federation is not None:
        clients = len(federation.shards)
        if scenario.participation.quorum > clients:
            problems.append(
                f"participation.quorum is {scenario.participation.quorum}, but there are {clients} clients; "
                "it must be at most their number."
            )
        problems += model_problems(scenario, federation, strategy, config)
        if strategy is not None and config is not None:
            problems += strategy.problems(config, scenario, clients)
    if problems or federation is None:
        raise InputError(*dict.fromkeys(problems))
    known = federation
    trace = tried(problems, lambda: trace_of(scenario, known, data_dir))
    world = World(scenario, federation, trace, slots, left_out)
    problems += party_problems(world)
    if world.per_site:
        refits = any(map(world.refits, world.one_of_each()))
        problems += per_site_problems(world.strategy, world.settings, scenario, refits)
    problems += [*adversity_problems(world), *privacy_problems(world)]
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return world
