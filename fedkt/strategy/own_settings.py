"""What strategies say of their own settings: those that nothing reads, and the one that clients share."""

from typing import Any

from pydantic import BaseModel


def idle(config: BaseModel, why: str, *names: str) -> list[str]:
    """Return sentences about those of these settings that were given although nothing reads them."""
    given = [name for name in names if name in config.model_fields_set]
    return [f"strategy.{name} has no effect {why}; leave it out." for name in given]


def temperature_of(config: Any) -> dict[str, float]:
    """Return the client half's temperature that is the strategy's own; none where it is null."""
    return {} if config.temperature is None else {"temperature": config.temperature}
