"""The course of every strategy's rounds: ask, take in, fuse, teach; and what of it a resumed run needs.

A method says what is fused and how (:class:`Method`, the hooks of :class:`fedkt.strategy.Strategy`); here is
everything that is the same for all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.behaviour import Client, Fit
from fedkt.client.training import all_finite
from fedkt.data.identity import parties_hash
from fedkt.errors import Diverged, RunError
from fedkt.knowledge.codec import Expected, Rejected, encode
from fedkt.knowledge.contributions import Contributions, client_order, stack
from fedkt.knowledge.kinds import Dims
from fedkt.knowledge.protocol import Binding, Request, knowledge_bytes
from fedkt.privacy.curator import Central, central_of, teachable
from fedkt.privacy.ledger import Declined
from fedkt.scenario import Robust
from fedkt.strategy.choosing.chooser import RowChoice
from fedkt.strategy.fusing import remedies, robust
from fedkt.strategy.fusing.fusion import Fused
from fedkt.strategy.fusing.placebo import with_placebo
from fedkt.strategy.fusing.server_model import Trained
from fedkt.strategy.fusing.voting import votes
from fedkt.strategy.rounds.asking import Asking
from fedkt.strategy.rounds.board import Board
from fedkt.strategy.rounds.declining import Declining
from fedkt.strategy.rounds.given import Setting
from fedkt.strategy.rounds.receiving import Outcome, Receiving, Stage
from fedkt.strategy.rounds.teachers import Teachers

UNHURRIED_S = 7 * 86400.0
"""Real seconds that a message may take where time is simulated."""


class Method(Protocol):
    """What the course of a round needs of a strategy; :class:`fedkt.strategy.Strategy` says what each is."""

    behaviour: type[Client]
    client_settings: dict[str, Any]
    config: Any
    robust: Robust
    simplex: bool
    jointly: bool
    student: Trained | None
    ages: Tensor | None

    @property
    def needs_transfer(self) -> bool: ...
    def decode(self, contributions: Contributions) -> Contributions: ...
    def fuse(self, contributions: Contributions) -> Fused | None: ...
    def server_lesson(self, fused: Fused) -> Fit | None: ...
    def extra_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
    def load_extra(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None: ...


class Course:
    """The rounds of one run, as its server sees them."""

    def __init__(self, method: Method, setting: Setting) -> None:
        self._method, self._setting = method, setting
        self.asking = Asking(setting)
        self.receiving = Receiving(self.asking, self._contribution, self._binding)
        self.teachers = Teachers()
        self._declining = self._forecaster()
        self.central = self._central()
        """What the server does in a privacy mode, None in mode ``none``."""
        self.round = 0
        """The round at work."""
        self.attempt = 0
        """How often this round was begun before (the loop sets it)."""
        self.rows: NDArray[np.int32] | None = None
        """The transfer rows that the round speaks about, None for all."""
        self.report: Mapping[str, Any] = {}
        """What a person may want to see of the round."""
        self.kept = 0
        """Oldest round from which a resume may start (the loop sets it)."""
        self.wants_metrics: frozenset[str] = frozenset()
        """Clients whose metrics the next evaluation asks for (the loop sets it)."""
        self.board: Board | None = None
        """Where contributions lie in place of those of a round (who drives a board sets it)."""
        self._row_choice = self._policy()
        self._contributed: frozenset[str] = frozenset()

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of each message of the exchange at work, by client."""
        return self.receiving.outcomes

    # The two exchanges ----------------------------------------------------------------------------

    def ask_to_train(self, server_round: int, grid: Grid) -> list[Message]:
        """Ask a seeded sample of clients for contributions; who lacks the newest teacher gets it along."""
        asking, receiving = self.asking, self.receiving
        asking.learn_nodes(grid)
        self.round = server_round
        self.rows = None if self._row_choice is None else self._row_choice.choose(server_round)
        if not self.attempt:
            receiving.begin_round()
        asked = asking.sample(server_round, receiving.accepted, self.attempt)
        receiving.expect(asked)
        return self._requests("train", server_round, asked)

    def take_contributions(
        self, server_round: int, replies: Iterable[Message], as_: int | None = None
    ) -> int | None:
        """Validate the replies; fuse them if the quorum is met, else keep the old teachers.

        What was accepted before the round was begun again counts, too; on a board all that is fresh.
        ``as_``: the number that what is fused has, where that is another than the request's. Returns how many
        contributions were there to fuse, None below the quorum.
        """
        self._note_delivered(self.receiving.receive(server_round, replies, "train"))
        accepted = self.receiving.accepted
        arrays = {client: reply.arrays for client, reply in accepted.items() if reply.arrays is not None}
        return self.take(server_round if as_ is None else as_, arrays)

    def take(self, server_round: int, arrays: Mapping[str, Mapping[str, Any]]) -> int | None:
        """Fuse contributions, arrays by client and name; returns as :meth:`take_contributions` does."""
        self._contributed = frozenset(arrays)
        self.report = {}
        if self.board is not None:
            for client, its in arrays.items():
                self.board.put(client, server_round, its)
            arrays = self.board.fresh() if arrays else {}
        # What clients say that have no labels is somebody else's opinion.
        unheard = self._setting.scenario.data.unlabelled
        clients = tuple(c for c in sorted(arrays, key=client_order) if c not in unheard)
        quorum = self._setting.scenario.participation.quorum
        told = self._stacked(clients, arrays) if len(clients) >= quorum else None
        if told is None or len(told.clients) < quorum:
            return None
        opened = self.open(server_round, told)
        if opened is not None:
            self._fuse(server_round, opened)
        return len(told.clients)

    def ask_to_evaluate(self, server_round: int, grid: Grid) -> list[Message]:
        """Bring this round's teacher to those who contributed; ask for metrics where they are wanted."""
        self.asking.learn_nodes(grid)
        taught = {client for client in self._contributed if self._due(client)}
        there = {c for c in taught | self.wants_metrics if self.asking.there(c, server_round)}
        asked = sorted(there, key=client_order)
        self.receiving.outcomes = {client: Outcome(client) for client in asked}
        return self._requests("evaluate", server_round, asked)

    def take_metrics(self, server_round: int, replies: Iterable[Message]) -> float | None:
        """Collect metrics; return the mean personal accuracy of the clients that answered."""
        answered = self.receiving.receive(server_round, replies, "evaluate")
        self._note_delivered(answered)
        values = [reply.metrics["personal"] for reply in answered.values() if "personal" in reply.metrics]
        return float(np.mean(values)) if values else None

    def expect(self, client: str, number: int, stage: Stage) -> None:
        """Take in a reply of this client alone, to a request that perhaps a process made that is gone.

        Only where numbers of requests follow from a secret (:attr:`Answers.secret`) is it known.
        """
        self.asking.turn, self.asking.needed, self.round, self.attempt = client, 1, number, 0
        self.receiving.begin_round()
        self.receiving.expect([client])
        self.receiving.answers.ask(client, number, stage)
        self._contributed = frozenset((client,))

    # From contributions to teachers -------------------------------------------------------------------

    def _stacked(self, clients: Sequence[str], arrays: Mapping[str, Mapping[str, Any]]) -> Contributions:
        """Return contributions as the method fuses them, whatever form they crossed the wire in."""
        stacked = stack(clients, arrays, self.rows)
        return self._method.decode(self._setting.task.opened(stacked, self._method.client_settings))

    def open(self, server_round: int, contributions: Contributions) -> Contributions | None:
        """Return the contributions, in a privacy mode what the mode makes of them (None: nothing)."""
        if self.central is None:
            return contributions
        client = contributions.clients[0]
        try:
            classes = self._setting.task.alternatives(self._setting.dims[client].classes)
            opened = self.central.open(contributions, self._contribution(client), classes, server_round)
        except Declined as no:
            self.report = {"declined": no.reason, "detail": no.detail}
            return None
        if opened is not None:
            self.rows = None if opened.rows is None else opened.rows.numpy()
        return opened

    def _fuse(self, server_round: int, opened: Contributions) -> None:
        """Leave out what is not trusted, fuse the rest, teach, and train the server's own model."""
        method, student = self._method, self._method.student
        contributions, dropped = self._trusted(opened)
        if self.board is not None:
            method.ages = self.board.weights(contributions.clients)
        try:
            fused = self._close(self._fused(contributions))
            if fused is not None:
                if self._declining is not None:
                    self._declining.look(contributions, fused)
                self.teach(server_round, contributions, fused)
                phase = None if student is None else method.server_lesson(fused)
                if student is not None and phase is not None:
                    student.fit(phase, self._setting.seed, server_round)
        except Diverged as error:
            scenario, config = self._setting.scenario, method.config
            if error.rate is None:
                raise error.advised(remedies.change(scenario, config)) from error
            raise error.advised(remedies.lower(error.rate, "server", scenario, config)) from error
        self._learn_about_rows(self._answers(contributions), fused)
        if self._row_choice is not None and self._row_choice.census is not None:
            self._row_choice.census.hear(contributions.clients, contributions.arrays["census"])
        if self._declining is not None:
            self.report = {**self.report, **self._declining.report()}
        if dropped:
            self.report = {**self.report, "dropped": dropped}
        if self.board is not None:
            self.report = {**self.report, **self.board.report(contributions.clients)}

    def _fused(self, contributions: Contributions) -> Fused | None:
        """Fuse; where the scenario asks for the control, of placebo peers."""
        if not self._setting.scenario.placebo:
            return self._method.fuse(contributions)
        return with_placebo(self._method.fuse, contributions, self._setting.seed, self.round)

    def _trusted(self, contributions: Contributions) -> tuple[Contributions, list[str]]:
        """Leave out the contributions that ``robust.filter`` drops; return whose these are, too."""
        wanted = self._method.robust
        if wanted.filter == "none":
            return contributions, []
        arrays, probe = contributions.arrays, self._setting.probe
        held = arrays["counts"] > 0 if "counts" in arrays else None
        values = self._probabilities(contributions.values)
        if wanted.filter == "probe" and probe is not None:
            there, labels = probe.among(contributions.rows)
            least = 0.5 if wanted.least is None else wanted.least
            kept = robust.agreeing(values[:, there], labels, least)
        else:
            simplex = self._method.simplex or values is not contributions.values
            kept = robust.kept(values, held, wanted, simplex=simplex)
        clients = contributions.clients
        trusted = contributions.among([clients[i] for i in kept])
        return trusted, [client for client in clients if client not in trusted.clients]

    def _close(self, fused: Fused | None) -> Fused | None:
        """Return fused votes as distributions, which unbiased estimates may have left, and probabilities
        that a mean's rounding took a hair above 1 as 1."""
        form = self._method.client_settings.get("form")
        if fused is None or form not in ("votes", "probabilities") or "values" not in fused.arrays:
            return fused
        values = fused.arrays["values"]
        closed = teachable(values) if form == "votes" else self._setting.task.closed(values)
        return replace(fused, arrays={**fused.arrays, "values": closed})

    def teach(self, server_round: int, told: Contributions, fused: Fused) -> None:
        """Keep what was fused of contributions as the newest teachers.

        Raises Diverged where a teacher is not finite.
        """
        # Clients of one architecture may share the tensors of theirs.
        held = {id(t): t for arrays in [fused.arrays, *fused.by_client.values()] for t in arrays.values()}
        if not all_finite(held.values()):
            name = self._setting.scenario.strategy.name
            raise Diverged(f"the teacher of strategy '{name}' is not finite in round {server_round}")
        self.report = fused.report
        rows = {}
        if self._method.needs_transfer and self.rows is not None:
            rows = {"rows": torch.from_numpy(self.rows)}
        personal = dict(zip(told.clients, fused.teachers, strict=True)) if fused.personal else fused.by_client
        settings = self._method.client_settings
        written = partial(self._setting.task.written, settings=settings, beside=told.arrays)
        own = {client: {**written(arrays), **rows} for client, arrays in personal.items()}
        common = {} if own else {**written(fused.arrays), **rows}
        self.teachers.renew(server_round, common, own)

    def _answers(self, contributions: Contributions) -> Tensor | None:
        """Return what each client said of these rows [clients, rows, classes], where that decides what is
        asked."""
        if self._row_choice is None or not self._row_choice.by_clients:
            return None
        values, labels = contributions.arrays.get("values"), contributions.arrays.get("labels")
        if values is not None:
            values = self._probabilities(values)
            return teachable(values) if self._method.client_settings.get("form") == "votes" else values
        if labels is None:
            return None
        classes = self._setting.dims[next(iter(self._setting.dims))].classes
        return votes(classes, labels.clamp(min=0)) * (labels >= 0)[..., None]  # -1: no vote

    def _learn_about_rows(self, answers: Tensor | None, fused: Fused | None) -> None:
        """Note what these rows are worth, by answers and by the teachers that were made of them."""
        choice = self._row_choice
        if choice is None:
            return
        teachers = None
        if fused is not None and choice.by_teachers and fused.beliefs is not None:
            teachers = fused.beliefs[None]  # teachers of hard labels hold no values
        elif fused is not None and choice.by_teachers:
            teachers = torch.stack([self._probabilities(teacher["values"]) for teacher in fused.teachers])
        choice.learn(self.rows, answers, teachers)
        self.report = {**self.report, **choice.report()}

    def _probabilities(self, values: Tensor) -> Tensor:
        form = self._method.client_settings.get("form")
        return self._setting.task.said(values, "probabilities", 1.0) if form == "logits" else values

    # Messages -----------------------------------------------------------------------------------------

    def _requests(self, stage: Stage, server_round: int, asked: Sequence[str]) -> list[Message]:
        places = self.asking.places(asked)
        return [self._request(stage, server_round, client, node) for client, node in places]

    def _request(self, stage: Stage, server_round: int, client: str, node: int) -> Message:
        # Between rounds only contributors are taught; who was away catches up when it trains again, but on a
        # board it comes for a teacher with what it brings.
        catches_up = stage == "train" and self.board is None
        taught = self._due(client) and (catches_up or (stage == "evaluate" and client in self._contributed))
        teacher = self.teachers.of(client) if taught else None
        request = Request(
            self._binding(server_round, self.receiving.answers.ask(client, server_round, stage)),
            self.rows if stage == "train" else None,
            None if teacher is None else {name: tensor.numpy() for name, tensor in teacher.items()},
            self.teachers.round_of(client) if taught else 0,
            self.kept,
            stage == "evaluate" and client in self.wants_metrics,
        )
        common = teacher is not None and teacher is self.teachers.common
        encoded = self.teachers.encode_common if common else encode
        try:
            content = request.pack(self._setting.dims[client], self._teacher_arrays, encoded)
        except Rejected as error:
            scenario = self._setting.scenario
            what = (
                f"the teacher of strategy '{scenario.strategy.name}' in round {server_round} cannot be sent "
                f"to client {client}: {error.detail.rstrip('.')}"
            )
            of_values = error.reason in ("finite", "range", "norm", "sum")
            remedy = f"; {remedies.change(scenario, self._method.config)}." if of_values else "."
            raise RunError(what + remedy) from error
        outcome = self.outcomes[client]
        outcome.down += knowledge_bytes(content)
        outcome.taught = request.teacher_round if taught else None
        deadline = self._setting.scenario.participation.deadline_s
        # Where time is simulated, what is simulated may take longer than that.
        ttl = deadline if self._setting.churn is None else UNHURRIED_S
        return Message(content, node, stage, ttl=ttl, group_id=str(server_round))

    def _due(self, client: str) -> bool:
        """Say whether a client lacks the newest teacher, and is to have it."""
        spared = self._declining is not None and self._declining.spares(client)
        return self.teachers.lacks(client) and not spared

    def _note_delivered(self, clients: Iterable[str]) -> None:
        for client in clients:
            if (taught := self.outcomes[client].taught) is not None:
                self.teachers.delivered(client, taught)

    def _teacher_arrays(self, dims: Dims, with_rows: bool) -> Expected:
        return self._method.behaviour.teacher(dims, self._method.client_settings, with_rows=with_rows)

    def _contribution(self, client: str) -> Expected:
        dims = self._setting.dims[client].about(0 if self.rows is None else len(self.rows))
        return self._method.behaviour.contribution(dims, self._method.client_settings)

    def _binding(self, server_round: int, nonce: str) -> Binding:
        return Binding(self._setting.run, server_round, self._setting.transfer_in(server_round), nonce)

    # What follows from the scenario ----------------------------------------------------------------------

    def _policy(self) -> RowChoice | None:
        """Return what chooses transfer rows, None where clients are asked about none."""
        transfer = self._setting.scenario.data.transfer
        if not self._method.needs_transfer or transfer is None:
            return None
        setting, total = self._setting, next(iter(self._setting.dims.values())).transfer
        if transfer.rule.looks:
            setting.check_features()
        return RowChoice(transfer, total, setting.seed, setting.transfer_features)

    def _forecaster(self) -> Declining | None:
        """Return what declines on clients' behalf, None where nothing does."""
        scenario, method = self._setting.scenario, self._method
        if scenario.forecast == "none":
            return None
        return Declining(scenario, method.client_settings["form"], together=method.jointly)

    def _central(self) -> Central | None:
        setting, dims = self._setting, next(iter(self._setting.dims.values()))
        transfer = setting.scenario.data.transfer
        rows = transfer.asked if transfer and self._method.needs_transfer else 0
        return central_of(
            setting.scenario.privacy,
            self._method.behaviour.contribution(dims.about(rows), self._method.client_settings),
            run=setting.run,
            rounds=setting.scenario.rounds,
            clients=self.asking.usual,
            own=setting.own,
            rows=None if setting.federation is None else partial(parties_hash, setting.federation),
        )

    # Resume ------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return everything that a resumed run needs: tensors by name and a JSON note."""
        tensors, note = self._method.extra_state()
        held = {f"extra/{name}": tensor for name, tensor in tensors.items()}
        choice: dict[str, Any] = {}
        if self._row_choice is not None:
            worth, choice = self._row_choice.state()
            held |= {f"rows/{name}": tensor for name, tensor in worth.items()}
        if self._method.student is not None:
            held |= {f"student/{name}": tensor for name, tensor in self._method.student.state().items()}
        taught, about = self.teachers.state()
        answered = self.receiving.answers.state()
        note = {"extra": note, **about, "answered": answered, "rows": choice}
        if self._declining is not None:
            note["chances"] = self._declining.chances
        if self.board is not None:
            lying, note["board"] = self.board.state()
            held |= {f"board/{name}": tensor for name, tensor in lying.items()}
        return held | taught, note

    def load_state(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Restore what :meth:`state` returned."""
        parts: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("extra", "common", "personal", "rows", "student", "board")
        }
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = tensor
        if self._row_choice is not None:
            self._row_choice.load(parts["rows"], note.get("rows", {}))
        if self._method.student is not None:
            self._method.student.load(parts["student"])
        self.teachers.load(parts["common"], parts["personal"], note)
        self.receiving.answers.load(note.get("answered", {}))
        if self._declining is not None:
            self._declining.chances = dict(note.get("chances", {}))
        if self.board is not None:
            self.board.load(parts["board"], note["board"])
        self._method.load_extra(parts["extra"], note["extra"])
