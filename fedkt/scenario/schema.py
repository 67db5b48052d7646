"""The schema of a scenario: every setting with its type, range and default.

All models are frozen and refuse keys that they do not know. A model that is built directly from Python
raises pydantic's ValidationError; ``fedkt.scenario.load`` turns all of them into one InputError.
"""

from typing import Annotated, Literal

from pydantic import (
    Field,
    Strict,
    StringConstraints,
)

from fedkt.scenario.about_adversity import Attacks, Churn, Robust
from fedkt.scenario.about_clients import Clients, ServerModel
from fedkt.scenario.about_data import Data
from fedkt.scenario.about_privacy import Privacy
from fedkt.scenario.settings import Named, NotNegative, Positive, Settings, Text, Whole, must_be


class StrategySpec(Named):
    """A strategy and its settings."""

    name: str = Field("knfu", min_length=1)


class Participation(Settings):
    """Who takes part in a round."""

    fraction: float = Field(1.0, gt=0, le=1)
    """The share of the clients that is asked in each round."""
    quorum: Whole = 1
    """With fewer accepted replies the old teachers stay."""
    no_quorum: Literal["skip", "repeat"] = "skip"
    """Repeat: ask others, and again those who did not answer, before the round is given up."""
    retries: Whole = 3
    """How often a round is repeated at most."""
    deadline_s: Positive = 600.0
    over_select: float = Field(1.0, ge=1)
    """Ask this many times more clients than needed; the first replies count, the others are late."""
    withdrawn: dict[Text, Whole] = Field(default_factory=dict)
    """Clients that are not asked any more, with the first round without them; fedkt forget writes it."""


class Engine(Settings):
    """Where clients are simulated."""

    kind: Literal["inline", "ray", "flower"] = "ray"
    workers: Annotated[Literal["auto"] | Whole, must_be("auto or a whole number of at least 1", "auto")] = (
        "auto"
    )
    cpus: Positive = 1.0
    """Processors per worker."""
    gpus: NotNegative = 0.0
    """Accelerators per worker; a fraction shares one."""
    address: Text | None = None
    """Of a running Ray cluster."""
    memory_limit: Annotated[
        Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? ?[KMGT]iB$")] | None,
        must_be("a size such as 4GiB, or null"),
    ] = None
    cohort: Annotated[
        Literal["auto", "off"] | Whole, must_be("auto, off or a whole number of at least 1", "auto", "off")
    ] = "auto"
    """The largest number of clients of one architecture that are trained as one stacked model."""


class Evaluate(Settings):
    """When accuracy is measured."""

    every: Whole = 1
    """Rounds from one evaluation to the next."""


class Scenario(Settings):
    """One experiment."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"),
        must_be("letters, digits, '.', '_' and '-', since folders are named after it"),
    ] = Field(examples=["my-experiment"])
    data: Data = Data()
    clients: Clients = Clients()
    strategy: StrategySpec = StrategySpec()
    server_model: ServerModel | None = None
    """Null: the server trains no model."""
    privacy: Privacy = Privacy()
    rounds: Whole = 10
    participation: Participation = Participation()
    robust: Robust = Robust()
    attacks: Attacks = ()
    churn: Churn = Churn()
    engine: Engine = Engine()
    evaluate: Evaluate = Evaluate()
    allow: Annotated[tuple[Literal["weights", "features"], ...], Strict(False)] = ()
    """What strategies may share beyond knowledge."""
    seed: int = Field(0, ge=0)
