"""Settings that would change nothing: refused where they contradict another one, told where they are spare.

One file serves several strategies, so a part that a strategy does not read may stay in it: ``fedkt show`` and
the run say so. What is refused is a setting that another one of the same file takes the effect from.
"""

from collections.abc import Iterator
from typing import Any

import torch

from fedkt import registry
from fedkt.engine.world.world import World
from fedkt.scenario import Scenario
from fedkt.scenario.about_clients import Distill
from fedkt.strategy.base import Strategy, StrategyConfig
from fedkt.strategy.own_settings import settings_for


def without_effect(scenario: Scenario, strategy: type[Strategy], config: StrategyConfig) -> Iterator[str]:
    """Yield what another setting takes the effect from, in sentences."""
    distill, name = scenario.clients.distill, scenario.strategy.name
    told = settings_for(strategy, config, scenario)
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
    """Return what the strategy says of its settings, and which of the file's it makes nothing of."""
    scenario, strategy = world.scenario, world.strategy
    spare = []
    plain, held = Distill(), scenario.clients.distill
    reads = strategy.reads_distill | ({"steps", "loss", "temperature"} if _taught_by(scenario) else set())
    for key in Distill.model_fields:
        if getattr(held, key) != getattr(plain, key):
            part = key if key in ("loss", "temperature") else "steps"
            spare += [] if part in reads else [f"clients.distill.{key}"]
    transfer = scenario.data.transfer
    if transfer is not None and not strategy.needs_transfer:
        if transfer.policy != "random":
            spare.append("data.transfer.policy")
        if transfer.rows is not None:
            spare.append("data.transfer.rows")
    notes = strategy.notes(world.config, world.federation.classes)
    return [
        *notes,
        *([f"strategy '{scenario.strategy.name}' makes nothing of {', '.join(spare)}."] if spare else []),
    ]


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
