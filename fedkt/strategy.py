"""The server half of a method: contributions in, teachers out.

A method overrides :meth:`Strategy.fuse`, which takes stacked tensors and returns tensors; everything
else (who is asked for which rows, validation, quorum, delivery, resume) is here, once. The base is a
Flower ``Strategy``, so Flower's own ``start`` can drive it as well as fedkt's loop.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy as FlowerStrategy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from fedkt import models, registry, robust
from fedkt.churn import Churn
from fedkt.client import Client, Fit
from fedkt.errors import InputError
from fedkt.fusion import Contributions, Fused, client_order, mix, stack
from fedkt.knowledge import Dims, Expected, Rejected, encode
from fedkt.privacy.central import Central, central_of, teachable
from fedkt.privacy.ledger import Declined
from fedkt.privacy.modes import mode_of
from fedkt.protocol import Binding, Reply, Request, knowledge_bytes, round_of, who_answered, who_are_you
from fedkt.replay import Answers
from fedkt.rng import numpy_stream
from fedkt.rows import RowChoice
from fedkt.scenario.adversity import Robust
from fedkt.student import build, lesson, steps_of
from fedkt.teachers import Teachers
from fedkt.trained import Trained

if TYPE_CHECKING:
    from fedkt.data import Federation
    from fedkt.data.dataset import InputSpec
    from fedkt.models import Net
    from fedkt.models.build import Dealt
    from fedkt.scenario import Scenario

# A strategy's author finds all that a strategy needs here.
__all__ = [
    "Contributions",
    "Fused",
    "Outcome",
    "Setting",
    "Shares",
    "Strategy",
    "StrategyConfig",
    "client_order",
    "mix",
    "settings_for",
    "stack",
]

UNHURRIED_S = 7 * 86400.0
"""Real seconds that a message may take where time is simulated."""

Shares = Literal["nothing", "knowledge", "features", "weights", "data"]


class StrategyConfig(BaseModel):
    """Base of a strategy's own settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Setting:
    """What the server knows: the scenario, the run's id, the sizes per client, the transfer set's hash,
    what a model gets (``input``).

    ``federation`` is there in a simulation only, for the bound that pools all data; ``probe`` where the
    server knows labels of transfer rows; ``churn`` where clients come and go in a simulation,
    ``hostile``: those who attack in it, whose accuracy counts in no mean.
    """

    scenario: "Scenario"
    run: str
    dims: Mapping[str, Dims]
    transfer: str
    input: "InputSpec"
    federation: "Federation | None" = None
    probe: robust.Probe | None = None
    churn: Churn | None = None
    hostile: frozenset[str] = frozenset()
    own: Path | None = None
    """The server's own folder, where its privacy ledger lies."""

    @property
    def seed(self) -> int:
        """The scenario's seed."""
        return self.scenario.seed

    @property
    def models(self) -> "dict[str, Dealt]":
        """Each client's model, as dealt in the order of the clients."""
        dealt = models.deal(self.scenario.clients.models, len(self.dims), self.seed)
        return dict(zip(self.dims, dealt, strict=True))

    def transfer_x(self) -> Tensor:
        """Return the transfer set [rows, ...] as a model gets it. Raises InputError where there is none."""
        if self.federation is None or self.federation.transfer is None:
            name = self.scenario.strategy.name
            raise InputError(
                f"the server of strategy '{name}' needs the transfer set's rows; it has none here."
            )
        x = self.federation.server_tensors()[0]
        assert x is not None
        return x


@dataclass
class Outcome:
    """What became of one message: its status and why, the bytes in each direction, the round of the
    teacher that it carried, metrics."""

    client: str
    status: str = "late"
    reason: str = ""
    detail: str = ""
    up: int = 0
    down: int = 0
    taught: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Strategy(FlowerStrategy):
    """Base of every strategy (entry points ``fedkt.strategies``)."""

    shares: ClassVar[tuple[Shares, ...]] = ("knowledge",)
    """All that leaves a client; ``features`` and ``weights`` only where the scenario allows them."""
    client: ClassVar[str]
    """Name of the client behaviour that is this method's other half."""
    needs_transfer: ClassVar[bool] = False
    """Whether clients are asked about rows of the transfer set."""
    server_transfer: ClassVar[bool] = False
    """Whether the server itself predicts rows of the transfer set, of which clients need not know."""
    needs_public: ClassVar[bool] = False
    one_width: ClassVar[bool] = False
    """Whether all models must have one feature width."""
    one_model: ClassVar[bool] = False
    """Whether all clients must have one architecture."""
    takes_mean: ClassVar[bool] = True
    """Whether the method takes means over clients, by :meth:`Strategy.centre`, so that ``robust`` can."""
    same_start: ClassVar[bool] = False
    """Whether clients of one architecture start from the same weights."""
    fuses_mean: ClassVar[bool] = False
    """Whether there is one teacher, which follows from the clients' equally weighted mean alone."""
    default_loss: ClassVar[str] = "kl"
    """The distillation loss where the scenario names none."""
    distils: ClassVar[Literal["scores", "features"]] = "scores"
    """What its distillation loss must compare."""
    Config: ClassVar[type[StrategyConfig]] = StrategyConfig
    robust = Robust()
    """How fusion withstands hostile contributions: the scenario's part."""
    _simplex = False
    """Whether the values that are exchanged are probabilities: rows that sum to one."""

    def __init__(self, config: StrategyConfig, setting: Setting) -> None:
        self.config = config
        self.setting = setting
        self.behaviour: type[Client] = registry.find("clients", self.client)
        self.client_settings = settings_for(type(self), config, setting.scenario)
        self.robust = setting.scenario.robust
        self.central = self._central()
        """What the server does in a privacy mode, None in mode ``none``."""
        dims = next(iter(setting.dims.values()))
        sent = self.behaviour.contribution(dims, self.client_settings)
        self._simplex = "values" in sent and sent["values"].simplex
        self.outcomes: dict[str, Outcome] = {}
        self.report: Mapping[str, Any] = {}
        self.round = 0
        """The round at work."""
        self.rows: NDArray[np.int32] | None = None
        self.kept = 0
        """Oldest round from which a resume may start (the loop sets it)."""
        self.wants_metrics: frozenset[str] = frozenset()
        """Clients whose metrics the next evaluation asks for (the loop sets it)."""
        self.teachers = Teachers()
        self._row_choice = self._policy()
        self._nodes: dict[int, str] = {}
        self.answers = Answers()
        """Which requests are open, which were answered."""
        self.attempt = 0
        """How often this round was begun before (the loop sets it)."""
        self.needed = 0
        """How many contributions this round takes in at most."""
        self._accepted: dict[str, Reply] = {}
        self._contributed: frozenset[str] = frozenset()
        if setting.scenario.server_model is not None and self.needs_transfer:
            setting.transfer_x()  # refused now rather than in the first round
        self.student = student_of(setting)
        """The server's own model, None where the scenario asks for none and the method has none."""
        first = self.initial()
        if first is not None:
            self._teach(0, (), first)

    # What a method says -------------------------------------------------------------------------

    @classmethod
    def settings(cls, config: Any) -> dict[str, Any]:
        """Return the settings of the client half that follow from the strategy's own."""
        return {}

    @classmethod
    def problems(cls, config: Any, scenario: "Scenario", clients: int) -> list[str]:
        """Return what is wrong with the settings for this scenario and number of clients, in sentences."""
        return []

    @classmethod
    def no_server_model(cls) -> str | None:
        """Return why the server cannot train a model on what is fused, as a clause (None: it can)."""
        return None if cls.needs_transfer else "what it fuses does not speak about transfer rows"

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
        x = self.setting.transfer_x()
        x = x if self.rows is None else x[torch.from_numpy(self.rows).long()]
        return lesson(x, values, self.client_settings, steps_of(self.setting.scenario), logits=logits)

    def serve(self, x: Tensor) -> Tensor | None:
        """Return the logits [n, classes] of the server's own model (None: there is none)."""
        return None if self.student is None else self.student.predict(x)

    @abstractmethod
    def fuse(self, contributions: Contributions) -> Fused | None:
        """Fuse the contributions of at least a quorum of clients (None: no teacher this round)."""

    def centre(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return what takes the place of a mean over clients: the mean, or what ``robust.centre`` names.

        ``values`` [clients, ...]; ``weights`` [clients], or with leading dimensions of the values; they
        must not be claims of the clients where ``robust`` is set.
        """
        return robust.centre(values, weights, self.robust, simplex=self._simplex)

    def mixed(self, weights: Tensor, knowledge: Tensor) -> Tensor:
        """Return a teacher for each row of ``weights`` [clients, clients]: the centre with these weights."""
        if self.robust.centre == "mean":
            return mix(weights, knowledge)
        return torch.stack([self.centre(knowledge, row) for row in weights])

    def initial(self) -> Fused | None:
        """Return the teachers that exist before the first round (None: there are none)."""
        return None

    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what the method itself remembers between rounds: tensors and JSON."""
        return {}, {}

    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`extra_state` returned."""

    # A round, as Flower calls it ----------------------------------------------------------------

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask a seeded sample of clients for contributions; who lacks the newest teacher gets it along."""
        self._learn_nodes(grid)
        self.round = server_round
        self.rows = None if self._row_choice is None else self._row_choice.choose(server_round)
        if not self.attempt:
            self.answers.begin()
            self.outcomes, self._accepted = {}, {}
        asked = self.sample(server_round)
        for client in asked:
            self.outcomes.setdefault(client, Outcome(client)).status = "late"
        return [self._request("train", server_round, client, node) for client, node in self._places(asked)]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Validate the replies; fuse them if the quorum is met, else keep the old teachers.

        What was accepted before the round was begun again counts, too.
        """
        self._accepted |= self._receive(server_round, replies, with_knowledge=True)
        arrays = {c: reply.arrays for c, reply in self._accepted.items() if reply.arrays is not None}
        clients = tuple(sorted(arrays, key=client_order))
        self._contributed = frozenset(clients)
        self.report = {}
        quorum = self.setting.scenario.participation.quorum
        told = self.decode(stack(clients, arrays, self.rows)) if len(clients) >= quorum else None
        if told is None or len(told.clients) < quorum:
            return None, None
        opened = self._open(server_round, told)
        if opened is None:
            return ArrayRecord(), MetricRecord({"clients": len(told.clients)})
        contributions, dropped = self._trusted(opened)
        fused = self._close(self.fuse(contributions))
        if fused is not None:
            self._teach(server_round, contributions.clients, fused)
            phase = None if self.student is None else self.server_lesson(fused)
            if self.student is not None and phase is not None:
                self.student.fit(phase, self.setting.seed, server_round)
        if dropped:
            self.report = {**self.report, "dropped": dropped}
        return ArrayRecord(), MetricRecord({"clients": len(told.clients)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Bring this round's teacher to those who contributed; ask for metrics where they are wanted."""
        self._learn_nodes(grid)
        taught = {client for client in self._contributed if self.teachers.lacks(client)}
        there = {client for client in taught | self.wants_metrics if self.there(client, server_round)}
        asked = sorted(there, key=client_order)
        self.outcomes = {client: Outcome(client) for client in asked}
        return [self._request("evaluate", server_round, client, node) for client, node in self._places(asked)]

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Collect metrics; the mean is over the clients that answered this message."""
        answered = self._receive(server_round, replies, with_knowledge=False)
        values = [r.metrics["personal"] for r in answered.values() if "personal" in r.metrics]
        return MetricRecord({"personal": float(np.mean(values))}) if values else None

    def summary(self) -> None:
        """Flower's hook for a log at the start; fedkt shows the scenario instead."""

    def seat(self, nodes: Mapping[int, str]) -> None:
        """Note which client each of these nodes plays, where the caller knows: they are not asked."""
        self._nodes |= nodes

    # What the loop needs beside ------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by name and a JSON note."""
        tensors, note = self.extra_state()
        held = {f"extra/{name}": tensor for name, tensor in tensors.items()}
        if self._row_choice is not None and self._row_choice.doubt is not None:
            held["rows/doubt"] = self._row_choice.doubt
        if self.student is not None:
            held |= {f"student/{name}": tensor for name, tensor in self.student.state().items()}
        taught, about = self.teachers.state()
        return held | taught, {"extra": note, **about, "answered": self.answers.state()}

    def load_state(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        parts: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("extra", "common", "personal", "rows", "student")
        }
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = tensor
        if self._row_choice is not None:
            self._row_choice.doubt = parts["rows"].get("doubt")
        if self.student is not None:
            self.student.load(parts["student"])
        self.teachers.load(parts["common"], parts["personal"], note)
        self.answers.load(note.get("answered", {}))
        self.load_extra(parts["extra"], note["extra"])

    def sample(self, server_round: int) -> list[str]:
        """Return the clients to ask: a seeded sample of those that are there, at least one of them.

        It has the scenario's fraction, and more where more are asked than needed. Where the round is begun
        again, those are left out that have contributed to it.
        """
        there = [c for c in sorted(self.setting.dims, key=client_order) if self.there(c, server_round)]
        part = self.setting.scenario.participation
        self.needed = max(1, round(part.fraction * len(there)))
        free = [client for client in there if client not in self._accepted]
        count = min(len(free), math.ceil(self.needed * part.over_select) - len(self._accepted))
        if count == len(free):
            return free
        again = (self.attempt,) if self.attempt else ()
        stream = numpy_stream(self.setting.seed, "sample", server_round, *again)
        return [free[i] for i in sorted(stream.choice(len(free), count, replace=False))]

    def there(self, client: str, server_round: int) -> bool:
        """Say whether a client takes part in a round: it has not withdrawn and churn leaves it there."""
        churn, withdrawn = self.setting.churn, self.setting.scenario.participation.withdrawn
        return withdrawn.get(client, math.inf) > server_round and (
            churn is None or churn.there(client, server_round)
        )

    @property
    def wanted(self) -> int:
        """How many more contributions this round takes in."""
        return self.needed - len(self._accepted)

    def note_late(self, messages: Iterable[Message]) -> None:
        """Count the bytes of replies that came after the deadline."""
        for message in messages:
            outcome = self.outcomes.get(self.client_at(message.metadata.src_node_id))
            if outcome is not None and message.has_content():
                outcome.up += knowledge_bytes(message.content)

    def client_at(self, node: int) -> str:
        """Return the client that a node plays, an empty name where that is unknown."""
        return self._nodes.get(node, "")

    # Inside ---------------------------------------------------------------------------------------

    def _policy(self) -> RowChoice | None:
        """Return what chooses transfer rows, None where clients are asked about none."""
        transfer = self.setting.scenario.data.transfer
        if not self.needs_transfer or transfer is None:
            return None
        return RowChoice(transfer, next(iter(self.setting.dims.values())).transfer, self.setting.seed)

    def _score_rows(self, fused: Fused) -> None:
        """Note how uncertain these teachers are about their rows, where that decides what is asked next."""
        if self._row_choice is None or not self._row_choice.by_doubt:
            return
        values = [fused.beliefs] if fused.beliefs is not None else None
        values = values or [self._probabilities(teacher["values"]) for teacher in fused.teachers]
        self._row_choice.score(self.rows, values)

    def _probabilities(self, values: Tensor) -> Tensor:
        return values.softmax(-1) if self.client_settings.get("form") == "logits" else values

    def _trusted(self, contributions: Contributions) -> tuple[Contributions, list[str]]:
        """Leave out the contributions that ``robust.filter`` drops; return whose these are, too."""
        if self.robust.filter == "none":
            return contributions, []
        arrays, probe = contributions.arrays, self.setting.probe
        held = arrays["counts"] > 0 if "counts" in arrays else None
        values = self._probabilities(contributions.values)
        if self.robust.filter == "probe" and probe is not None:
            there, labels = probe.among(contributions.rows)
            kept = robust.agreeing(
                values[:, there], labels, 0.5 if self.robust.least is None else self.robust.least
            )
        else:
            kept = robust.kept(
                values, held, self.robust, simplex=self._simplex or values is not contributions.values
            )
        clients = contributions.clients
        trusted = contributions.among([clients[i] for i in kept])
        return trusted, [client for client in clients if client not in trusted.clients]

    def _asked(self) -> int:
        """Return how many clients are asked in each round: the scenario's fraction, at least one."""
        return max(1, round(self.setting.scenario.participation.fraction * len(self.setting.dims)))

    def _central(self) -> Central | None:
        setting, dims = self.setting, next(iter(self.setting.dims.values()))
        transfer = setting.scenario.data.transfer
        rows = (transfer.rows or 0) if transfer and self.needs_transfer else 0
        return central_of(
            setting.scenario.privacy,
            self.behaviour.contribution(dims.about(rows), self.client_settings),
            run=setting.run,
            rounds=setting.scenario.rounds,
            clients=self._asked(),
            own=setting.own,
        )

    def _open(self, server_round: int, contributions: Contributions) -> Contributions | None:
        """Return the contributions, in a privacy mode what the mode makes of them (None: nothing)."""
        central = self.central
        if central is None:
            return contributions
        client = contributions.clients[0]
        try:
            classes = self.setting.dims[client].classes
            opened = central.open(contributions, self._contribution(client), classes, server_round)
        except Declined as no:
            self.report = {"declined": no.reason, "detail": no.detail}
            return None
        if opened is not None:
            self.rows = None if opened.rows is None else opened.rows.numpy()
        return opened

    def _close(self, fused: Fused | None) -> Fused | None:
        """Return fused votes as distributions, which unbiased estimates may have left."""
        if fused is None or self.client_settings.get("form") != "votes":
            return fused
        return replace(fused, arrays={**fused.arrays, "values": teachable(fused.arrays["values"])})

    def _teach(self, server_round: int, clients: Sequence[str], fused: Fused) -> None:
        self.report = fused.report
        rows = {}
        if self.needs_transfer and self.rows is not None:
            rows = {"rows": torch.from_numpy(self.rows)}
        personal = dict(zip(clients, fused.teachers, strict=True)) if fused.personal else fused.by_client
        own = {client: dict(arrays) | rows for client, arrays in personal.items()}
        self.teachers.renew(server_round, dict(fused.arrays) | rows, own)
        self._score_rows(fused)

    def _request(self, kind: str, server_round: int, client: str, node: int) -> Message:
        # Between rounds only contributors are taught; who was away catches up when it trains again.
        taught = self.teachers.lacks(client) and (kind == "train" or client in self._contributed)
        teacher = self.teachers.of(client) if taught else None
        request = Request(
            self._binding(server_round, self.answers.ask(client)),
            self.rows if kind == "train" else None,
            None if teacher is None else {name: tensor.numpy() for name, tensor in teacher.items()},
            self.teachers.round_of(client) if taught else 0,
            self.kept,
            kind == "evaluate" and client in self.wants_metrics,
        )
        common = teacher is not None and teacher is self.teachers.common
        encoded = self.teachers.encode_common if common else encode
        content = request.pack(self.setting.dims[client], self._teacher_arrays, encoded)
        self.outcomes[client].down += knowledge_bytes(content)
        self.outcomes[client].taught = request.teacher_round if taught else None
        deadline = self.setting.scenario.participation.deadline_s
        # Where time is simulated, what is simulated may take longer than that.
        ttl = deadline if self.setting.churn is None else UNHURRIED_S
        return Message(content, node, kind, ttl=ttl, group_id=str(server_round))

    def _teacher_arrays(self, dims: Dims, with_rows: bool) -> Expected:
        return self.behaviour.teacher(dims, self.client_settings, with_rows=with_rows)

    def _receive(
        self, server_round: int, replies: Iterable[Message], *, with_knowledge: bool
    ) -> dict[str, Reply]:
        """Return the accepted replies by client and note what became of every message."""
        accepted: dict[str, Reply] = {}
        stage = "train" if with_knowledge else "evaluate"
        for message in replies:
            client = self.client_at(message.metadata.src_node_id)
            try:
                nonce = self.answers.number(client, server_round, stage)
            except Rejected:
                continue  # counted there
            outcome = self.outcomes[client]
            if with_knowledge and len(accepted) >= self.wanted:
                self.note_late([message])
                continue
            self.answers.close(client, server_round, stage)
            if message.has_error():
                outcome.status, outcome.reason = "failed", "flower"
                outcome.detail = message.error.reason or "the client's process failed"
                continue
            outcome.up += knowledge_bytes(message.content)
            try:
                self.answers.check(client, round_of(message.content))
                expected = self._contribution(client) if with_knowledge else None
                reply = Reply.unpack(message.content, self._binding(server_round, nonce), expected)
                if reply.client != client:
                    raise Rejected("kind", f"client {client} answered as '{reply.client}'.")
            except Rejected as error:
                outcome.status, outcome.reason, outcome.detail = "rejected", error.reason, error.detail
                continue
            outcome.status, outcome.reason, outcome.detail = reply.status, reply.reason, reply.detail
            outcome.metrics = reply.metrics
            if reply.status == "accepted":
                accepted[client] = reply
                if outcome.taught is not None:
                    self.teachers.delivered(client, outcome.taught)
        return accepted

    def _contribution(self, client: str) -> Expected:
        dims = self.setting.dims[client].about(0 if self.rows is None else len(self.rows))
        return self.behaviour.contribution(dims, self.client_settings)

    def _binding(self, server_round: int, nonce: str) -> Binding:
        return Binding(self.setting.run, server_round, self.setting.transfer, nonce)

    def _places(self, clients: Sequence[str]) -> list[tuple[str, int]]:
        node_of = {client: node for node, client in self._nodes.items()}
        return [(client, node_of[client]) for client in clients if client in node_of]

    def _learn_nodes(self, grid: Grid) -> None:
        """Ask unknown nodes once which client they are: Flower's node ids are random."""
        unknown = [node for node in grid.get_node_ids() if node not in self._nodes]
        if not unknown:
            return
        deadline = self.setting.scenario.participation.deadline_s
        for reply in grid.send_and_receive(
            [who_are_you(node, deadline) for node in unknown], timeout=deadline
        ):
            if reply.has_content():
                name = who_answered(reply.content)
                if name in self.setting.dims:
                    self._nodes[reply.metadata.src_node_id] = name


def settings_for(kind: type[Strategy], config: StrategyConfig, scenario: "Scenario") -> dict[str, Any]:
    """Return the settings of a strategy's client half: the scenario's distillation, then the method's own."""
    distill = scenario.clients.distill
    mode = mode_of(scenario.privacy)
    form = {} if mode is None or mode.form is None else {"form": mode.form}
    # Votes are fused to probabilities, which losses on logits themselves make little of.
    loss = distill.loss or (kind.default_loss if not form else "ce")
    return {"loss": loss, "temperature": distill.temperature, **kind.settings(config), **form}


def student_of(setting: Setting) -> Trained | None:
    """Build the server's own model where the scenario asks for one."""
    asked = setting.scenario.server_model
    if asked is None:
        return None
    return build(asked.model, setting.input, next(iter(setting.dims.values())).classes, setting.seed)
