"""Who trains with whom: cohorts of clients of one architecture, and how their jobs are run together."""

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fedkt.engine.clients.cohort_training import fit_stacked, predict_stacked
from fedkt.engine.clients.jobs import Computation, EncodeJob, FitJob, Job, Move, PredictJob, moved, one_by_one
from fedkt.engine.clients.stack import Stack, Unstackable, Way, loss_key
from fedkt.engine.world import memory
from fedkt.engine.world.world import World
from fedkt.knowledge.codec import encode_all

log = logging.getLogger("fedkt")


@dataclass(frozen=True)
class Plan:
    """What decides about cohorts, fixed for a whole run and part of its checkpoint.

    ``units``: clients of one architecture that live in one process; a round's cohorts are cut from these.
    ``sizes``: the largest cohort by architecture; where there is none, clients train one by one. ``needs``:
    bytes that one client of a cohort takes, by architecture. ``notes``: why, in sentences. ``ways``: how a
    cohort's steps are carried out, by architecture, where that is not as they are written.
    """

    units: Sequence[Sequence[str]] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    ways: Mapping[str, Way] = field(default_factory=dict)

    @classmethod
    def read(cls, note: Mapping[str, Any]) -> "Plan":
        """Read the fields of a plan by their names, also after JSON."""
        return cls(note["units"], note["sizes"], note.get("needs", {}), note["notes"], note.get("ways", {}))


class Cohorts:
    """The cohorts of one process, whose part of the machine's memory is ``share``.

    ``sizes`` shrink where memory does not suffice: before a round by an estimate, in it where it runs out.
    """

    def __init__(self, world: World, plan: Plan, share: float = 1.0) -> None:
        self.sizes = dict(plan.sizes)
        self._needs, self._ways = plan.needs, plan.ways
        self._share = share
        self._world = world
        self._unit_of = {client: number for number, unit in enumerate(plan.units) for client in unit}
        self._stacks: dict[nn.Module, Stack] = {}

    def cut(self, clients: Sequence[str]) -> list[list[str]]:
        """Return the cohorts of clients that are at work together: the largest data first, of equal size."""
        world, units = self._world, self._world.shards
        self._fit_memory()
        by_unit: dict[Hashable, list[str]] = {}
        for client in clients:
            by_unit.setdefault(self._unit_of.get(client, client), []).append(client)
        found = []
        for members in by_unit.values():
            most = self.sizes.get(world.architecture(members[0]), 1)
            members.sort(key=lambda client: -len(units[client].rows))
            count = -(-len(members) // most)
            edges = [len(members) * i // count for i in range(count + 1)]
            found += [members[a:b] for a, b in pairwise(edges)]
        return found

    def _fit_memory(self) -> None:
        there = self._share * memory.free(self._world.device) if self.sizes else 0.0
        for architecture, size in self.sizes.items():
            fits = max(1, int(there / self._needs.get(architecture, 1)))
            if fits < size:
                self.sizes[architecture] = fits
                log.warning("memory is short: cohorts of %s have %d clients from now on", architecture, fits)

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        """Run jobs of one stage: what is alike together, the rest one by one."""
        results: dict[int, Any] = {}
        alike: dict[Hashable, list[int]] = {}
        for i, job in enumerate(jobs):
            alike.setdefault(_kind(job), []).append(i)
        for members in alike.values():
            done = self._done([jobs[i] for i in members])
            results |= zip(members, done, strict=True)
        return [results[i] for i in range(len(jobs))]

    def _done(self, jobs: Sequence[Job]) -> list[Any]:
        if moves := [job for job in jobs if isinstance(job, Move)]:
            return moved(moves)
        if leaving := [job for job in jobs if isinstance(job, EncodeJob)]:
            return [*encode_all([job.arrays for job in leaving], leaving[0].expected)]
        return self._together([job for job in jobs if isinstance(job, Computation)])

    def _together(self, jobs: Sequence[Computation]) -> list[Any]:
        if len(jobs) == 1 or not _may_be_stacked(jobs[0]):
            return one_by_one(jobs)
        try:
            net = jobs[0].net
            if net not in self._stacks:
                self._stacks[net] = Stack(net, self._way(net))
            return _stacked(self._stacks[net], jobs)
        except Exception as error:
            if is_out_of_memory(error):
                return self._halved(jobs)
            if not isinstance(error, Unstackable):
                # Whoever it was: one by one, the exception is raised where it belongs.
                log.info("a cohort of %d is run one by one (%s: %s)", len(jobs), type(error).__name__, error)
            return one_by_one(jobs)

    def _way(self, net: nn.Module) -> Way:
        """Return how the steps of a cohort of this module are carried out."""
        skeletons = self._world.skeletons
        return next((way for key, way in self._ways.items() if skeletons.get(key) is net), "off")

    def _halved(self, jobs: Sequence[Computation]) -> list[Any]:
        half = len(jobs) // 2
        for architecture, size in self.sizes.items():
            if self._world.skeletons.get(architecture) is jobs[0].net and size > half:
                self.sizes[architecture] = half
                log.warning("out of memory: cohorts of %s have %d clients from now on", architecture, half)
        return self._together(jobs[:half]) + self._together(jobs[half:])


def _stacked(stack: Stack, jobs: Sequence[Job]) -> list[Any]:
    fits = [job for job in jobs if isinstance(job, FitJob)]
    predictions = [job for job in jobs if isinstance(job, PredictJob)]
    return [
        *(fit_stacked(stack, fits) if fits else ()),
        *(predict_stacked(stack, predictions) if predictions else ()),
    ]


def _may_be_stacked(job: Computation) -> bool:
    """Say whether jobs like this one can be run together: not where batches must stay as they are."""
    return isinstance(job, PredictJob) or not (job.phase.coupled or job.phase.project is not None)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether memory ran out, on the GPU or the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _kind(job: Job) -> Hashable:
    """Return what jobs must have in common to be run together."""
    if isinstance(job, Move):
        return type(job).__name__
    if isinstance(job, EncodeJob):
        return tuple(job.expected.items())
    if isinstance(job, PredictJob):
        return job.net, job.x.dtype, job.x.shape[1:]
    phase = job.phase
    return (
        job.net,
        phase.name,
        job.private is not None,
        phase.only,
        phase.steps,
        None if phase.others is None else phase.others.batch_size,
        loss_key(phase.loss),
        _shapes((name, tensor[:0]) for name, tensor in phase.rows.items()),
        _shapes(phase.constants.items()),
    )


def _shapes(tensors: Iterable[tuple[str, Tensor]]) -> Hashable:
    return tuple((name, tensor.dtype, tensor.shape) for name, tensor in tensors)
