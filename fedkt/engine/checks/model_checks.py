"""What can be known to be wrong with the models of a scenario before anything runs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fedkt import models, registry
from fedkt.client.behaviour import Steps
from fedkt.data import Federation
from fedkt.engine.world import memory
from fedkt.engine.world.device import device_of, device_problems, model_problem
from fedkt.errors import tried
from fedkt.scenario import Scenario
from fedkt.scenario.about_clients import Distill
from fedkt.strategy.at_once import estimator_problems
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.own_settings import behaviour_of, learns_jointly

Nets = Mapping[str, models.Net]
"""A net of each kind that is dealt, by what the scenario says of it."""


def unknown_models(scenario: Scenario) -> list[str]:
    """Return which models nobody knows, in sentences."""
    problems: list[str] = []
    for name, _ in models.deal(scenario.clients.models, len(scenario.clients.models), scenario.seed):
        tried(problems, partial(registry.find, "models", name))
    return problems


def model_problems(
    scenario: Scenario,
    federation: Federation,
    strategy: type[Strategy] | None,
    config: StrategyConfig | None,
) -> list[str]:
    """Return why the models of a scenario cannot be built, trained or fused, in sentences.

    ``strategy``, ``config``: None for what is wrong itself, and told elsewhere.
    """
    problems: list[str] = []
    dealt = models.deal(scenario.clients.models, len(federation.shards), scenario.seed)
    kinds = {repr(one): one for one in dealt}
    made = {
        name: tried(problems, partial(models.build, one, federation.input, federation.classes, 0))
        for name, one in kinds.items()
    }
    nets = {name: net for name, net in made.items() if net is not None}
    problems += _server(scenario, federation)
    if strategy is not None:
        problems += _fused(scenario, strategy, config, len(made), nets)
    refits = len(nets) < len(made) or any(net.refits for net in nets.values())
    if scenario.clients.distill.weight != Distill().weight and not (
        refits or (strategy is not None and learns_jointly(strategy, scenario))
    ):
        problems.append(
            "clients.distill.weight is set, but private rows and a teacher are never learned at once: no "
            "model of clients.models is an estimator, and steps are not joint; set "
            "clients.distill.together, or leave it out."
        )
    problems += [
        f"model {name} cannot be trained, since {why}."
        for name, net in nets.items()
        if (why := model_problem(net, device_of(scenario.engine)))
    ]
    problems += _memory(scenario, [*nets.values()])
    if strategy is not None and "data" not in strategy.shares:
        for shard, one in zip(federation.shards, dealt, strict=True):
            problems += batch_problems(scenario, shard.id, len(shard.rows), one[0], made[repr(one)])
    return problems


def batch_problems(
    scenario: Scenario, client: str, rows: int, model: Any, net: "models.Net | None"
) -> list[str]:
    """Return why a model that needs two rows in a batch would get one, in sentences.

    A last batch of one row joins the one before it; where there is none, nothing can be done.
    """
    if net is None or not net.mixes_rows:
        return []
    local, distill = scenario.clients.local.batch_size, scenario.clients.distill.batch_size
    what = f"model {model!r} takes statistics over the rows of a batch, which needs at least 2"
    found = []
    if local == 1:
        found.append(f"clients.local.batch_size is 1, but {what}; set it to 2 or more.")
    elif rows == 1:
        found.append(
            f"client {client} has 1 row (clients.local.batch_size is {local}), but {what}; give it more "
            "rows, or another model, such as one with GroupNorm."
        )
    if distill == 1 and scenario.data.transfer is not None:
        found.append(f"clients.distill.batch_size is 1, but {what}; set it to 2 or more.")
    return found


def _memory(scenario: Scenario, nets: Sequence[models.Net]) -> list[str]:
    """Return whether states fit, with each worker's part of the limit as the least that one client needs."""
    engine, parts = scenario.engine, scenario.clients
    if engine.memory_limit is None or not nets:
        return []
    device, asked = device_of(engine), memory.size_of(engine.memory_limit)
    if engine.address is None and not device_problems(engine, 1) and asked > (there := memory.whole(device)):
        return [
            f"engine.memory_limit is {engine.memory_limit}, but {device.type} has {there / 2**30:.1f}GiB; "
            "lower it, or leave it out."
        ]
    phases = (Steps.local(parts.local), Steps.distill(parts.distill, parts.local))
    workers = 1 if engine.kind == "inline" or engine.workers == "auto" else engine.workers
    need = workers * max(memory.state(net, phases) for net in nets)
    if asked >= need:
        return []
    return [
        f"engine.memory_limit is {engine.memory_limit}, but one client's state in each of {workers} workers "
        f"takes {need / 2**10:.0f}KiB; it must be at least that, or be left out."
    ]


def _server(scenario: Scenario, federation: Federation) -> list[str]:
    """Return why the server's model is none that it can train."""
    if scenario.server_model is None:
        return []
    problems: list[str] = []
    model = scenario.server_model.model
    net = tried(problems, lambda: models.build(model, federation.input, federation.classes, 0))
    if net is not None and net.refits:
        problems.append(
            "server_model.model is an estimator, but the server's model learns from round to round; "
            "name a net, such as mlp."
        )
    return problems


def _fused(
    scenario: Scenario, strategy: type[Strategy], config: StrategyConfig | None, dealt: int, nets: Nets
) -> list[str]:
    """Return why a strategy cannot fuse such models; ``dealt``: kinds, of which ``nets`` could be built."""
    name = scenario.strategy.name
    found = [
        f"strategy '{name}' cannot use {model}, since {why}; name another model."
        for model, net in nets.items()
        if (why := strategy.no_model(net))
    ]
    behaviour = tried([], lambda: behaviour_of(strategy, scenario.data))
    if behaviour is not None and config is not None:
        found += estimator_problems(strategy, behaviour, config, scenario, nets.values())
    if strategy.one_model and dealt > 1:
        found.append(
            f"strategy '{name}' needs one architecture, but clients.models deals {dealt}; name a single "
            "model."
        )
    widths = sorted({net.width for net in nets.values()})
    if config is not None and strategy.same_width(config) and len(widths) > 1:
        found.append(
            f"strategy '{name}' needs one feature width, but clients.models have {widths}; set the same "
            "width for each."
        )
    return found
