"""What can be known to be wrong with a method before any data are read: its strategy, settings and losses."""

import torch
from pydantic import ValidationError

from fedkt import registry
from fedkt.client.behaviour import Client
from fedkt.distill import about, is_coupled, looks_back, reads
from fedkt.engine.world.unused import spare, without_effect
from fedkt.errors import InputError, tried
from fedkt.privacy.modes import mode_of
from fedkt.scenario import Scenario
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.for_task import loss_problems, task_problems
from fedkt.strategy.fusing.forecast import fitted_for
from fedkt.strategy.own_settings import behaviour_of, settings_for


def checked_method(scenario: Scenario) -> tuple[type[Strategy], StrategyConfig]:
    """Return the strategy of a scenario and its settings, without any data. Raises InputError."""
    problems: list[str] = []
    strategy, config = chosen(scenario, problems)
    if problems or strategy is None or config is None:
        raise InputError(*dict.fromkeys(problems))
    return strategy, config


def chosen(scenario: Scenario, problems: list[str]) -> tuple[type[Strategy] | None, StrategyConfig | None]:
    """Return the strategy of a scenario and its settings, None for what is wrong; append why."""
    name = scenario.strategy.name
    strategy: type[Strategy] | None = tried(problems, lambda: registry.find("strategies", name))
    if strategy is None:
        return None, None
    known = strategy
    tried(problems, lambda: _check_strategy(known, scenario))
    return strategy, tried(problems, lambda: _config(known, scenario))


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
    behaviour = tried(problems, lambda: behaviour_of(strategy, scenario.data))
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
