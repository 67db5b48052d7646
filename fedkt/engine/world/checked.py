"""Everything about a scenario that can be known to be wrong before anything runs, all at once."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from fedkt import data, models, registry
from fedkt.client.behaviour import Client, Steps, classification
from fedkt.distill import about, is_coupled, looks_back, reads
from fedkt.engine.world import adversity_checks as adversity
from fedkt.engine.world import memory
from fedkt.engine.world.device import compile_problems, device_of, device_problems, model_problem
from fedkt.engine.world.private import privacy_problems
from fedkt.engine.world.unused import fitted, spare, without_effect
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.privacy.modes import mode_of
from fedkt.scenario import Scenario
from fedkt.scenario.about_clients import Distill
from fedkt.strategy.at_once import estimator_problems
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.for_task import loss_problems, task_problems
from fedkt.strategy.fusing.forecast import fitted_for
from fedkt.strategy.fusing.knowers import per_site_problems
from fedkt.strategy.own_settings import behaviour_of, learns_jointly, settings_for

T = TypeVar("T")


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
    problems += [*device_problems(scenario.engine, workers), *compile_problems(scenario)]
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
            own = _try(problems, lambda: models.build(model, federation.input, federation.classes, 0))
            if own is not None and own.refits:
                problems.append(
                    "server_model.model is an estimator, but the server's model learns from round to round; "
                    "name a net, such as mlp."
                )
        if strategy is not None:
            problems += [
                f"strategy '{scenario.strategy.name}' cannot use {name}, since {why}; name another model."
                for name, net in nets.items()
                if net is not None and (why := strategy.no_model(net))
            ]
        behaviour = None if strategy is None else _try([], lambda: behaviour_of(strategy, scenario.data))
        if strategy is not None and behaviour is not None and config is not None:
            problems += estimator_problems(strategy, behaviour, config, scenario, nets.values())
        refits = any(net is None or net.refits for net in nets.values())
        joint = strategy is not None and learns_jointly(strategy, scenario)
        if scenario.clients.distill.weight != Distill().weight and not (refits or joint):
            problems.append(
                "clients.distill.weight is set, but private rows and a teacher are never learned at once: no "
                "model of clients.models is an estimator, and steps are not joint; set "
                "clients.distill.together, or leave it out."
            )
        problems += [
            f"model {name} cannot be trained, since {why}."
            for name, net in nets.items()
            if net is not None and (why := model_problem(net, device_of(scenario.engine)))
        ]
        problems += _check_memory(scenario, [net for net in nets.values() if net is not None])
        widths = sorted({net.width for net in nets.values() if net is not None})
        if strategy is not None and strategy.one_model and len(nets) > 1:
            problems.append(
                f"strategy '{scenario.strategy.name}' needs one architecture, but clients.models deals "
                f"{len(nets)}; name a single model."
            )
        if config is not None and strategy is not None and strategy.same_width(config) and len(widths) > 1:
            problems.append(
                f"strategy '{scenario.strategy.name}' needs one feature width, but clients.models have "
                f"{widths}; set the same width for each."
            )
        if strategy is not None and config is not None:
            problems += strategy.problems(config, scenario, clients)
        if strategy is not None and "data" not in strategy.shares:
            for shard, dealt in zip(
                federation.shards, models.deal(scenario.clients.models, clients, scenario.seed), strict=True
            ):
                problems += batch_problems(scenario, shard.id, len(shard.rows), dealt[0], nets[repr(dealt)])
    if problems or federation is None:
        raise InputError(*dict.fromkeys(problems))
    trace = _try(problems, lambda: adversity.trace_of(scenario, federation, data_dir))
    world = World(scenario, federation, trace, slots, left_out)
    problems += [*guard_problems(world), *label_problems(world), *unlabelled_problems(world)]
    problems += [*density_problems(world), *view_problems(world)]
    if world.per_site:
        refits = any(map(world.refits, world.one_of_each()))
        problems += per_site_problems(world.strategy, world.settings, scenario, refits)
    problems += [*adversity.problems_of(world), *privacy_problems(world)]
    if problems:
        raise InputError(*dict.fromkeys(problems))
    return world


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
    problems += task_problems(scenario, strategy)
    problems += placebo_problems(strategy, scenario)
    if scenario.forecast != "none":
        problems += [f"forecast is '{scenario.forecast}', but {why}" for why in no_forecast(scenario)]
    behaviour = _try(problems, lambda: behaviour_of(strategy, scenario.data))
    served = scenario.server_model
    if served is not None and served.distill is not None:
        problems += [
            f"server_model.distill.{key} is set, but the server has no private rows; leave it out."
            for key in ("together", "weigh", "snapshot", "project")
            if getattr(served.distill, key)
        ]
    if behaviour is not None and teaches_otherwise(strategy, behaviour):
        asked = {"together": "true", "weigh": "'likeness'"}
        told = spare(scenario, strategy)  # by the check of settings that do nothing
        problems += [
            f"clients.distill.{key} is {value}, but strategy '{name}' does not distil on transfer rows; "
            "leave it out."
            for key, value in asked.items()
            if getattr(scenario.clients.distill, key) and f"clients.distill.{key}" not in told
        ]
    if problems:
        raise InputError(*problems)


def no_forecast(scenario: Scenario) -> list[str]:
    """Return why nothing can be forecast of a scenario, as clauses that end the sentence."""
    name, mode = scenario.strategy.name, scenario.privacy.mode
    found = []
    if name not in fitted_for():
        found.append(f"it was not fitted for strategy '{name}'; it was for {', '.join(fitted_for())}.")
    if scenario.data.task != "classification":
        found.append(f"it was fitted on classes, and data.task is {scenario.data.task}.")
    if mode != "none":
        found.append(f"it was not fitted for noise, which privacy.mode {mode} adds; it must be none.")
    return found


def placebo_problems(strategy: type[Strategy], scenario: Scenario) -> list[str]:
    """Return why a strategy's peers cannot be replaced by placebo ones."""
    mode, why = mode_of(scenario.privacy), None
    if not strategy.needs_transfer:
        why = "fuses no answers about transfer rows"
    elif strategy.extra_state is not Strategy.extra_state:
        why = "remembers from round to round what it fused"
    elif mode is not None and mode.at_server:
        why = f"sees no client's own answers with privacy.mode {scenario.privacy.mode}"
    if not scenario.placebo or why is None:
        return []
    return [f"placebo is true, but strategy '{scenario.strategy.name}' {why}; leave it out."]


def guard_problems(world: World) -> list[str]:
    """Return which client has no rows to spare for its guard."""
    guard = world.scenario.clients.guard
    if guard is None:
        return []
    if guard.folds is not None:
        return [
            f"clients.guard.folds is {guard.folds}, but client {name} has {len(shard.rows)} training rows; "
            "it must be at most their number, or guard must be left out."
            for name, shard in world.shards.items()
            if len(shard.rows) < guard.folds
        ][:1]
    least = math.ceil(1 / guard.validation)
    return [
        f"clients.guard.validation is {guard.validation:g}, but client {name} has {len(shard.rows)} training "
        f"rows, of which that is none; it needs at least {least}, or guard must be left out."
        for name, shard in world.shards.items()
        if not int(guard.validation * len(shard.rows))
    ][:1]


def label_problems(world: World) -> list[str]:
    """Return whether fewer labels of transfer rows are known than the strategy needs."""
    name, labels = world.strategy.labelled, world.federation.transfer_labels
    known = 0 if labels is None else int((labels >= 0).sum())
    if not name or (wanted := getattr(world.config, name)) <= known:
        return []
    return [
        f"strategy.{name} is {wanted}, but labels of {known} transfer rows are known; it must be at most "
        "their number."
    ]


def view_problems(world: World) -> list[str]:
    """Return why images cannot be learned with views of them, in sentences."""
    if world.scenario.clients.local.augment is None:
        return []
    shape, name = world.federation.input.shape, world.scenario.strategy.name
    found = []
    if world.federation.input.kind != "image" or shape[-1] != shape[-2]:
        found.append("clients.local.augment turns square images, which these rows are not; leave it out.")
    phases = [phase for part in world.private_phases(world.names[0]) for phase in part]
    own_loss = any(phase.loss is not classification for phase in phases)
    if own_loss or not phases or {"weights", "data"} & set(world.strategy.shares):
        found.append(
            f"clients.local.augment belongs to plain classification by clients that keep their models, but "
            f"strategy '{name}' trains in another way; leave it out."
        )
    return found


def density_problems(world: World) -> list[str]:
    """Return which client has no private rows that transfer rows could be compared with."""
    without = [name for name, shard in world.shards.items() if not len(shard.rows)]
    if "density" not in world.settings or not without:
        return []
    return [
        f"strategy.weights is density, for which private rows are compared with transfer rows, but client "
        f"{without[0]} has no private rows; use energy, which follows from predictions."
    ]


def unlabelled_problems(world: World) -> list[str]:
    """Return why clients cannot do without labels, in sentences."""
    without, names = world.scenario.data.unlabelled, world.names
    if not without:
        return []
    strangers = [name for name in without if name not in world.shards]
    found = [
        f"data.unlabelled names '{name}', but there is no such client; {registry.did_you_mean(name, names)}"
        for name in strangers
    ]
    if not strangers and len(names) - len(without) < max(2, world.scenario.participation.quorum):
        found.append(
            f"data.unlabelled leaves {len(names) - len(without)} clients with labels, of which "
            f"{max(2, world.scenario.participation.quorum)} must take part; it must name fewer."
        )
    name, mode, clients = world.scenario.strategy.name, world.mode, world.scenario.clients
    if not world.behaviour.learns_unlabelled or "selector" in world.settings:
        found.append(
            f"strategy '{name}' learns from labels of one's own, which data.unlabelled says that some "
            "clients lack; use one that teaches about transfer rows, such as dwc."
        )
    if mode is not None and mode.training_noise(1.0) is not None:
        found.append(
            f"privacy mode '{world.scenario.privacy.mode}' trains on labelled rows, which data.unlabelled "
            "says that some clients lack; use a mode that adds noise to what is sent."
        )
    if clients.guard is not None:
        found.append(
            "clients.guard decides by labelled rows, which data.unlabelled says that some clients lack; "
            "leave one of them out."
        )
    return found


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
    _try_loss(name)
    if (kind := about(registry.find("losses", name))) != strategy.distils:
        fitting = [n for n in registry.names("losses") if about(registry.find("losses", n)) != kind]
        raise InputError(
            f"loss '{name}' compares {kind}, but strategy '{scenario.strategy.name}' distils "
            f"{strategy.distils}; losses for those are {', '.join(fitting)}."
        )
    behaviour = behaviour_of(strategy, scenario.data)
    if is_coupled(registry.find("losses", name)) and not behaviour.distils_transfer_rows:
        raise InputError(
            f"loss '{name}' compares rows with one another, which strategy '{scenario.strategy.name}' "
            "has none for; it must compare each row by itself, as kl does."
        )
    served = scenario.server_model
    theirs = None if served is None else (served.distill and served.distill.loss) or name
    if theirs is not None and looks_back(registry.find("losses", theirs)):
        raise InputError(
            f"loss '{theirs}' reads what a client's model said before it was taught, and the server's has no "
            "client; server_model.distill.loss must be another one, such as kl."
        )
    if problems := [*without_effect(scenario, strategy, config), *loss_problems(scenario, strategy, config)]:
        raise InputError(*problems)
    return config


def _try_loss(name: str) -> None:
    """Raise InputError where a loss fails on made rows, or has not one value for each of them."""
    loss = registry.find("losses", name)
    made = torch.linspace(-1.0, 1.0, 6).view(2, 3)
    takes = "(student, teacher, temperature) of scores [B, classes]"
    try:
        if about(loss) == "scores":
            beside = {"before": made, "held": made > 0, "noise": made}
            found = loss(made, made.flip(0), 1.0, **{name: beside[name] for name in reads(loss)})
        else:
            takes = "(features, prototypes, y, *, known) of features [B, width]"
            found = loss(made, made.flip(0), torch.tensor([0, 1]), known=torch.tensor([True, True]))
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"loss '{name}' fails on made rows: {type(error).__name__}: {reason}; "
            f"it must be a function {takes}."
        ) from error
    tensor = isinstance(found, torch.Tensor)
    if not tensor or found.shape != (2,):
        of = f"of shape {list(found.shape)}" if tensor else f"of type {type(found).__name__}"
        raise InputError(
            f"loss '{name}' returns a value {of} for 2 rows; it must return one value per row, [2], whose "
            "mean is taken later."
        )


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
