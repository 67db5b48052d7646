"""Copies of a client's model that show what teachers do to it (``clients.guard.folds``).

One copy trains alone on all rows, as a client of strategy ``local`` does. Of each fold of the rows two are
kept from it: one trains alone and one is taught as the model is. On every row the two that did not train with
it are compared, so that all rows count and none is set aside (Stone 1974, "Cross-validatory choice and
assessment of statistical predictions", JRSS B 36). Where those that are taught are better by more than two
standard errors, the client's own predictions are its model's, else those of the copy that trains alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Client, Fit
from fedkt.client.joint import joined, untaught
from fedkt.client.lessons.views import augmented
from fedkt.client.mean_features import class_counts
from fedkt.client.state import ALONE
from fedkt.client.training import OptimState
from fedkt.engine.clients.jobs import FitJob, Fitted, PredictJob, Work
from fedkt.engine.trials.elder import both, lesson_of_elder
from fedkt.engine.world.world import World
from fedkt.privacy.dpsgd import Dpsgd

BESIDE = "guarded"
"""The predictor that is the copy's or the model's, whichever was found to be better."""
SURE = 2.0
"""By how many standard errors: of clients that teachers make no better, one in forty is thought to be."""
_OF_FOLD = ("alone", "taught")

Optimizers = dict[str, OptimState]


def training_of(world: World, behaviour: Client, teacher: Arrays, made: int) -> Fit | None:
    """Return what a client trains on private rows in this world, with the newest teacher, of round ``made``.

    ``teacher`` is empty before there is one.
    """
    behaviour = world.about(behaviour, made) if teacher else behaviour
    if world.refits(behaviour.holding.client):
        return world.refit(behaviour, teacher or None)
    training = behaviour.train(teacher or None)
    training = training and private(world, training)
    elder = lesson_of_elder(world, behaviour)
    if training is None or not (world.together or elder):
        return training
    if not (teacher and world.together):
        if world.together:
            training = untaught(training, behaviour.holding, world.scenario.data.transfer)
        return training if elder is None else joined(training, elder)
    digestion = both(behaviour.digest(teacher), elder)
    if digestion is None:
        return training
    return joined(training, digestion, world.settings.get("project"), world.scenario.clients.distill.weight)


def digestion_of(world: World, behaviour: Client, teacher: Arrays, made: int) -> Fit | None:
    """Return what a client does when a teacher of round ``made`` arrives (None: it is only kept)."""
    behaviour = world.about(behaviour, made)
    again = world.refits(behaviour.holding.client)
    return world.refit(behaviour, teacher) if again else behaviour.digest(teacher)


def fitted(
    stage: str,
    net: nn.Module,
    tensors: Arrays,
    phase: Fit,
    state: OptimState,
    at: tuple[int, str, int],
    private: Dpsgd | None = None,
) -> Work[Fitted]:
    """Train through a phase, after the model was asked what the phase begins with.

    ``at``: seed, client and round, on which the order of batches depends.
    """
    for asked in phase.first:
        features, logits = yield PredictJob(stage, net, tensors, asked.x)
        phase = replace(phase, rows={**phase.rows, **asked.rows(features, logits)})
    done: Fitted = yield FitJob(stage, net, tensors, phase, state, *at, private)
    return done


def private(world: World, training: Fit) -> Fit:
    """Return training on private rows as the scenario has it, with views of images where it asks for them."""
    return augmented(training) if world.scenario.clients.local.augment else training


def own_scores(behaviour: Client, features: Tensor, logits: Tensor, teacher: Arrays) -> Tensor:
    """Return the scores [n, classes] of a client's own predictions by a teacher; the model's without one."""
    more = behaviour.predictors(features, logits, teacher) if teacher else {}
    return more.get(behaviour.decides_own, more.get(behaviour.decides, logits))


def costly(before: Tensor, after: Tensor, errors: float = 1.0) -> bool:
    """Say whether a client's predictions became worse by more than so many standard ``errors``.

    ``before``, ``after`` bool [n]: which of the same held-out rows it predicts rightly. The error is that of
    the mean difference between pairs: two of six rows lost and none won is a mean of -1/3 at an error of
    0.21, one of six -1/6 at 1/6, which is not more. A single row shows nothing.
    """
    n = len(before)
    if n < 2:
        return False
    difference = after.double() - before.double()
    error = difference.std().item() / math.sqrt(n)
    return -difference.mean().item() > errors * error + 1e-9


@dataclass
class _Fold:
    """The two copies that do without some rows: their behaviour, and the rows ``x`` and labels ``y``."""

    taught: Client
    x: Tensor
    y: Tensor


class Copies:
    """The copies of one client, for the time of a message."""

    def __init__(self, world: World, client: str, net: nn.Module) -> None:
        self._world, self._client, self._net = world, client, net
        self._holding = world.holding(client)
        self._folds: list[_Fold] = []
        for rows in world.folds(client):
            out = torch.zeros(len(self._holding.y), dtype=torch.bool, device=self._holding.y.device)
            out[torch.from_numpy(rows).to(out.device)] = True
            x, y = self._holding.x, self._holding.y
            share = class_counts(y[~out], self._holding.dims.classes) / max(int((~out).sum()), 1)
            kept = replace(self._holding, x=x[~out], y=y[~out], label_share=share.float())
            self._folds.append(_Fold(world.player(client, kept), x[out], y[out]))
        self.models: dict[str, Arrays] = {}
        """State dicts by name, empty where no copies are kept; they never change in place."""
        self._optimizers: Optimizers = {}
        self.better = False
        """Whether those that are taught were better when they were last compared."""

    @property
    def names(self) -> list[str]:
        """The names of all copies, none where there are no folds."""
        folds = [f"{kind} {k}" for k in range(len(self._folds)) for kind in _OF_FOLD]
        return [ALONE, *folds] if folds else []

    def begin(self, model: Arrays) -> None:
        """Let all copies be as the client's model is before anything."""
        self.models = dict.fromkeys(self.names, model)

    def load(self, parts: Mapping[str, Arrays], optimizers: Optimizers, better: bool) -> None:
        """Restore what :meth:`parts` returned from a state's parts and optimisers, which lose theirs."""
        self.models = {name: parts[name] for name in self.names}
        own = [key for key in optimizers if key.partition("|")[0] in self.models and "|" in key]
        self._optimizers = {key: optimizers.pop(key) for key in own}
        self.better = better

    def parts(self) -> tuple[dict[str, Arrays], Optimizers]:
        """Return the models and the optimisers by name, for the client's state."""
        return self.models, self._optimizers

    def digest(self, teacher: Arrays, made: int, number: int) -> Work[None]:
        """Let those that are taught learn from a teacher of round ``made``."""
        for name, fold in self._taught():
            adopted = fold.taught.adopt(teacher) or {}
            model = self.models[name]
            self.models[name] = {**model, **{n: adopted[n] for n in model if n in adopted}}
            phase = digestion_of(self._world, fold.taught, teacher, made)
            yield from self._fit("digest", name, phase, number)

    def train(self, teacher: Arrays, made: int, number: int) -> Work[None]:
        """Train all copies on private rows."""
        held = self._holding
        for k, fold in enumerate([None, *self._folds] if self._folds else []):
            x, y = (held.x, held.y) if fold is None else (fold.taught.holding.x, fold.taught.holding.y)
            alone = Fit("train", {"x": x, "y": y}, held.training, held.local, private=True)
            name = ALONE if fold is None else f"alone {k - 1}"
            yield from self._fit("train", name, private(self._world, alone), number)
        for name, fold in self._taught():
            yield from self._fit("train", name, training_of(self._world, fold.taught, teacher, made), number)

    def scores(self, stage: str, x: Tensor) -> Work[Tensor]:
        """Return the scores [n, classes] of the copy that trains alone."""
        _, logits = yield PredictJob(stage, self._net, self.models[ALONE], x)
        found: Tensor = logits
        return found

    def compare(self, stage: str, teacher: Arrays, fetch: Callable[..., Work[Arrays]]) -> Work[None]:
        """Find out whether those that are taught are better, on each row by the two that lack it.

        ``fetch(stage, tensors)`` brings tensors to the CPU.
        """
        right: dict[str, list[Tensor]] = {kind: [] for kind in _OF_FOLD}
        for k, fold in enumerate(self._folds):
            for kind in _OF_FOLD:
                features, logits = yield PredictJob(stage, self._net, self.models[f"{kind} {k}"], fold.x)
                scores = own_scores(fold.taught, features, logits, teacher if kind == "taught" else {})
                right[kind].append(fold.taught.holding.task.goodness(scores, fold.y))
        here = yield from fetch(stage, {kind: torch.cat(rows) for kind, rows in right.items()})
        self.better = costly(here["taught"], here["alone"], SURE)

    def _taught(self) -> Iterator[tuple[str, _Fold]]:
        return ((f"taught {k}", fold) for k, fold in enumerate(self._folds))

    def _fit(self, stage: str, name: str, phase: Fit | None, number: int) -> Work[None]:
        if phase is None:
            return
        key, at = f"{name}|{phase.name}", (self._world.scenario.seed, self._client, number)
        state = self._optimizers.get(key, {})
        done = yield from fitted(stage, self._net, self.models[name], phase, state, at)
        self.models[name], self._optimizers[key] = done.tensors, done.state
