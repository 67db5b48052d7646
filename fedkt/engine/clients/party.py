"""One client at work: load its state, do what a message asks, save its state.

Every engine and every deployed site runs this code. What trains or predicts is yielded as a job
(:mod:`fedkt.engine.clients.jobs`); all else happens here. Versions of the state are explained in
:mod:`fedkt.client.state`.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.behaviour import Arrays, Client, Fit
from fedkt.client.guarding import costly
from fedkt.client.joint import joined
from fedkt.client.state import ClientState, StateStore
from fedkt.engine.clients.jobs import FitJob, PredictJob, Work, no_predictions
from fedkt.engine.world.guard import Describe, Guard, guard_of
from fedkt.engine.world.world import World
from fedkt.knowledge.codec import Expected, Rejected
from fedkt.knowledge.protocol import Reply, Request
from fedkt.privacy.ledger import Purpose
from fedkt.results import metrics

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
        self._digested = -1
        self._prepared = False
        self._together = (
            world.scenario.clients.distill.together and self.world.behaviour.distils_transfer_rows
        )
        """Whether teachers are learned from in the steps of training."""
        self._guards = len(world.aside(client)) > 0
        """Whether what a teacher does to this client is undone where it costs too much."""
        self._undone = False
        """Whether that happened in this round."""

    def train(self, request: Request, stage: Stage) -> Work[Reply]:
        """Digest a teacher that was missed, train on private data, and return the contribution."""
        number = request.binding.round
        purpose = Purpose(request.binding.run, number, "train")
        if self.guard is not None and (sent := self.guard.sent(purpose)) is not None:
            return Reply(request.binding, self.client, arrays=sent, metrics=self.guard.told())
        self._load(2 * number, stage)
        if self.guard is not None:
            stage("reserve")
            phases = [*self._preparation(), *self._digestion(request, later=self._together), self._training]
            self.guard.reserve(purpose, phases, self.contribution(request))
        yield from self._prepare(number, stage)
        yield from self._digest(request, stage, later=self._together)
        stage("train")
        self._undone = False
        yield from self._train(number)
        stage("extract")
        rows = None if request.rows is None else torch.from_numpy(request.rows.copy())
        knowledge = yield from self._extract(rows, self.contribution(request))
        stage("save")
        self._save(2 * number, request.kept)
        if self.guard is None:
            return Reply(request.binding, self.client, arrays=knowledge)
        self.guard.release(purpose, knowledge)
        return Reply(request.binding, self.client, arrays=knowledge, metrics=self.guard.told())

    def evaluate(self, request: Request, stage: Stage) -> Work[Reply]:
        """Digest this round's teacher once, then measure; metrics only where they are asked for."""
        version = 2 * request.binding.round + 1
        known = self._load(version, stage)
        found: dict[str, float] = {}
        later = self._together and request.binding.round < self.world.scenario.rounds
        if request.evaluate and request.teacher is not None and not later:
            stage("measure")
            before = yield from self._measure("measure", self._teacher)
            found["before_digest"] = before.get("global", before["personal"])
        if self.guard is not None and (phases := self._digestion(request, later=later)):
            stage("reserve")
            self.guard.reserve(Purpose(request.binding.run, request.binding.round, "digest"), phases, None)
        digested = yield from self._digest(request, stage, later=later)
        if digested or not known:
            stage("save")
            self._save(version, request.kept)
        if request.evaluate:
            stage("evaluate")
            found |= yield from self._measure("evaluate", self._teacher)
            if self._guards:
                found["undone"] = float(self._undone)
        if self.world.mode is not None:
            # What was measured on private labels stays here; a simulation reads it outside the protocol.
            self.store.observe(self.client, request.binding.round, found)
            found = {}
        return Reply(request.binding, self.client, metrics=found)

    # Steps ----------------------------------------------------------------------------------------

    def _preparation(self) -> list[Describe]:
        """Return the phase before the first round, where it is to come."""
        return [] if self._prepared else [lambda behaviour: behaviour.prepare()]

    def _digestion(self, request: Request, *, later: bool) -> list[Describe]:
        """Return the phase of the request's teacher, where that was not digested before.

        ``later``: training follows, in whose steps the teacher is learned from.
        """
        if later or not self._is_new(request):
            return []
        teacher = self._tensors(request.teacher or {})
        return [lambda behaviour: behaviour.digest(teacher)]

    def _is_new(self, request: Request) -> bool:
        return request.teacher is not None and request.teacher_round > self._digested

    def _training(self, behaviour: Client) -> Fit | None:
        training = behaviour.train(self._teacher or None)
        if training is None or not self._teacher or not self._together:
            return training
        digestion = behaviour.digest(self._teacher)
        return training if digestion is None else joined(training, digestion)

    def _tensors(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        return {n: torch.from_numpy(array.copy()).to(self.world.device) for n, array in arrays.items()}

    def _prepare(self, number: int, stage: Stage) -> Work[None]:
        for describe in self._preparation():
            stage("prepare")
            yield from self._fit("prepare", describe, number)
            self._prepared = True

    def _digest(self, request: Request, stage: Stage, *, later: bool) -> Work[bool]:
        """Digest the request's teacher unless it was digested before; say whether anything changed."""
        phases = self._digestion(request, later=later)
        if not self._is_new(request):
            return False
        stage("digest")
        self._teacher = self._tensors(request.teacher or {})
        adopted = self.behaviour.adopt(self._teacher)
        if adopted is not None:
            self.model = {**self.model, **{name: adopted[name] for name in self.model if name in adopted}}
        for describe in phases:
            yield from self._guarded("digest", self._fit("digest", describe, request.binding.round))
        self._digested = request.teacher_round
        return True

    def _train(self, number: int) -> Work[None]:
        """Train; alone where learning from a teacher in the same steps was undone."""
        training = self._fit("train", self._training, number)
        if not (self._together and self._teacher):
            yield from training
        elif (yield from self._guarded("train", training)):
            yield from self._fit("train", lambda behaviour: behaviour.train(self._teacher), number)

    def _guarded(self, stage: str, learning: Work[None]) -> Work[bool]:
        """Let the client learn from a teacher; undo it where that cost too much, and say whether it did."""
        if not self._guards:
            yield from learning
            return False
        model, optimizers = self.model, dict(self._optimizers)
        before = yield from self._right(stage)
        yield from learning
        if not costly(before, (yield from self._right(stage))):
            return False
        self.model, self._optimizers, self._undone = model, optimizers, True
        return True

    def _right(self, stage: str) -> Work[Tensor]:
        """Return which of the rows that it set aside [n] the client predicts rightly."""
        scores, y = yield from self._scores(stage, *self.world.guard_rows(self.client), self._teacher)
        own = scores.get(f"{self.behaviour.decides_own}_", scores[""])
        return own.argmax(-1) == y

    def _fit(self, stage: str, describe: Describe, number: int) -> Work[None]:
        private = None
        if self.guard is None:
            phase = describe(self.behaviour)
        else:
            phase, private = self.guard.phase(describe, number)
        if phase is not None:
            state = self._optimizers.get(phase.name, {})
            seed = self.world.scenario.seed
            self.model, self._optimizers[phase.name] = yield FitJob(
                stage, self.net, self.model, phase, state, seed, self.client, number, private
            )

    def _predict(self, stage: str, x: Tensor) -> Work[tuple[Tensor, Tensor]]:
        predictions: tuple[Tensor, Tensor] = yield PredictJob(stage, self.net, self.model, x)
        return predictions

    def _extract(self, rows: Tensor | None, expected: Expected) -> Work[Mapping[str, NDArray[Any]]]:
        dims, behaviour = self.world.dims(self.client), self.behaviour
        if self.guard is not None:
            behaviour = self.guard.releasing
        inputs = behaviour.inputs(rows)
        if inputs is None:
            features, logits = no_predictions(dims.width, dims.classes)
        else:
            features, logits = yield from self._predict("extract", inputs)
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
        arrays = knowledge.arrays()
        if "weights" not in self.world.strategy.shares:
            refuse_weights(arrays, self.model)
        return arrays if self.guard is None else self.guard.privatise(arrays, expected)

    def contribution(self, request: Request) -> Expected:
        """Return the only arrays that may leave in the reply to this request."""
        rows = 0 if request.rows is None else len(request.rows)
        dims = self.world.dims(self.client).about(rows)
        return self.world.behaviour.contribution(dims, self.world.settings)

    # Measuring: the same code for every method ------------------------------------------------------

    def _measure(self, stage: str, teacher: Arrays) -> Work[dict[str, float]]:
        """Return global, personal and validation accuracy of the model, and of further predictors."""
        federation, shard = self.world.federation, self.world.shards[self.client]
        found: dict[str, float | None] = {}
        if federation.test is not None:
            scores, y = yield from self._scores(stage, *federation.test_tensors(shard), teacher)
            for name, values in scores.items():
                # Where a client has no test rows of its own, the common ones are weighed by its classes.
                share = shard.share if shard.test is None else None
                found |= _named(f"{name}global", metrics.evaluate(values, y, federation.classes, share))
                if share is not None:
                    for part in ("personal", "personal_balanced"):
                        found[f"{name}{part}"] = found.pop(f"{name}global_{part}")
        if shard.test is not None:
            scores, y = yield from self._scores(stage, *federation.own_test_tensors(shard), teacher)
            for name, values in scores.items():
                found |= _named(f"{name}personal", metrics.evaluate(values, y, federation.classes))
        if len(shard.validation):
            scores, y = yield from self._scores(stage, *federation.validation_tensors(shard), teacher)
            own = scores.get(f"{self.behaviour.decides_own}_", scores[""])
            found["validation"] = metrics.accuracy(own, y)
        found = _decided(found, self.behaviour.decides_own)
        return {name: value for name, value in found.items() if value is not None}

    def _scores(
        self, stage: str, x: Tensor, y: Tensor, teacher: Arrays
    ) -> Work[tuple[dict[str, Tensor], Tensor]]:
        features, logits = yield from self._predict(stage, x.to(self.world.device))
        more = self.behaviour.predictors(features, logits, teacher) if teacher else {}
        own = more.pop(self.behaviour.decides, logits)
        found = {"": own} | {f"{name}_": values for name, values in more.items()}
        return {name: values.cpu() for name, values in found.items()}, y

    # State ------------------------------------------------------------------------------------------

    def _load(self, version: int, stage: Stage) -> bool:
        stage("load")
        state = self.store.load(self.client, below=version)
        if state is None:
            self._refuse_replay(version)
            self.model = {name: t.detach() for name, t in self.world.net(self.client).state_dict().items()}
        else:
            parts: dict[str, dict[str, Tensor]] = {"model": {}, "teacher": {}}
            for key, tensor in state.tensors.items():
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = tensor
            self.model = parts.pop("model")
            self._teacher = {name: t.to(self.world.device) for name, t in parts.pop("teacher").items()}
            self._optimizers = {part.removeprefix("optimizer:"): tensors for part, tensors in parts.items()}
            self._digested, self._prepared = state.note["digested"], state.note["prepared"]
            self._undone = state.note.get("undone", False)
            if self.guard is not None:
                self.guard.check(state.note.get("ledger"))
        self.model = {name: t.to(self.world.device) for name, t in self.model.items()}
        return state is not None

    def _refuse_replay(self, version: int) -> None:
        """Raise Rejected where the server said before that no resume can start this early."""
        newest = self.store.load(self.client, below=sys.maxsize)
        if newest is not None and version // 2 <= newest.note["kept"]:
            raise Rejected("replay", f"the message is about round {version // 2}, which is over.")

    def _save(self, version: int, kept: int) -> None:
        tensors = {f"model/{name}": t.cpu() for name, t in self.model.items()}
        tensors |= {f"teacher/{name}": t.cpu() for name, t in self._teacher.items()}
        for phase, slots in self._optimizers.items():
            tensors |= {f"optimizer:{phase}/{name}": t.cpu() for name, t in slots.items()}
        note: dict[str, Any] = {
            "digested": self._digested,
            "prepared": self._prepared,
            "model": self.world.models[self.client],
            "kept": kept,
        }
        if self._guards:
            note["undone"] = self._undone
        if self.guard is not None:
            note["ledger"] = self.guard.anchor()
        # Shares of classes, which no privacy mode pays for: no private model is exported with them.
        prior = self.behaviour.prior() if self.behaviour.decides_own and self.world.mode is None else None
        if prior is not None:
            note["prior"] = prior.tolist()
        # What a private release came from must be on disk before it leaves: it is not made a second time.
        self.store.save(self.client, version, ClientState(tensors, note), kept, durable=bool(self.guard))


def _named(prefix: str, measured: Mapping[str, float | None]) -> dict[str, float | None]:
    """Name the accuracy itself by the prefix, what stands beside it by the prefix and a short word."""
    short = {"accuracy": prefix, "balanced_accuracy": f"{prefix}_balanced"}
    return {short.get(name, f"{prefix}_{name}"): value for name, value in measured.items()}


def _decided(found: Mapping[str, float | None], own: str) -> dict[str, float | None]:
    """Return metrics with those of the predictor ``own`` as the personal ones, the model's as ``model_``."""
    personal = [name for name in found if name.startswith("personal") and f"{own}_{name}" in found]
    moved = {f"model_{name}": found[name] for name in personal}
    return {**found, **moved, **{name: found[f"{own}_{name}"] for name in personal}}


def refuse_weights(arrays: Mapping[str, NDArray[Any]], model: Arrays) -> None:
    """Raise :class:`Rejected` if an outgoing array holds the values of one of the model's tensors.

    In any order, so that a transposed or shuffled tensor is found too; not a part of one, nor a function.
    """
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.size < 2:
            continue  # nothing but floats can be a tensor; other kinds than the declared one never leave
        for key, tensor in model.items():
            if tensor.numel() == array.size:
                values = tensor.cpu().numpy()
                if np.array_equal(np.sort(values, axis=None), np.sort(array, axis=None)):
                    raise Rejected(
                        "weights", f"array '{name}' holds the model's '{key}'; weights may not leave."
                    )
