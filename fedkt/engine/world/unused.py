"""Settings that would change nothing: refused where they are wrong, told where they are spare.

What another setting of the same file takes the effect from is refused. So is what a strategy makes nothing
of, where it was written for this strategy. Where the file's own strategy was replaced, as in a comparison, it
is left out of the scenario, and ``fedkt show`` and the run say so: one file serves several strategies.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pydantic import BaseModel

from fedkt import registry
from fedkt.client.behaviour import Client
from fedkt.data.sequence.turns import notes_of
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.knowledge.kinds import Dims
from fedkt.scenario import Scenario
from fedkt.scenario.about_clients import Distill
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.own_settings import behaviour_of, settings_for, teaches


def fitted(scenario: Scenario) -> tuple[Scenario, list[str]]:
    """Return a scenario without what its strategy makes nothing of and what was not written for it.

    What was left out is named beside it. A strategy that is not there is told elsewhere.
    """
    try:
        strategy: type[Strategy] = registry.find("strategies", scenario.strategy.name)
    except InputError:
        return scenario, []
    left_out = [path for path, written in spare(scenario, strategy).items() if not written]
    for path in left_out:
        scenario = _default(scenario, path.split("."))
    return scenario, left_out


def spare(scenario: Scenario, strategy: type[Strategy]) -> dict[str, bool]:
    """Return the settings that a strategy makes nothing of, and whether each was written for it.

    A setting that has its default is none.
    """
    distill, transfer = scenario.clients.distill, scenario.data.transfer
    reads = strategy.reads_distill | ({"steps", "loss", "temperature"} if _taught_by(scenario) else set())
    found = {
        f"clients.distill.{key}": key in distill.model_fields_set
        for key in Distill.model_fields
        if (key if key in ("loss", "temperature") else "steps") not in reads and _given(distill, key)
    }
    if transfer is not None and not strategy.needs_transfer:
        found |= {
            f"data.transfer.{key}": key in transfer.model_fields_set
            for key in ("policy", "rows", "equal_steps")
            if _given(transfer, key)
        }
    guard = scenario.clients.guard
    if guard is not None and not teaches(strategy):
        found["clients.guard"] = bool(guard.model_fields_set)
    return found


def without_effect(scenario: Scenario, strategy: type[Strategy], config: StrategyConfig) -> Iterator[str]:
    """Yield what another setting takes the effect from, or the strategy makes nothing of, in sentences."""
    distill, name = scenario.clients.distill, scenario.strategy.name
    told = settings_for(strategy, config, scenario)
    written = [path for path, written in spare(scenario, strategy).items() if written]
    if written:
        them = "them" if len(written) > 1 else "it"
        yield f"strategy '{name}' makes nothing of {', '.join(written)}; leave {them} out."
    behaviour: type[Client] = behaviour_of(strategy, scenario.data)
    if "census" in told and "census" not in behaviour.contribution(Dims(5, 5, 2, 1), told):
        votes = ", which sends votes" if told["form"] == "votes" else ""
        yield (
            f"data.transfer.policy is census, but clients of strategy '{name}'{votes} count no rows; it must "
            "be another policy."
        )
    if _given(scenario.privacy, "census_noise") and "census" not in told:
        yield (
            "privacy.census_noise is set, but no client counts rows; leave it out, or set "
            "data.transfer.policy to census."
        )
    for key in {"temperature", "loss"} & strategy.reads_distill:
        given, own = getattr(distill, key), strategy.settings(config).get(key)
        if given is not None and own is not None and own != given:
            yield (
                f"clients.distill.{key} is {_text(given)}, but strategy '{name}' takes {_text(own)} for it; "
                f"here it belongs to strategy.{key}, so leave clients.distill.{key} out."
            )
            return
    if distill.temperature is not None and _by_loss_alone(strategy, told) and _ignores(told["loss"]):
        yield (
            f"clients.distill.temperature is {distill.temperature:g}, but loss '{told['loss']}' of strategy "
            f"'{name}' compares logits as they are; leave it out, or name another clients.distill.loss."
        )
    server = None if scenario.server_model is None else scenario.server_model.distill
    if server is not None and server.loss is not None:
        registry.find("losses", server.loss)  # that there is none is told in its own words


def settings_notes(world: World) -> list[str]:
    """Return what the strategy says of its settings, and which of the file's were left out."""
    notes = world.strategy.notes(world.config, world.federation.classes)
    data = world.scenario.data
    sources = [] if data.transfer is None else data.transfer.sources
    unread = []
    if data.schema_ is not None and "made:schema" not in sources:
        unread = [f"nothing reads data.schema, since the transfer set is {' or '.join(sources) or 'none'}."]
    notes = [*notes, *notes_of(world.scenario, world.federation)]
    return [*notes, *left_out_notes(world.scenario, world.left_out), *unread]


def left_out_notes(scenario: Scenario, left_out: Sequence[str]) -> list[str]:
    """Return what is to be told of settings that were left out, in sentences."""
    if not left_out:
        return []
    named = ", ".join(left_out)
    return [f"strategy '{scenario.strategy.name}' makes nothing of {named}, so {_it(left_out)} left out."]


def _given(part: BaseModel, key: str) -> bool:
    return bool(getattr(part, key) != type(part).model_fields[key].default)


def _default(part: Any, path: list[str]) -> Any:
    """Return a part with the setting at a path at its default."""
    key, *rest = path
    value = _default(getattr(part, key), rest) if rest else type(part).model_fields[key].default
    return part.model_copy(update={key: value})


def _it(names: Sequence[str]) -> str:
    return "they are" if len(names) > 1 else "it is"


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, str) else f"{value:g}"


def _taught_by(scenario: Scenario) -> bool:
    """Say whether ``clients.distill`` also says how the server's own model learns."""
    return scenario.server_model is not None and scenario.server_model.distill is None


def _by_loss_alone(strategy: type[Strategy], told: dict[str, Any]) -> bool:
    """Say whether a temperature could have an effect by the loss alone, as where logits are exchanged."""
    return "temperature" in strategy.reads_distill and told.get("form", "logits") == "logits"


def _ignores(loss: str) -> bool:
    """Say whether a loss gives the same at any temperature, by trying it."""
    function = registry.find("losses", loss)
    student, teacher = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[2.0, 0.0, -1.0]])
    try:
        return bool(torch.equal(function(student, teacher, 1.0), function(student, teacher, 3.0)))
    except (TypeError, ValueError, RuntimeError):
        return False  # it wants more than this, such as labels
