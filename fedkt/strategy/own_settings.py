"""Settings of a strategy: those that nothing reads, those that its client half gets, and how it learns."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from fedkt import registry
from fedkt.privacy.modes import mode_of
from fedkt.tasks import CLASSIFICATION, Task, task_of

if TYPE_CHECKING:
    from torch import Tensor

    from fedkt.client.behaviour import Client
    from fedkt.scenario import Data, Scenario


class AsSetting:
    """What stands for a strategy with settings of its own, ``Mine(trim=2)``, in a scenario."""

    config: BaseModel
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    """What it may be about (``data.task``)."""
    one_class: ClassVar[str] = "it was made for one class per row"
    """Why it is for nothing else, as a clause."""
    counts_rounds: ClassVar[bool] = False
    """Whether what a method does in a round depends on how many there will be."""
    one_width: ClassVar[bool] = False
    """Whether all models must have one feature width."""

    @classmethod
    def same_width(cls, config: Any) -> bool:
        """Say whether these settings need one feature width of all models."""
        return cls.one_width

    @property
    def task(self) -> Task:
        """What is to be predicted; without a scenario, as in a test, classes."""
        setting = getattr(self, "setting", None)
        return CLASSIFICATION if setting is None else setting.task

    fuses_by_class: ClassVar[bool] = False
    """Whether it fuses probabilities by ``centre`` and ``mixed`` alone, so that each class is averaged over
    those who know it where sites have labels of their own, and old knowledge weighs less on a board."""
    ages: "Tensor | None" = None
    """What each contribution weighs by its age [clients], on a board; None: all alike."""

    @property
    def per_site(self) -> bool:
        """Whether sites have labels of their own."""
        setting = getattr(self, "setting", None)
        return setting is not None and bool(setting.scenario.data.per_site)

    def as_setting(self) -> dict[str, Any]:
        """Return its name (the class, which the scenario names) beside the settings that were given."""
        return {"name": type(self), **self.config.model_dump(exclude_unset=True)}


def idle(config: BaseModel, why: str, *names: str) -> list[str]:
    """Return sentences about those of these settings that were given although nothing reads them."""
    given = [name for name in names if name in config.model_fields_set]
    return [f"strategy.{name} has no effect {why}; leave it out." for name in given]


def needs_classes(config: BaseModel, scenario: "Scenario", *names: str) -> list[str]:
    """Return sentences about those of these settings that were given, where rows are of no one class."""
    task = task_of(scenario.data)
    if task.exclusive:
        return []
    return [
        f"strategy.{name} speaks of one class per row, but data.task is {task.name}; leave it out."
        for name in names
        if name in config.model_fields_set and getattr(config, name) not in (None, False)
    ]


def temperature_of(config: Any) -> dict[str, float]:
    """Return the client half's temperature that is the strategy's own; none where it is null."""
    return {} if config.temperature is None else {"temperature": config.temperature}


def behaviour_of(kind: Any, data: "Data") -> "type[Client]":
    """Return the client behaviour that is a strategy's other half for what these data are to predict.

    Raises InputError where there is none of its name.
    """
    found: type[Client] = registry.find("clients", task_of(data).behaviours.get(kind.client, kind.client))
    return found


def teaches(kind: Any) -> bool:
    """Say whether clients learn from one another under a strategy, unlike alone or with pooled data."""
    return not {"nothing", "data"} & set(kind.shares)


def learns_jointly(kind: Any, scenario: "Scenario") -> bool:
    """Say whether training on private data rehearses what teachers about transfer rows taught.

    What ``clients.distill.together`` says, else as the strategy has it; where training itself is private no
    other rows go into its steps.
    """
    told = scenario.clients.distill.together
    if told is not None:
        return told
    mode = mode_of(scenario.privacy)
    return bool(kind.joint) and (mode is None or mode.training_noise(1.0) is None)


def settings_for(kind: Any, config: BaseModel, scenario: "Scenario") -> dict[str, Any]:
    """Return the settings of a strategy's client half: the scenario's distillation, then the method's own."""
    distill, task = scenario.clients.distill, task_of(scenario.data)
    mode = mode_of(scenario.privacy)
    form = {} if mode is None or mode.form is None else {"form": mode.form}
    # Votes are fused to probabilities, which losses on logits themselves make little of.
    loss = distill.loss or (task.default_loss(kind.default_loss) if not form else "ce")
    temperature = distill.temperature or kind.default_temperature
    told: dict[str, Any] = {"weigh": distill.weigh} if distill.weigh else {}
    told |= distill.model_dump(include={"snapshot", "project"}, exclude_none=True)
    transfer = scenario.data.transfer
    if transfer is not None and transfer.rule.utility == "census" and kind.needs_transfer:
        told["census"] = True
    told |= task.told(scenario.data, private=mode is not None and mode.training_noise(1.0) is not None)
    own = {n: v for n, v in kind.settings(config).items() if n != "prior" or task.exclusive}
    return {"loss": loss, "temperature": temperature, **told, **own, **form}
