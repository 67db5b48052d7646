"""Everything about a scenario that can be known to be wrong before anything runs, all at once."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError

from fedkt import data, models, registry
from fedkt.client.behaviour import Client, Steps
from fedkt.distill import about
from fedkt.engine.world import adversity_checks as adversity
from fedkt.engine.world import memory
from fedkt.engine.world.private import privacy_problems
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy, StrategyConfig, settings_for

T = TypeVar("T")


def checked_world(
    scenario: Scenario, data_dir: Path | None = None, federation: "data.Federation | None" = None
) -> World:
    """Return the world of a scenario. Raises InputError with every problem that was found.

    ``federation``: the scenario's data, where it was built before.
    """
    problems: list[str] = []
    strategy: type[Strategy] | None = _try(
        problems, lambda: registry.find("strategies", scenario.strategy.name)
    )
    config = None
    if strategy is not None:
        _try(problems, lambda: _check_strategy(strategy, scenario))
        config = _try(problems, lambda: _config(strategy, scenario))
    if strategy is not None and scenario.server_model is not None and (why := strategy.no_server_model()):
        problems.append(
            f"strategy '{scenario.strategy.name}' can teach no server model, since {why}; "
            "leave server_model out."
        )
    for name, _ in models.deal(scenario.clients.models, len(scenario.clients.models), scenario.seed):
        _try(problems, lambda name=name: registry.find("models", name))  # type: ignore[misc]
    workers = 1 if scenario.engine.workers == "auto" else scenario.engine.workers
    wanted, there = scenario.engine.gpus * workers, torch.cuda.device_count()
    if scenario.engine.address is None and wanted > there:
        problems.append(
            f"engine asks for {wanted:g} GPUs, but this machine has {there}; "
            "lower engine.gpus or engine.workers."
        )
    federation = federation or _try(problems, lambda: data.build(scenario, data_dir))
    if federation is not None:
        clients = len(federation.shards)
        if scenario.participation.quorum > clients:
            problems.append(
                f"participation.quorum is {scenario.participation.quorum}, but there are {clients} clients; "
                "it must be at most their number."
            )
        nets = {}
        for dealt in models.deal(scenario.clients.models, clients, scenario.seed):
            if repr(dealt) not in nets:
                build = lambda d=dealt: models.build(d, federation.input, federation.classes, 0)  # noqa: E731
                nets[repr(dealt)] = _try(problems, build)
        if scenario.server_model is not None:
            model = scenario.server_model.model
            _try(problems, lambda: models.build(model, federation.input, federation.classes, 0))
        if strategy is not None:
            problems += [
                f"strategy '{scenario.strategy.name}' cannot use {name}, since {why}; name another model."
                for name, net in nets.items()
                if net is not None and (why := strategy.no_model(net))
            ]
        problems += _check_memory(scenario, [net for net in nets.values() if net is not None])
        widths = sorted({net.width for net in nets.values() if net is not None})
        if strategy is not None and strategy.one_model and len(nets) > 1:
            problems.append(
                f"strategy '{scenario.strategy.name}' needs one architecture, but clients.models deals "
                f"{len(nets)}; name a single model."
            )
        if strategy is not None and strategy.one_width and len(widths) > 1:
            problems.append(
                f"strategy '{scenario.strategy.name}' needs one feature width, but clients.models have "
                f"{widths}; set the same width for each."
            )
        if strategy is not None and config is not None:
            problems += strategy.problems(config, scenario, clients)
    if problems or federation is None:
        raise InputError(*dict.fromkeys(problems))
    trace = _try(problems, lambda: adversity.trace_of(scenario, federation, data_dir))
    world = World(scenario, federation, trace)
    problems += guard_problems(world)
    problems += [*adversity.problems_of(world), *privacy_problems(world)]
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return world


def checked_method(scenario: Scenario) -> tuple[type[Strategy], StrategyConfig]:
    """Return the strategy of a scenario and its settings, without any data. Raises InputError."""
    strategy: type[Strategy] = registry.find("strategies", scenario.strategy.name)
    problems: list[str] = []
    _try(problems, lambda: _check_strategy(strategy, scenario))
    config = _try(problems, lambda: _config(strategy, scenario))
    if problems or config is None:
        raise InputError(*dict.fromkeys(problems))
    return strategy, config


def _check_memory(scenario: Scenario, nets: Sequence[models.Net]) -> list[str]:
    """Return whether states fit, with each worker's part of the limit as the least that one client needs."""
    engine, parts = scenario.engine, scenario.clients
    if engine.memory_limit is None or not nets:
        return []
    phases = (Steps.local(parts.local), Steps.distill(parts.distill, parts.local))
    workers = 1 if engine.kind == "inline" or engine.workers == "auto" else engine.workers
    need = workers * max(memory.state(net, phases) for net in nets)
    if memory.size_of(engine.memory_limit) >= need:
        return []
    return [
        f"engine.memory_limit is {engine.memory_limit}, but one client's state in each of {workers} workers "
        f"takes {need / 2**10:.0f}KiB; it must be at least that, or be left out."
    ]


def _check_strategy(strategy: type[Strategy], scenario: Scenario) -> None:
    problems: list[str] = []
    name = scenario.strategy.name
    more = [shared for shared in strategy.shares if shared in ("features", "weights")]
    if not set(more) <= set(scenario.allow):
        problems.append(
            f"strategy '{name}' shares {' and '.join(more)}, which the scenario does not allow; "
            f"write 'allow: [{', '.join(more)}]' to run it."
        )
    if (strategy.needs_transfer or strategy.server_transfer) and scenario.data.transfer is None:
        problems.append(
            f"strategy '{name}' needs a transfer set, but data.transfer is not set; "
            "write for instance 'transfer: {from: train, size: 1000}' under data."
        )
    if strategy.needs_public and scenario.data.public is None:
        problems.append(
            f"strategy '{name}' needs labelled public rows, but data.public is not set; "
            "write for instance 'public: {from: train, size: 1000}' under data."
        )
    behaviour = _try(problems, lambda: registry.find("clients", strategy.client))
    served = scenario.server_model
    if served is not None and served.distill is not None and served.distill.together:
        problems.append(
            "server_model.distill.together is true, but the server has no private rows; leave it out."
        )
    if behaviour is not None and scenario.clients.distill.together and teaches_otherwise(strategy, behaviour):
        problems.append(
            f"clients.distill.together is true, but strategy '{name}' does not distil on transfer rows; "
            "leave it out."
        )
    if problems:
        raise InputError(*problems)


def guard_problems(world: World) -> list[str]:
    """Return which client has no rows to spare for its guard."""
    guard = world.scenario.clients.guard
    if guard is None:
        return []
    least = math.ceil(1 / guard.validation)
    return [
        f"clients.guard.validation is {guard.validation:g}, but client {name} has {len(shard.rows)} training "
        f"rows, of which that is none; it needs at least {least}, or guard must be left out."
        for name, shard in world.shards.items()
        if not int(guard.validation * len(shard.rows))
    ][:1]


def teaches_otherwise(strategy: type[Strategy], behaviour: type[Client]) -> bool:
    """Say whether a strategy teaches, but not by distillation on transfer rows.

    The bounds of a comparison, ``local`` and ``central``, teach nothing and train as ever.
    """
    return not {"nothing", "data"} & set(strategy.shares) and not behaviour.distils_transfer_rows


def _config(strategy: type[Strategy], scenario: Scenario) -> StrategyConfig:
    try:
        config = strategy.Config(**scenario.strategy.settings)
    except ValidationError as error:
        raise InputError(*_sentences(scenario.strategy.name, strategy, error)) from error
    name = settings_for(strategy, config, scenario)["loss"]
    if (kind := about(registry.find("losses", name))) != strategy.distils:
        fitting = [n for n in registry.names("losses") if about(registry.find("losses", n)) != kind]
        raise InputError(
            f"loss '{name}' compares {kind}, but strategy '{scenario.strategy.name}' distils "
            f"{strategy.distils}; losses for those are {', '.join(fitting)}."
        )
    return config


def _sentences(name: str, strategy: type[Strategy], error: ValidationError) -> list[str]:
    known = list(strategy.Config.model_fields)
    found = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden" and not known:
            found.append(f"unknown key 'strategy.{key}'; strategy '{name}' has no settings.")
        elif problem["type"] == "extra_forbidden":
            found.append(f"unknown key 'strategy.{key}'; {registry.did_you_mean(key, known)}")
        else:
            found.append(f"strategy.{key} is {problem['input']!r}; {problem['msg'].lower()}.")
    return found


def _try(problems: list[str], step: Callable[[], T]) -> T | None:
    try:
        return step()
    except InputError as error:
        problems += error.problems
        return None
