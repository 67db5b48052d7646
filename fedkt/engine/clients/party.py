"""One client at work: load its state, do what a message asks, save its state.

Every engine and every deployed site runs this code. What trains or predicts is yielded as a job
(:mod:`fedkt.engine.clients.jobs`); all else happens here. Versions of the state are explained in
:mod:`fedkt.client.state`.
"""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkt.client.behaviour import Arrays, Client, Fit
from fedkt.client.state import ClientState, StateStore
from fedkt.client.training import all_finite
from fedkt.engine.clients.jobs import FitJob, PredictJob, Work, no_predictions
from fedkt.engine.world.guard import Describe, Guard, guard_of
from fedkt.engine.world.world import World
from fedkt.errors import Diverged
from fedkt.knowledge.codec import Expected, Rejected
from fedkt.knowledge.protocol import Reply, Request
from fedkt.privacy.ledger import Purpose
from fedkt.results import metrics
from fedkt.strategy.fusing import remedies

_DONE = {"prepare": "preparation", "digest": "distillation", "train": "training"}
"""What to call a stage that trained."""

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
        self._digested = -1
        self._prepared = False

    def train(self, request: Request, stage: Stage) -> Work[Reply]:
        """Digest a teacher that was missed, train on private data, and return the contribution."""
        number = request.binding.round
        purpose = Purpose(request.binding.run, number, "train")
        if self.guard is not None and (sent := self.guard.sent(purpose)) is not None:
            return Reply(request.binding, self.client, arrays=sent, metrics=self.guard.told())
        self._load(2 * number, stage)
        if self.guard is not None:
            stage("reserve")
            phases = [*self._preparation(), *self._digestion(request), self._training]
            self.guard.reserve(purpose, phases, self.contribution(request))
        yield from self._prepare(number, stage)
        yield from self._digest(request, stage)
        stage("train")
        yield from self._fit("train", self._training, number)
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
        if request.evaluate and request.teacher is not None:
            stage("measure")
            before = yield from self._measure("measure", self._teacher)
            # Neither is there where a client has no test rows of its own, and nobody else has.
            if (accuracy := before.get("global", before.get("personal"))) is not None:
                found["before_digest"] = accuracy
        if self.guard is not None and (phases := self._digestion(request)):
            stage("reserve")
            self.guard.reserve(Purpose(request.binding.run, request.binding.round, "digest"), phases, None)
        digested = yield from self._digest(request, stage)
        if digested or not known:
            stage("save")
            self._save(version, request.kept)
        if request.evaluate:
            stage("evaluate")
            found |= yield from self._measure("evaluate", self._teacher)
        if self.world.mode is not None:
            # What was measured on private labels stays here; a simulation reads it outside the protocol.
            self.store.observe(self.client, request.binding.round, found)
            found = {}
        return Reply(request.binding, self.client, metrics=found)

    # Steps ----------------------------------------------------------------------------------------

    def _preparation(self) -> list[Describe]:
        """Return the phase before the first round, where it is to come."""
        return [] if self._prepared else [lambda behaviour: behaviour.prepare()]

    def _digestion(self, request: Request) -> list[Describe]:
        """Return the phase of the request's teacher, where that was not digested before."""
        if request.teacher is None or request.teacher_round <= self._digested:
            return []
        teacher = self._tensors(request.teacher)
        return [lambda behaviour: behaviour.digest(teacher)]

    def _training(self, behaviour: Client) -> Fit | None:
        return behaviour.train(self._teacher or None)

    def _tensors(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
        return {n: torch.from_numpy(array.copy()).to(self.world.device) for n, array in arrays.items()}

    def _prepare(self, number: int, stage: Stage) -> Work[None]:
        for describe in self._preparation():
            stage("prepare")
            yield from self._fit("prepare", describe, number)
            self._prepared = True

    def _digest(self, request: Request, stage: Stage) -> Work[bool]:
        """Digest the request's teacher unless it was digested before; say whether anything changed."""
        phases = self._digestion(request)
        if request.teacher is None or not phases:
            return False
        stage("digest")
        self._teacher = self._tensors(request.teacher)
        adopted = self.behaviour.adopt(self._teacher)
        if adopted is not None:
            self.model = {**self.model, **{name: adopted[name] for name in self.model if name in adopted}}
        for describe in phases:
            yield from self._fit("digest", describe, request.binding.round)
        self._digested = request.teacher_round
        return True

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
            if not all_finite(self.model.values()):
                what = f"'s model is no longer finite after {_DONE[stage]} in round {number}"
                self._diverged(what, phase.steps.lr, "digest" if stage == "digest" else "train")

    def _predict(self, stage: str, x: Tensor) -> Work[tuple[Tensor, Tensor]]:
        predictions: tuple[Tensor, Tensor] = yield PredictJob(stage, self.net, self.model, x)
        features, logits = predictions
        # A model may rule out a class by minus infinity.
        if not (all_finite([features]) and bool((logits < math.inf).all())):
            self._diverged(f"'s model makes predictions that are not finite in round {self._round}")
        return predictions

    def _diverged(self, what: str, rate: float | None = None, where: remedies.Where = "train") -> NoReturn:
        scenario = self.world.scenario
        used = scenario.clients.local.lr if rate is None else rate
        remedy = remedies.lower(used, where, scenario, self.world.config)
        remedy += remedies.scale(scenario, self.world.federation.input.kind)
        raise Diverged(f"client {self.client}{what}", remedy, rate)

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
            found["validation"] = metrics.accuracy(scores[""], y)
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
        self._round = version // 2
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
        if self.guard is not None:
            note["ledger"] = self.guard.anchor()
        # What a private release came from must be on disk before it leaves: it is not made a second time.
        self.store.save(self.client, version, ClientState(tensors, note), kept, durable=bool(self.guard))


def _named(prefix: str, measured: Mapping[str, float | None]) -> dict[str, float | None]:
    """Name the accuracy itself by the prefix, what stands beside it by the prefix and a short word."""
    short = {"accuracy": prefix, "balanced_accuracy": f"{prefix}_balanced"}
    return {short.get(name, f"{prefix}_{name}"): value for name, value in measured.items()}


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
