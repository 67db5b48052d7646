"""Which setting to change where training or fusion went out of bounds: the second half of a sentence."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

if TYPE_CHECKING:
    from fedkt.scenario import Scenario

Where = Literal["train", "digest", "server"]


def lower(rate: float, where: Where, scenario: "Scenario", config: BaseModel) -> str:
    """Return 'lower SETTING' for the setting from which a learning rate was read.

    ``where``: what the rate was used for decides between settings of the same value; ``config``: those of
    the strategy.
    """
    server = scenario.server_model
    rates = {
        "clients.local.lr": scenario.clients.local.lr,
        "clients.distill.lr": scenario.clients.distill.lr,
        "strategy.lr": getattr(config, "lr", None),
        "server_model.distill.lr": None if server is None or server.distill is None else server.distill.lr,
    }
    order = list(rates) if where == "train" else list(reversed(rates))
    if where == "digest":
        order.insert(0, "clients.distill.lr")
    fitting = [name for name in order if rates[name] == rate]
    return f"lower {(fitting or ['clients.local.lr'])[0]}"


def change(scenario: "Scenario", config: BaseModel) -> str:
    """Return 'change SETTING (VALUE)' for the numbers that a strategy is set to, else for all that it has."""
    numbers = {
        name: value
        for name in type(config).model_fields
        if isinstance(value := getattr(config, name), int | float) and not isinstance(value, bool)
    }
    named = {name: value for name, value in numbers.items() if name in config.model_fields_set} or numbers
    if not named:
        return f"strategy '{scenario.strategy.name}' has no setting to change; choose another"
    return f"change {' or '.join(f'strategy.{name} ({value:g})' for name, value in named.items())}"


def scale(scenario: "Scenario", kind: str) -> str:
    """Return ' or set data.standardise' where rows are those of a table that is not scaled, else nothing."""
    bare = kind == "tabular" and not scenario.data.standardise
    # Statistics of private rows are refused in private modes.
    return " or set data.standardise" if bare and scenario.privacy.mode == "none" else ""
