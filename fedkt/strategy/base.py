"""The server half of a method, as its author writes it: contributions in, teachers out.

A method overrides :meth:`Strategy.fuse`, which takes stacked tensors and returns tensors, and what else of
the hooks below it needs. Everything that is the same for all methods (who is asked for which rows,
validation, quorum, delivery, resume) is the :class:`~fedkt.strategy.rounds.course.Course` that a strategy
has. The base is a Flower ``Strategy``, so Flower's own ``start`` can drive it as well as fedkt's loop.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowerStrategy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fedkt.client.behaviour import Client, Fit
from fedkt.knowledge.contributions import Contributions
from fedkt.scenario import Robust
from fedkt.strategy.fusing import robust
from fedkt.strategy.fusing.fusion import Fused, aged, mix
from fedkt.strategy.fusing.server_model import Trained, build, lesson, lesson_settings, steps_of
from fedkt.strategy.own_settings import AsSetting, behaviour_of, learns_jointly, settings_for
from fedkt.strategy.rounds.course import Course
from fedkt.strategy.rounds.given import Setting
from fedkt.strategy.rounds.teachers import Teachers

if TYPE_CHECKING:
    from fedkt.models import Net
    from fedkt.scenario import Scenario

Shares = Literal["nothing", "knowledge", "features", "weights", "data"]
Reads = Literal["steps", "loss", "temperature"]


class StrategyConfig(BaseModel):
    """Base of a strategy's own settings: frozen, unknown keys refused, each with default, unit and range.

    >>> class MyConfig(StrategyConfig): beta: float = 10.0
    >>> MyConfig(beta=5)
    MyConfig(beta=5.0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Strategy(AsSetting, FlowerStrategy):
    """Base of every strategy (entry points ``fedkt.strategies``). ``config`` is a ``Config`` in all hooks.

    >>> class Mean(Strategy):
    ...     client = "logits"
    ...     def fuse(self, contributions):
    ...         return Fused({"values": self.centre(contributions.values)})
    >>> known = Contributions(("0", "1"), {"values": torch.tensor([[[1.0, 0.0]], [[0.5, 0.5]]])})
    >>> Mean.__new__(Mean).fuse(known).arrays["values"]  # as in a test: without a scenario
    tensor([[0.7500, 0.2500]])
    """

    shares: ClassVar[tuple[Shares, ...]] = ("knowledge",)
    """All that leaves a client; ``features`` and ``weights`` only where the scenario allows them."""
    client: ClassVar[str]
    """Name of the client behaviour that is this method's other half."""
    needs_transfer: ClassVar[bool] = False
    """Whether clients are asked about rows of the transfer set."""
    server_transfer: ClassVar[bool] = False
    """Whether the server itself predicts rows of the transfer set, of which clients need not know."""
    needs_public: ClassVar[bool] = False
    """Whether the scenario must have a public set."""
    labelled: ClassVar[str] = ""
    """The setting that says of how many transfer rows the server must know the labels; empty: of none."""
    one_model: ClassVar[bool] = False
    """Whether all clients must have one architecture."""
    takes_mean: ClassVar[bool] = True
    """Whether the method takes means over clients, by :meth:`Strategy.centre`, so that ``robust`` can."""
    takes_votes: ClassVar[bool] = True
    """Whether predictions may be votes, which do not say how sure a client is."""
    same_start: ClassVar[bool] = False
    """Whether clients of one architecture start from the same weights."""
    joint: ClassVar[bool] = False
    """Whether training rehearses what teachers taught, where the scenario leaves it open."""
    fuses_mean: ClassVar[bool] = False
    """Whether there is one teacher, which follows from the clients' equally weighted mean alone."""
    default_loss: ClassVar[str] = "kl"
    """The distillation loss where the scenario names none."""
    default_temperature: ClassVar[float] = 1.0
    """The temperature of distillation where neither the scenario nor the strategy's settings name one."""
    reads_distill: ClassVar[frozenset[Reads]] = frozenset(("steps", "loss", "temperature"))
    """What the method makes of ``clients.distill``: how it trains (``steps``), its loss, its temperature."""
    distils: ClassVar[Literal["scores", "features"]] = "scores"
    """What its distillation loss must compare."""
    Config: ClassVar[type[StrategyConfig]] = StrategyConfig
    """The method's own settings."""
    robust = Robust()
    """How fusion withstands hostile contributions: the scenario's part."""
    simplex = False
    """Whether the values that are fused are probabilities: rows that sum to one."""

    def __init__(self, config: Any = None, setting: Setting | None = None, **own: Any) -> None:
        self.config: StrategyConfig = self.Config(**own) if config is None else config
        if setting is None:
            return  # ``Mine(trim=2)``, to be named in a scenario: each run makes its own
        self.setting = setting
        self.behaviour: type[Client] = behaviour_of(type(self), setting.scenario.data)
        self.client_settings = settings_for(type(self), config, setting.scenario)
        self.jointly = learns_jointly(type(self), setting.scenario)
        self.robust = setting.scenario.robust
        dims = next(iter(setting.dims.values()))
        sent = self.behaviour.contribution(dims, self.client_settings)
        self.simplex = "values" in sent and sent["values"].simplex
        if setting.scenario.server_model is not None and self.needs_transfer:
            setting.transfer_x()  # refused now rather than in the first round
        asked, given = setting.scenario.server_model, (setting.input, dims.classes, setting.seed)
        self.student: Trained | None = None if asked is None else build(asked.model, *given)
        """The server's own model, None where the scenario asks for none and the method has none."""
        self.course = Course(self, setting)
        first = self.initial()
        if first is not None:
            self.course.teach(0, Contributions((), {}), first)

    @property
    def round(self) -> int:
        """The round at work."""
        return self.course.round

    @property
    def rows(self) -> NDArray[np.int32] | None:
        """The transfer rows that the round speaks about, int32 [rows]; None for all, in order."""
        return self.course.rows

    @property
    def teachers(self) -> Teachers:
        """The newest teachers, the common one or one per client, each with its round."""
        return self.course.teachers

    # What a method says -------------------------------------------------------------------------

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Return the settings of the client half that follow from the strategy's own, as JSON values."""
        return {}

    @classmethod
    def problems(cls, config: Any, scenario: "Scenario", clients: int) -> list[str]:
        """Return what is wrong with the settings for this scenario and number of clients, in sentences."""
        return []

    @classmethod
    def no_server_model(cls) -> str | None:
        """Return why the server cannot train a model on what is fused, as a clause (None: it can)."""
        return None if cls.needs_transfer else "what it fuses does not speak about transfer rows"

    @classmethod
    def notes(cls, config: Any, classes: int) -> list[str]:
        """Return what should be known of these settings for so many classes, in sentences."""
        return []

    def decode(self, contributions: Contributions) -> Contributions:
        """Return contributions as :meth:`fuse` takes them, where they cross the wire in another form."""
        return contributions

    @classmethod
    def no_model(cls, net: "Net") -> str | None:
        """Return why a client's model is none for this method, as a clause about it (None: it is one)."""
        return None

    def server_lesson(self, fused: Fused) -> Fit | None:
        """Return what the server's model learns from this round's teachers (None: nothing).

        Here: their mean prediction on the transfer rows, or the method's beliefs.
        """
        values, logits = fused.beliefs, False
        if values is None:
            values = torch.stack([teacher["values"] for teacher in fused.teachers]).mean(0)
            logits = self.client_settings["form"] == "logits"
        x = self.setting.transfer_x(self.course.round)
        x = x if self.rows is None else x[torch.from_numpy(self.rows).long()]
        scenario = self.setting.scenario
        told = lesson_settings(scenario, self.client_settings)
        return lesson(x, values, told, steps_of(scenario), logits=logits, task=self.task)

    def serve(self, x: Tensor) -> Tensor | None:
        """Return the logits [n, classes] of the server's own model for ``x`` [n, ...] (None: it has none)."""
        return None if self.student is None else self.student.predict(x)

    @abstractmethod
    def fuse(self, contributions: Contributions) -> Fused | None:
        """Fuse the contributions [clients, ...] of at least a quorum (None: no teacher this round)."""

    def centre(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return what takes the place of a mean over clients: the mean, or what ``robust.centre`` names.

        ``values`` [clients, ...]; ``weights`` [clients], or with leading dimensions of the values; they
        must not be claims of the clients where ``robust`` is set.
        """
        told = aged(weights, self.ages)
        return robust.centre(values, told, self.robust, simplex=self.simplex, by_class=self.per_site)

    def mixed(self, weights: Tensor, knowledge: Tensor) -> Tensor:
        """Return teachers [clients, ...]: the centre with each row of ``weights`` [clients, clients]."""
        if self.robust.centre == "mean" and not self.per_site:
            return mix(weights, knowledge, self.ages)
        return torch.stack([self.centre(knowledge, row) for row in weights])

    def initial(self) -> Fused | None:
        """Return the teachers that exist before the first round (None: there are none)."""
        return None

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what the method itself remembers between rounds, for the checkpoint: tensors and JSON."""
        return {}, {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`extra_state` returned."""

    # A round, as Flower calls it ----------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the requests for contributions."""
        return self.course.ask_to_train(server_round, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Validate and fuse the replies; (None, None) below the quorum."""
        fused = self.course.take_contributions(server_round, replies)
        return (None, None) if fused is None else (ArrayRecord(), MetricRecord({"clients": fused}))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the messages that bring this round's teachers and ask for metrics."""
        return self.course.ask_to_evaluate(server_round, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect metrics; the mean is over the clients that answered this message."""
        personal = self.course.take_metrics(server_round, replies)
        return None if personal is None else MetricRecord({"personal": personal})

    def summary(self) -> None:
        """Flower's hook for a log at the start; fedkt shows the scenario instead."""
