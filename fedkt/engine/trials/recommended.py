"""``fedkt models``: short trials of the models that a site can afford, on rows of its own."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from fedkt.client.behaviour import Fit, Steps, classification, supervised
from fedkt.client.training import OptimState, fit, one_thread, predict
from fedkt.data.columns.sample import stratified
from fedkt.engine.checks.checked import checked_world
from fedkt.engine.trials.candidates import Candidate, candidates, entering
from fedkt.engine.trials.halving import halved, rungs
from fedkt.engine.world.world import World
from fedkt.errors import InputError
from fedkt.rng import numpy_stream
from fedkt.scenario import Scenario
from fedkt.tasks import CLASSIFICATION, Metric, Task

SHARE = 0.12
"""What all trials take at most, as a share of the steps that training every candidate would take."""
ASIDE = 0.2
"""The share of a site's training rows by which trials are judged, where ``data.validation`` names none."""

Labelled = tuple[Tensor, Tensor]


@dataclass
class Tried:
    """A candidate on its way: its optimiser, how far it came, how well it predicts the rows set aside.

    ``loss``: of training's kind, mean over these rows; ``figure``: the task's leading one; ``seconds``: of
    processor time, of ``steps``.
    """

    candidate: Candidate
    state: OptimState = field(default_factory=dict)
    steps: int = 0
    loss: float = float("nan")
    figure: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What was tried for a client, the best first; ``rows``: trained on and judged by; ``full``: the steps
    that the scenario's run would take; ``spent``: those that all trials took; ``costly``: how many candidates
    are beyond the budget."""

    client: str
    tried: list[Tried]
    rows: tuple[int, int]
    full: int
    spent: int
    costly: int
    metric: Metric

    @property
    def share(self) -> float:
        """The steps of all trials as a share of those that training all candidates would take."""
        return self.spent / max(self.full * len(self.tried), 1)


def recommended(
    scenario: Scenario,
    data_dir: Path | None = None,
    *,
    parameters: int | None = None,
    flops: int | None = None,
    clients: list[str] | None = None,
) -> list[Choice]:
    """Return for each client (None: all) its models within the budget, the best first.

    In a privacy mode trials are made on the public rows, of which there must be some: nobody pays for trials
    on private ones. Raises InputError where there are none, nothing fits, or a client is unknown.
    """
    own = scenario.data.validation > 0
    if not own:
        scenario = scenario.model_copy(
            update={"data": scenario.data.model_copy(update={"validation": ASIDE})}
        )
    world = checked_world(scenario, data_dir)
    asked = clients or world.names
    problems = [
        f"there is no client {name!r}; the scenario has {', '.join(world.names[:10])}."
        for name in asked
        if name not in world.shards
    ]
    if world.mode is not None and world.federation.public is None:
        problems.append(
            "a trial trains on private rows, for which nobody pays in privacy mode "
            f"'{scenario.privacy.mode}'; data.public must give labelled rows to try models on."
        )
    federation = world.federation
    links, given = federation.pool.graph is not None, scenario.clients.models
    with one_thread():
        there = candidates(federation.input, links, federation.classes, given, scenario.seed)
    fitting = [
        one
        for one in there
        if (parameters is None or one.parameters <= parameters) and (flops is None or one.flops <= flops)
    ]
    if not fitting and there:
        least = min(there, key=lambda one: one.parameters)
        problems.append(
            f"no model of {len(there)} fits the budget; the smallest, {least.called}, has {least.parameters} "
            f"parameters and takes {least.flops} operations a row."
        )
    if problems:
        raise InputError(*problems)
    with one_thread():
        return [_for_client(world, name, fitting, len(there) - len(fitting), own=own) for name in asked]


def _for_client(world: World, client: str, fitting: list[Candidate], costly: int, *, own: bool) -> Choice:
    """Return what was tried for a client; ``own``: whether the run itself sets validation rows aside."""
    shard, federation, seed = world.shards[client], world.federation, world.scenario.seed
    if world.mode is None:
        rows, judges = federation.tensors(shard), federation.validation_tensors(shard)
    else:
        rows, judges = _apart(federation.public_tensors(shard), federation.task, seed, client)
    steps = Steps.local(world.scenario.clients.local)
    full = world.scenario.rounds * steps.count(len(shard.rows) + (0 if own else len(shard.validation)))
    trial = Trial(rows, judges, federation.task, steps, seed, client)
    tried = chosen(fitting, trial, full)
    return Choice(
        client=client,
        tried=tried,
        rows=(len(rows[1]), len(judges[1])),
        full=full,
        spent=sum(one.steps for one in tried),
        costly=costly,
        metric=federation.task.metric,
    )


def _apart(rows: Labelled, task: Task, seed: int, client: str) -> tuple[Labelled, Labelled]:
    """Return rows in two parts, the second to be judged by."""
    x, y = rows
    targets = y.numpy()
    stream = numpy_stream(seed, "trial", client)
    aside = stratified(task.strata(targets, targets), max(1, int(ASIDE * len(y))), stream)
    kept = np.setdiff1d(np.arange(len(y)), aside)
    return (x[kept], y[kept]), (x[aside], y[aside])


def chosen(fitting: list[Candidate], trial: "Trial", full: int, share: float = SHARE) -> list[Tried]:
    """Return candidates in order, the best first, after trials of those that enter.

    They take at most ``share`` of what training all of ``fitting`` for ``full`` steps would.
    """
    entrants = [Tried(one._replace(net=deepcopy(one.net))) for one in entering(fitting)]
    tried = halved(entrants, rungs(len(entrants), full, share * len(fitting) / max(len(entrants), 1)), trial)
    left = [one for one in fitting if all(one.model != entrant.candidate.model for entrant in tried)]
    return [*tried, *map(Tried, left)]


@dataclass(frozen=True)
class Trial:
    """Trains one candidate further and judges it: ``rows`` to train on, ``judges`` to be judged by."""

    rows: Labelled
    judges: Labelled
    task: Task
    steps: Steps
    seed: int
    client: str

    def __call__(self, one: Tried, steps: int) -> float:
        """Train up to so many steps in all; return the loss on the judges.

        Of other tasks than classes minus the leading figure, which the loss does not always follow; accuracy
        on few rows is too coarse.
        """
        began = time.process_time()
        net, done = one.candidate.net, one.steps
        more = replace(self.steps, batches=steps - done)
        phase = Fit("trial", {"x": self.rows[0], "y": self.rows[1]}, self._loss, more)
        one.state = fit(net, phase, one.state, seed=self.seed, client=self.client, round_=done)
        one.steps, one.seconds = steps, one.seconds + time.process_time() - began
        _, outputs = predict(net, self.judges[0])
        one.loss = float(self.task.row_loss(outputs, self.judges[1]).mean())
        one.figure = self.task.leading(outputs, self.judges[1])
        if self.task.exclusive:
            return one.loss
        return float("nan") if one.figure is None else -one.figure * self.task.metric.sign

    @property
    def _loss(self) -> Callable[..., Any]:
        return classification if self.task == CLASSIFICATION else partial(supervised, task=self.task)
