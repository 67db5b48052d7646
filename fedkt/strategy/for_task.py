"""What of a scenario makes no sense for what is to be predicted (``data.task``), and why."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fedkt import registry
from fedkt.data.columns.labels import listed
from fedkt.distill import about
from fedkt.errors import InputError
from fedkt.strategy.own_settings import settings_for
from fedkt.tasks import TASKS, Task, named, task_of

if TYPE_CHECKING:
    from fedkt.scenario import Scenario
    from fedkt.strategy.base import Strategy, StrategyConfig


def task_problems(scenario: "Scenario", strategy: "type[Strategy]") -> list[str]:
    """Return which settings, and whether the strategy, are for other tasks, in sentences."""
    task = task_of(scenario.data)
    found = task.unsaid(scenario)
    if task.name not in strategy.tasks:
        found.append(
            f"data.task is {task.name}, which strategy '{scenario.strategy.name}' is not for, since "
            f"{task.unfit or strategy.one_class}; strategies for it are {listed(strategies_for(task))}."
        )
    default = _defaults(scenario)
    for misfit in task.misfits:
        usual = list(_at(default, misfit.path.split(".")))
        for value in _at(scenario, misfit.path.split(".")):
            if value not in usual if misfit.values is None else value in misfit.values:
                path = misfit.path.replace(".rule.", ".policy.")
                found.append(
                    f"{path} is {_text(value)}, but {misfit.why}, and data.task is {task.name}; leave it out."
                )
    return list(dict.fromkeys(found))


def loss_problems(scenario: "Scenario", strategy: "type[Strategy]", config: "StrategyConfig") -> list[str]:
    """Return whether a registered distillation loss is for another task; one of a user's own may be for
    any."""
    task, server = task_of(scenario.data), scenario.server_model
    taught = settings_for(strategy, config, scenario)["loss"]
    asked = {"clients.distill.loss": taught}
    if server is not None and server.distill is not None and server.distill.loss:
        asked["server_model.distill.loss"] = server.distill.loss
    if "loss" not in strategy.reads_distill and server is None:
        return []
    fit = [n for n in losses_for(task) if about(registry.find("losses", n)) == strategy.distils]
    return [
        f"{path} is {name}, but data.task is {task.name}, whose losses are {', '.join(fit)}."
        for path, name in asked.items()
        if name in registry.names("losses") and name not in fit
    ]


def losses_for(task: Task) -> list[str]:
    """Return the registered losses that fit a task."""
    if task.losses is not None:
        return list(task.losses)
    others = {name for each in TASKS for name in named(each).losses or ()}
    own = {"mse", "mae", "kl", "ce", "swing"}
    return [name for name in registry.names("losses") if name in own or name not in others]


def strategies_for(task: Task) -> list[str]:
    """Return the registered strategies that fit a task."""
    found = []
    for name in registry.names("strategies"):
        try:
            kind = registry.find("strategies", name)
        except InputError:
            continue  # of another package, which cannot be imported here
        if task.name in kind.tasks:
            found.append(name)
    return found


def _defaults(scenario: "Scenario") -> Any:
    """Return a scenario of the same strategy and name with nothing else set."""
    return type(scenario)(name=scenario.name, strategy=scenario.strategy)


def _at(part: Any, path: list[str]) -> Iterator[Any]:
    """Yield what a dotted path leads to, of each entry where it leads through a list."""
    if isinstance(part, list | tuple) and path:
        for each in part:
            yield from _at(each, path)
    elif not path:
        yield tuple(part) if isinstance(part, list) else part
    elif part is not None:
        yield from _at(getattr(part, path[0]), path[1:])


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
