"""What a client needs computed with its model: jobs that the engine runs, one by one or stacked.

A client's work on a message is a generator. It yields jobs and gets their results; between two jobs it
reads, checks, counts, writes. So many clients can be taken through their work in lockstep, and the jobs of
one stage, which all of them have reached, can be run together (:func:`lockstep`).
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Fit
from fedkt.client.learning.learner import Stepwise, learner_of
from fedkt.client.placing import Values, fetched, placed
from fedkt.client.training import Losses, OptimState, device_of, order_of, placed_orders
from fedkt.knowledge.codec import Expected, encode
from fedkt.privacy.dpsgd import Dpsgd, fit_privately

STAGES = ("place", "prepare", "measure", "digest", "train", "extract", "evaluate", "send")
"""The stages in which clients have jobs, in the order of a message."""

T = TypeVar("T")


class Fitted(NamedTuple):
    """What came of a :class:`FitJob`: the model's new tensors, the optimiser's new state, and the mean loss
    of the rows that the steps took [1], or of rows of two kinds [2]; [0] where there were none."""

    tensors: Arrays
    state: OptimState
    losses: Tensor


@dataclass(frozen=True)
class FitJob:
    """Train through one phase; the result is :class:`Fitted`.

    ``net``: a module of the client's architecture, shared by all clients that have it and holding the
    weights of whoever used it last; ``tensors``: this client's state dict, which stays as it is.
    """

    stage: str
    net: nn.Module
    tensors: Arrays
    phase: Fit
    state: OptimState
    seed: int
    client: str
    round: int
    private: Dpsgd | None = None
    """How the phase is trained privately; None: it is not."""


@dataclass(frozen=True)
class PredictJob:
    """Predict ``x`` [n, ...]; the result is features [n, width] and logits [n, classes]."""

    stage: str
    net: nn.Module
    tensors: Arrays
    x: Tensor


@dataclass(frozen=True)
class PlaceJob:
    """Bring arrays to the device, but for those that ``stay`` here; the result is tensors by name."""

    stage: str
    arrays: Mapping[str, Values]
    device: torch.device
    stay: frozenset[str] = frozenset()


@dataclass(frozen=True)
class FetchJob:
    """Bring tensors to the CPU; the result is tensors by name."""

    stage: str
    tensors: Arrays


@dataclass(frozen=True)
class EncodeJob:
    """Check what is to leave, and encode it; the result is a record of Flower's."""

    stage: str
    arrays: Mapping[str, NDArray[Any]]
    expected: Expected


Computation = FitJob | PredictJob
Move = PlaceJob | FetchJob
Job = Computation | Move | EncodeJob
Work = Generator[Job, Any, T]
"""A client at work: yields jobs, is sent their results, returns a ``T``."""


class Awaited:
    """Values on an accelerator that nobody waits for, and who is told them with the next fetch."""

    _NAME = "awaited "

    def __init__(self) -> None:
        self._values: list[tuple[Tensor, Callable[[Tensor], None]]] = []

    def when_known(self, value: Any, tell: Callable[[Any], None]) -> None:
        """Tell a value: now where it is here, with the next fetch where it is a tensor on an accelerator."""
        if not isinstance(value, Tensor) or value.device.type == "cpu":
            tell(value)
        else:
            self._values.append((value, tell))

    def fetch(self, stage: str, tensors: Arrays) -> Work[dict[str, Tensor]]:
        """Bring tensors to the CPU, and with them the values that somebody is to be told."""
        awaited, self._values = self._values, []
        asked = {f"{self._NAME}{i}": value for i, (value, _) in enumerate(awaited)}
        here: dict[str, Tensor] = yield FetchJob(stage, {**tensors, **asked})
        for name, (_, tell) in zip(asked, awaited, strict=True):
            tell(here.pop(name))
        return here

    def settle(self, stage: str) -> Work[None]:
        """Wait for the values that somebody is still to be told, where there are any."""
        if self._values:
            yield from self.fetch(stage, {})


Runner = Callable[[Sequence[Job]], Sequence[Any]]
"""Runs jobs of one stage; returns the result of each, or the exception that it ended with."""


def one_by_one(jobs: Sequence[Job]) -> list[Any]:
    """Run each job by itself; what all of them need on an accelerator goes there at once."""
    orders = _orders(jobs)
    return [_attempt(job, orders.get(i)) for i, job in enumerate(jobs)]


def lockstep(works: Sequence[Work[T]], run: Runner = one_by_one) -> list[T]:
    """Take all works to their end and return what they return.

    Jobs of the earliest stage that is waited for are run first, so clients that skip a stage wait for the
    others before the next. The exception of a job is raised in its own work; one that leaves a work ends
    the call.
    """
    waiting: dict[int, Job] = {}
    done: dict[int, T] = {}

    def advance(i: int, result: Any) -> None:
        try:
            work = works[i]
            waiting[i] = work.throw(result) if isinstance(result, Exception) else work.send(result)
        except StopIteration as end:
            done[i] = end.value

    for i in range(len(works)):
        advance(i, None)
    while waiting:
        stage = min((job.stage for job in waiting.values()), key=STAGES.index)
        chosen = [i for i, job in waiting.items() if job.stage == stage]
        for i, result in zip(chosen, run([waiting.pop(i) for i in chosen]), strict=True):
            advance(i, result)
    return [done[i] for i in range(len(works))]


def _orders(jobs: Sequence[Job]) -> dict[int, list[Tensor]]:
    """Return by its place the order, placed, in which a job takes its rows that trains on an accelerator."""
    found: dict[int, list[NDArray[Any]]] = {}
    device = torch.device("cpu")
    for i, job in enumerate(jobs):
        if not (isinstance(job, FitJob) and job.phase.count) or device_of(job.phase).type == "cpu":
            continue
        if job.private is None and isinstance(learner_of(job.net), Stepwise):
            device = device_of(job.phase)
            with suppress(ValueError):  # which is raised once more where it belongs
                found[i] = order_of(job.net, job.phase, job.seed, job.client, job.round)
    return dict(zip(found, placed_orders([*found.values()], device), strict=True)) if found else {}


def _attempt(job: Job, order: Sequence[Tensor] | None = None) -> Any:
    try:
        if isinstance(job, Move):
            return moved([job])[0]
        if isinstance(job, EncodeJob):
            return encode(job.arrays, job.expected)
        learner = learner_of(job.net)
        learner.load(job.tensors)
        if isinstance(job, PredictJob):
            return learner.predict(job.x)
        losses = Losses(job.phase)
        how: dict[str, Any] = {"seed": job.seed, "client": job.client, "round_": job.round, "losses": losses}
        if order is not None:
            how["order"] = order
        if job.private is None:
            state = learner.fit(job.phase, job.state, **how)
        else:
            state = fit_privately(job.net, job.phase, job.state, job.private, **how)
        return Fitted(learner.tensors(), state, losses.means())
    except SystemExit as error:
        return RuntimeError(f"SystemExit: {error}")  # a model of a user's own ends no process
    except Exception as error:
        return error


def moved(jobs: Sequence[Move]) -> list[dict[str, Tensor]]:
    """Run jobs that move tensors, those of one direction in one copy."""
    found: dict[int, dict[str, Tensor]] = {}
    placing = {i: job for i, job in enumerate(jobs) if isinstance(job, PlaceJob)}
    fetching = {i: job for i, job in enumerate(jobs) if isinstance(job, FetchJob)}
    if placing:
        first = next(iter(placing.values()))
        there = placed([job.arrays for job in placing.values()], first.device, first.stay)
        found |= zip(placing, there, strict=True)
    if fetching:
        found |= zip(fetching, fetched([job.tensors for job in fetching.values()]), strict=True)
    return [found[i] for i in range(len(jobs))]


def no_predictions(width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Return features and logits of no rows."""
    return torch.empty(0, width), torch.empty(0, classes)
