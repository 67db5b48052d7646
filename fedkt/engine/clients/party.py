"""One client at work: load its state, do what a message asks, save its state.

Every engine and every deployed site runs this code. What trains or predicts is yielded as a job
(:mod:`fedkt.engine.clients.jobs`); all else happens here. Versions of the state are explained in
:mod:`fedkt.client.state`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.behaviour import REFERENCES, Arrays, Client, Fit
from fedkt.client.lessons.adapting import Speaker, speaker
from fedkt.client.lessons.snapshot import Before, reminded
from fedkt.client.placing import placed, placed_state
from fedkt.client.state import ClientState, StateStore, packed, unpacked
from fedkt.client.training import all_finite
from fedkt.engine.clients.copies import BESIDE, Copies, costly, digestion_of, fitted, private, training_of
from fedkt.engine.clients.jobs import Awaited, PlaceJob, PredictJob, Work, no_predictions
from fedkt.engine.clients.measuring import Scores, by_task, files_of, held_in, measured, watched
from fedkt.engine.world.guard import Describe, Guard, guard_of
from fedkt.engine.world.world import World
from fedkt.errors import Diverged
from fedkt.files import write_json
from fedkt.knowledge.codec import Expected, Rejected, alike_in_size, refuse_weights
from fedkt.knowledge.protocol import Reply, Request
from fedkt.privacy.ledger import Purpose
from fedkt.results import metrics
from fedkt.strategy.fusing import remedies

_DONE = {"prepare": "preparation", "digest": "distillation", "train": "training"}
"""What to call a stage that trained."""

_ROWS, _MODEL = "the rows asked for", "the model's "
"""Names that no array of a message has."""
Stage = Callable[[str], None]
"""Told the name of each stage as it begins, so that an error can say where it happened."""


class Party:
    """A client of a world with its model loaded: lives for one message."""

    def __init__(self, world: World, store: StateStore, client: str) -> None:
        self.world = world
        self.store = store
        self.client = client
        self.net = world.skeleton(client)
        self.model: Arrays = {}
        """The state dict; never changed in place."""
        self.behaviour: Client = world.player(client)
        self.guard: Guard | None = guard_of(world, client, self.behaviour, store.folder_of(client))
        """What stands between this client's data and its messages; None where it adds no noise itself."""
        self._optimizers: dict[str, dict[str, Tensor]] = {}
        self._teacher: dict[str, Tensor] = {}
        self._round = 0
        self._arrived: dict[str, Tensor] = {}
        """The message's teacher, where it was not digested before."""
        self._awaited = Awaited()
        self._dropped: dict[str, float] = {}
        self._losses: metrics.Losses = {}
        """Of the phases of this message."""
        self._before = Before()
        self._speaker = Speaker()
        self._digested = -1
        self._prepared = False
        self._guards = len(world.aside(client)) > 0
        """Whether what a teacher does to this client is undone where it costs too much."""
        self._copies = Copies(world, client, self.net)
        """Those by which it is found whether teachers make the client better; none without folds."""
        self._undone = False
        """Whether that happened in this round."""
        self._taught = False
        """Whether the model has learned from a teacher, so that what is added to its scores fits it."""

    def train(self, request: Request, stage: Stage) -> Work[Reply]:
        """Digest a teacher that was missed, train on private data, and return the contribution."""
        number = request.binding.round
        purpose = Purpose(request.binding.run, number, "train")
        if self.guard is not None and (sent := self.guard.sent(purpose)) is not None:
            return Reply(request.binding, self.client, arrays=sent, metrics=self.guard.told())
        self._load(2 * number, stage)
        rows = yield from self._place(request)
        if self.guard is not None:
            stage("reserve")
            phases = [*self._preparation(), *self._digestion(request), self._training]
            self.guard.reserve(purpose, phases, self.contribution(request))
        yield from self._prepare(number, stage)
        yield from self._digest(request, stage)
        stage("train")
        self._undone = False
        yield from self._remember(number)
        yield from self._train(number)
        yield from self._copies.train(self._teacher, self._digested, number)
        stage("extract")
        learned, self.model = self.model, self.world.answering(self.client, self.model)
        knowledge = yield from self._extract(number, rows, self.contribution(request))
        self.model = learned
        yield from self._awaited.settle("extract")
        stage("save")
        self._save(2 * number, request.kept)
        told = self._told_of(self._speaker.told, number)
        if self.guard is None:
            return Reply(request.binding, self.client, arrays=knowledge, metrics=told)
        self.guard.release(purpose, knowledge)
        return Reply(request.binding, self.client, arrays=knowledge, metrics=self.guard.told())

    def evaluate(self, request: Request, stage: Stage) -> Work[Reply]:
        """Digest this round's teacher once, then measure; metrics only where they are asked for."""
        version = 2 * request.binding.round + 1
        known = self._load(version, stage)
        yield from self._place(request)
        before: Scores = {}
        if request.evaluate and request.teacher is not None:
            stage("measure")
            before = yield from self._scores("measure", self._teacher)
        if self.guard is not None and (phases := self._digestion(request)):
            stage("reserve")
            self.guard.reserve(Purpose(request.binding.run, request.binding.round, "digest"), phases, None)
        digested = yield from self._digest(request, stage)
        found: dict[str, float] = {}
        if request.evaluate:
            stage("evaluate")
            if self._copies.names:
                yield from self._copies.compare("evaluate", self._teacher, self._awaited.fetch)
                found["trusted"] = float(self._copies.better)
            found |= yield from self._measured(before, (yield from self._scores("evaluate", self._teacher)))
            if self._guards:
                found["undone"] = float(self._undone)
            found |= self._dropped
        yield from self._awaited.settle("evaluate")
        if digested or not known:
            stage("save")
            self._save(version, request.kept)
        told = self._told_of(found, request.binding.round)
        return Reply(request.binding, self.client, metrics=told)

    # Steps ----------------------------------------------------------------------------------------

    def _preparation(self) -> list[Describe]:
        """Return the phase before the first round, where it is to come and is not forgotten by a refit."""
        return [] if self._prepared or self.net.refits else [lambda behaviour: behaviour.prepare()]

    def _place(self, request: Request) -> Work[Tensor | None]:
        """Bring to the device what the request holds: a new teacher, and the rows asked for."""
        arrays: dict[str, NDArray[Any]] = {} if request.rows is None else {_ROWS: request.rows}
        if request.teacher is not None and request.teacher_round > self._digested:
            arrays |= request.teacher
        job = PlaceJob("place", arrays, self.world.device, self.behaviour.read_here)
        there: dict[str, Tensor] = (yield job) if arrays else {}
        rows = there.pop(_ROWS, None)
        if there:
            there = reminded(there, self.world.settings, self._before, request.teacher_round)
            there, self.model, self._dropped = self.world.lesson(self.client, there, self.model)
        self._arrived = there
        return rows

    def _digestion(self, request: Request) -> list[Describe]:
        """Return the phase of the teacher that arrived, where one did."""
        teacher, made = self._arrived, request.teacher_round
        return [lambda behaviour: digestion_of(self.world, behaviour, teacher, made)] if teacher else []

    def _training(self, behaviour: Client) -> Fit | None:
        return training_of(self.world, behaviour, self._teacher, self._digested)

    def _prepare(self, number: int, stage: Stage) -> Work[None]:
        for describe in self._preparation():
            stage("prepare")
            yield from self._fit("prepare", describe, number)
            self._prepared = True

    def _digest(self, request: Request, stage: Stage) -> Work[bool]:
        """Digest the request's teacher unless it was digested before; say whether anything changed."""
        phases = self._digestion(request)
        if not self._arrived:
            return False
        stage("digest")
        self._teacher = self._arrived
        adopted = self.behaviour.adopt(self._teacher)
        if adopted is not None:
            self.model = {**self.model, **{name: adopted[name] for name in self.model if name in adopted}}
        for describe in phases:
            yield from self._guarded("digest", self._fit("digest", describe, request.binding.round))
        yield from self._copies.digest(self._teacher, request.teacher_round, request.binding.round)
        self._digested = request.teacher_round
        return True

    def _train(self, number: int) -> Work[None]:
        """Train; alone where learning from a teacher in the same steps was undone."""
        training = self._fit("train", self._training, number)
        if not ((self.world.together or self.net.refits) and self._teacher):
            yield from training
        elif (yield from self._guarded("train", training)):
            yield from self._fit("train", self._training_alone, number)

    def _remember(self, number: int) -> Work[None]:
        """Keep what the model says of the transfer rows before it trains, to be mixed into teachers."""
        x = self.world.about(self.behaviour, number).holding.transfer
        if self.world.settings.get("snapshot") is not None and x is not None:
            self._before = Before((yield from self._predict("train", x))[1], number)

    def _training_alone(self, behaviour: Client) -> Fit | None:
        training = self.world.about(behaviour, self._digested).train(self._teacher)
        return training and private(self.world, training)

    def _guarded(self, stage: str, learning: Work[None]) -> Work[bool]:
        """Let the client learn from a teacher; undo it where that cost too much, and say whether it did."""
        if not self._guards:
            yield from learning
            self._taught = True
            return False
        model, optimizers, taught = self.model, dict(self._optimizers), self._taught
        before = yield from self._right(stage)
        yield from learning
        self._taught = True
        if not costly(before, (yield from self._right(stage))):
            return False
        self.model, self._optimizers, self._taught, self._undone = model, optimizers, taught, True
        return True

    def _right(self, stage: str) -> Work[Tensor]:
        """Return how well the client predicts the rows [n] that it set aside."""
        x, y = self.world.guard_rows(self.client)
        scores = yield from self._scored(stage, x, self._teacher)
        own = scores.get(self.behaviour.decides_own, scores[""])
        here = yield from self._awaited.fetch(stage, {"scores": own})
        return self.world.federation.task.goodness(here["scores"], y)

    def _fit(self, stage: str, describe: Describe, number: int) -> Work[None]:
        private = None
        if self.guard is None:
            phase = describe(self.behaviour)
        else:
            phase, private = self.guard.phase(describe, number)
        if phase is not None:
            state, at = self._optimizers.get(phase.name, {}), (self.world.scenario.seed, self.client, number)
            done = yield from fitted(stage, self.net, self.model, phase, state, at, private)
            self.model, self._optimizers[phase.name], means = done
            self._awaited.when_known(
                means, lambda here: self._losses.update(metrics.losses_of(stage, here.tolist()))
            )
            what = f"'s model is no longer finite after {_DONE[stage]} in round {number}"
            where: remedies.Where = "digest" if stage == "digest" else "train"
            otherwise = partial(self._diverged, what, phase.steps.lr, where)
            self._insist(all_finite(self.model.values()), otherwise)

    def _predict(self, stage: str, x: Tensor) -> Work[tuple[Tensor, Tensor]]:
        predictions: tuple[Tensor, Tensor] = yield PredictJob(stage, self.net, self.model, x)
        features, logits = predictions
        what = f"'s model makes predictions that are not finite in round {self._round}"
        # A model may rule out a class by minus infinity.
        for fine in (all_finite([features]), (logits < math.inf).all()):
            self._insist(fine, partial(self._diverged, what))
        return predictions

    def _insist(self, fine: bool | Tensor, otherwise: Callable[[], Diverged]) -> None:
        """Raise an error unless something holds; where only an accelerator knows, with the next fetch."""

        def check(here: Tensor | bool) -> None:
            if not here:
                raise otherwise()

        self._awaited.when_known(fine, check)

    def _told_of(self, found: Mapping[str, float], number: int) -> dict[str, float]:
        """Return the metrics of a reply: what was measured, and the losses of this message's phases.

        In a private mode none of it leaves; a simulation reads it outside the protocol.
        """
        told = {**found, **metrics.as_metrics(self._losses)}
        if self.world.mode is None:
            return told
        self.store.observe(self.client, number, told)
        return {}

    def _diverged(self, what: str, rate: float | None = None, where: remedies.Where = "train") -> Diverged:
        scenario = self.world.scenario
        used = scenario.clients.local.lr if rate is None else rate
        remedy = remedies.lower(used, where, scenario, self.world.config)
        remedy += remedies.scale(scenario, self.world.federation.input.kind)
        return Diverged(f"client {self.client}{what}", remedy, rate)

    def _extract(
        self, round_: int, rows: Tensor | None, expected: Expected
    ) -> Work[Mapping[str, NDArray[Any]]]:
        dims, behaviour = self.world.dims(self.client), self.behaviour
        if self.guard is not None:
            behaviour = self.guard.releasing
        behaviour = self.world.about(behaviour, round_)
        inputs = behaviour.inputs(rows)
        if inputs is None:
            features, logits = no_predictions(dims.width, dims.classes)
        else:
            own, held, scenario = self.model, behaviour.holding, self.world.scenario
            us, when = self._speaker.of(own), (self._round, scenario.rounds)
            self._speaker = speaker(self.net, us, held, rows, scenario.clients.adapt, when)
            self.model = self._speaker.tensors
            features, logits = yield from self._predict("extract", self._speaker.sees(inputs))
            self.model = own
        if self.guard is not None and (means := self.guard.class_means(features, logits)) is not None:
            return means
        parameters = {name: self.model[name] for name in dims.parameters}
        knowledge = behaviour.extract(features, logits, parameters)
        if not isinstance(knowledge, self.behaviour.sends):
            raise Rejected(
                "kind",
                f"client {self.client} made {type(knowledge).__name__}; "
                f"only {self.behaviour.sends.__name__} may leave.",
            )
        arrays: dict[str, Any] = dict(knowledge.arrays())  # tensors where they lie on an accelerator
        away = {name: array for name, array in arrays.items() if isinstance(array, Tensor)}
        guarded = {} if "weights" in self.world.strategy.shares else alike_in_size(arrays, self.model)
        if away:
            both = away | {f"{_MODEL}{name}": tensor for name, tensor in guarded.items()}
            here = yield from self._awaited.fetch("extract", both)
            arrays |= {name: here[name].numpy() for name in away}
            guarded = {name: here[f"{_MODEL}{name}"] for name in guarded}
        refuse_weights(arrays, guarded)
        return arrays if self.guard is None else self.guard.privatise(arrays, expected)

    def contribution(self, request: Request) -> Expected:
        """Return the only arrays that may leave in the reply to this request."""
        rows = 0 if request.rows is None else len(request.rows)
        dims = self.world.dims(self.client).about(rows)
        return self.world.behaviour.contribution(dims, self.world.settings)

    # Measuring: the same code for every method ------------------------------------------------------

    def _scores(self, stage: str, teacher: Arrays) -> Work[Scores]:
        """Return the scores of the model, and of further predictors, on each set of test rows, on the device.

        By set (``global``: the common rows, ``personal``: the client's own, ``validation``) and predictor.
        """
        federation, shard, world = self.world.federation, self.world.shards[self.client], self.world
        sets: dict[str, Callable[[], Tensor]] = {}
        if federation.test is not None:
            sets["global"] = lambda: federation.test_tensors(shard)[0]
        if shard.test is not None:
            sets["personal"] = lambda: federation.own_test_tensors(shard)[0]
        if len(shard.validation):
            sets["validation"] = lambda: federation.validation_tensors(shard)[0]
        found: Scores = {}
        for name, rows in sets.items():
            x = world.kept_there(name, self.client, rows)
            scores = yield from self._scored(stage, x, teacher)
            if self._copies.names:
                own = scores.get(self.behaviour.decides_own, scores[""])
                scores[BESIDE] = own if self._copies.better else (yield from self._copies.scores(stage, x))
            found |= {(name, f"{other}_" if other else ""): values for other, values in scores.items()}
        return found

    def _scored(self, stage: str, x: Tensor, teacher: Arrays) -> Work[dict[str, Tensor]]:
        """Return the scores of rows [n, classes] by predictor; that which decides has no name."""
        features, logits = yield from self._predict(stage, x)
        if not (teacher and self._taught):
            return {"": logits}
        if (rows := self.behaviour.references()) is not None:
            others, _ = yield from self._predict(stage, rows)
            teacher = {**teacher, REFERENCES: others}
        more = self.behaviour.predictors(features, logits, teacher)
        return {"": more.pop(self.behaviour.decides, logits), **more}

    def _measured(self, before: Scores, after: Scores) -> Work[dict[str, float]]:
        """Return global, personal and validation accuracy, and that before the teacher was digested."""
        named = {f"before|{'|'.join(key)}": values for key, values in before.items()}
        named |= {f"after|{'|'.join(key)}": values for key, values in after.items()}
        here = yield from self._awaited.fetch("evaluate", named)
        parts: dict[str, Scores] = {"before": {}, "after": {}}
        for key, values in here.items():
            when, rows, predictor = key.split("|")
            parts[when][rows, predictor] = values
        own = BESIDE if self._copies.names else self.behaviour.decides_own
        how, scenario = (self.world.federation, self.world.shards[self.client], own), self.world.scenario
        last = self._round == scenario.rounds or scenario.patience is not None
        folder = self.store.folder_of(self.client)
        for name, found in (files_of(parts["after"], *how) if last else {}).items():
            # As what is measured in a private mode: not in any message.
            write_json(folder / name, {"round": self._round, **found})
        turn = self.world.turns, self._round
        told = watched(self.world, self.client, self._round, parts["after"], folder)
        told |= by_task(parts["after"], *how[:2], *turn)
        return measured(parts["before"], parts["after"], *how) | told

    # State ------------------------------------------------------------------------------------------

    def _load(self, version: int, stage: Stage) -> bool:
        stage("load")
        self._round = version // 2
        if self.world.turns is not None:
            self.behaviour = self.world.player(self.client, held_in(self.world, self.client, self._round))
        state = self.store.load(self.client, below=version)
        if state is None:
            self._refuse_replay(version)
            fresh = {name: t.detach() for name, t in self.world.net(self.client).state_dict().items()}
            self.model = placed([fresh], self.world.device)[0]
            self._copies.begin(self.model)
        else:
            there = placed_state(state.tensors, self.world.device, self.behaviour.read_here)
            parts, self._optimizers = unpacked(there)
            self.model, self._teacher = parts["model"], parts.get("teacher", {})
            self._before = Before.of(parts.get("before", {}), state.note)
            self._speaker = Speaker.read(state.note)
            self._copies.load(parts, self._optimizers, state.note.get("better", False))
            self._digested, self._prepared = state.note["digested"], state.note["prepared"]
            self._undone, self._taught = state.note.get("undone", False), state.note.get("taught", False)
        if self.guard is not None:
            # What was paid is known to the newest state, which is a later one where a round is done again.
            newest = self.store.later(self.client, version) or state
            self.guard.check(None if newest is None else newest.note.get("ledger"))
        return state is not None

    def _refuse_replay(self, version: int) -> None:
        """Raise Rejected where the server said before that no resume can start this early."""
        newest = self.store.later(self.client, version)
        if newest is not None and version // 2 <= newest.note["kept"]:
            raise Rejected("replay", f"the message is about round {version // 2}, which is over.")

    def _save(self, version: int, kept: int) -> None:
        # On the device, if that is where they are: a store brings to the CPU what it writes.
        copies, optimizers = self._copies.parts()
        parts = {"model": self.model, "teacher": self._teacher, "before": self._before.tensors(), **copies}
        tensors = packed(parts, {**self._optimizers, **optimizers})
        statistics = self.world.federation.statistics(self.world.shards[self.client])
        if statistics is not None:  # without which nobody could use the model on rows as they are
            tensors |= {f"statistics/{name}": t for name, t in statistics.tensors().items()}
        note: dict[str, Any] = {
            "digested": self._digested,
            "prepared": self._prepared,
            "taught": self._taught,
            "model": self.world.models[self.client],
            "kept": kept,
            **self._before.note(),
            **self._speaker.note(),
        }
        if self._guards:
            note["undone"] = self._undone
        if self._copies.names:
            note["better"] = self._copies.better
        if self.guard is not None:
            note["ledger"] = self.guard.anchor()
        # Shares of classes, which no privacy mode pays for: no private model is exported with them.
        prior = self.behaviour.prior() if self.behaviour.decides_own and self.world.mode is None else None
        if prior is not None:
            note["prior"] = prior.tolist()
        # What a private release came from must be on disk before it leaves: it is not made a second time.
        self.store.save(self.client, version, ClientState(tensors, note), kept, durable=bool(self.guard))
