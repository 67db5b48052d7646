"""Train and evaluate many clients of one architecture as one model whose tensors have a leading dimension.

Each client gets the steps, batches and dropout masks that the plain loop (:mod:`fedkt.training`) gives it;
only floating-point sums are taken in another order. Clients are sorted by their number of steps, so those
still at work are always the first: stacked tensors are cut there, and what lies behind stays as it is.
Short batches are padded, and padding has no weight in the loss.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _NormBase

from fedkt.client import Arrays, RowLoss
from fedkt.engine import dropout
from fedkt.engine.jobs import FitJob, PredictJob
from fedkt.rng import numpy_stream, seed_of, torch_stream
from fedkt.training import OptimState, batch_order, make_optimizer, seeded

PREDICT_ROWS = 4096
"""Rows of all clients together in one pass of predictions."""

Stacked = dict[str, Tensor]
"""Tensors by name with a leading dimension of clients."""


class Unstackable(Exception):
    """A model cannot be stacked; the text says why."""


class Stack:
    """An architecture's module, prepared to be called with stacked tensors.

    Raises :class:`Unstackable` where a layer mixes the rows of a batch, since batches are padded, or where
    one tensor belongs to two layers.
    """

    def __init__(self, net: nn.Module) -> None:
        if any(isinstance(layer, _NormBase) for layer in net.modules()):
            raise Unstackable("it normalises over the rows of a batch, which GroupNorm does not")
        if len(list(net.parameters())) < len(list(net.named_parameters(remove_duplicate=False))):
            raise Unstackable("one of its tensors belongs to two layers")
        self.module = deepcopy(net)
        self.dropouts = dropout.Dropouts(self.module)
        self.parameters = [name for name, _ in net.named_parameters()]
        self.trainable = [name for name, p in net.named_parameters() if p.requires_grad]

    def split(self, jobs: Sequence[FitJob]) -> tuple[Stacked, Stacked]:
        """Stack the clients' tensors: those that are trained, and those that are not."""
        stacked = stack_tensors(jobs)
        only = jobs[0].phase.only
        trained = {name: stacked.pop(name) for name in self.trainable if not only or name in only}
        return trained, stacked

    def losses(
        self, loss: RowLoss, params: Arrays, fixed: Arrays, batch: Arrays, constants: Arrays, masks: Any
    ) -> Tensor:
        """Return one client's losses [rows]."""
        self.dropouts.give(masks)
        return loss(_Forward(self, {**params, **fixed}), batch, constants)

    def dropout_uses(self, job: FitJob) -> list[dropout.Use]:
        """Return how dropout is used in one call of the job's loss."""
        if not self.dropouts.any:
            return []
        rows = min(2, job.phase.size)
        batch = {name: tensor[:rows] for name, tensor in job.phase.rows.items()}
        self.dropouts.watch()
        with torch.no_grad():
            self.losses(job.phase.loss, job.tensors, {}, batch, job.phase.constants, ())
        try:
            return self.dropouts.uses(rows)
        except ValueError as error:
            raise Unstackable(str(error)) from error


class _Forward:
    """One client's slice of a stacked model as :class:`~fedkt.client.Forward`."""

    def __init__(self, stack: Stack, tensors: Arrays) -> None:
        self._module, self._tensors = stack.module, dict(tensors)
        self.params: Arrays = {name: tensors[name] for name in stack.parameters}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = functional_call(self._module, self._tensors, (x,))
        return out

    def head(self, z: Tensor) -> Tensor:
        """Return the logits of features."""
        mine = {n.removeprefix("head."): t for n, t in self._tensors.items() if n.startswith("head.")}
        logits: Tensor = functional_call(self._module.get_submodule("head"), mine, (z,))
        return logits


def stack_tensors(jobs: Sequence[FitJob] | Sequence[PredictJob]) -> Stacked:
    """Stack the clients' tensors."""
    return {name: torch.stack([job.tensors[name] for job in jobs]) for name in jobs[0].tensors}


def fit_stacked(stack: Stack, jobs: Sequence[FitJob]) -> list[tuple[Arrays, OptimState]]:
    """Train all jobs' clients together; return each one's new tensors and optimiser state.

    The jobs are alike: same architecture, phase, loss, optimiser, same shapes but for the number of rows.
    """
    if any(job.private is not None for job in jobs):
        raise Unstackable("private training is not stacked")  # never without its noise
    order = sorted(range(len(jobs)), key=lambda i: (-_steps(jobs[i]), _taken(jobs[i])))
    ranked = [jobs[i] for i in order]
    params, fixed = stack.split(ranked)
    batches = _Batches(ranked)
    constants = _stack_constants(ranked)
    optimizer = _Optimizer(params, ranked)
    stack.module.train()
    uses = stack.dropout_uses(ranked[0])
    streams = (
        [torch_stream(j.seed, "dropout", j.phase.name, j.client, j.round) for j in ranked] if uses else []
    )
    loss = ranked[0].phase.loss
    call = vmap(
        lambda p, f, b, c, m: stack.losses(loss, p, f, b, c, m), randomness="different"
    )  # other random layers than dropout agree with the plain loop in distribution only
    with seeded(seed_of(ranked[0].seed, "cohort", ranked[0].phase.name, ranked[0].client, ranked[0].round)):
        for step in range(_steps(ranked[0])):
            rows, weight = batches.take(step)
            at_work = len(weight)
            leaves = {n: p[:at_work].detach().requires_grad_() for n, p in params.items()}
            masks = dropout.draw(
                uses, streams[:at_work], batches.lengths[:at_work, step].tolist(), weight.shape[1]
            )
            masks = [mask.to(weight.device) for mask in masks]
            losses = call(leaves, _cut(fixed, at_work), rows, _cut(constants, at_work), masks)
            gradients = torch.autograd.grad((losses * weight).sum(), list(leaves.values()), allow_unused=True)
            optimizer.step(dict(zip(leaves, gradients, strict=True)), step)
    states = optimizer.states()
    results: list[Any] = [None] * len(jobs)
    for k, i in enumerate(order):
        trained = {name: params[name][k].clone() for name in params}
        results[i] = ({**jobs[i].tensors, **trained}, states[k])
    return results


@torch.no_grad()
def predict_stacked(stack: Stack, jobs: Sequence[PredictJob]) -> list[tuple[Tensor, Tensor]]:
    """Predict for all jobs' clients together; inputs may differ in their number of rows."""
    order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i].x))
    ranked = [jobs[i] for i in order]
    tensors = stack_tensors(ranked)
    stack.module.eval()
    sizes = [len(job.x) for job in ranked]
    shared = all(job.x is ranked[0].x for job in ranked)
    call = vmap(lambda p, x: functional_call(stack.module, p, (x,)), in_dims=(0, None if shared else 0))
    found: list[tuple[Tensor, Tensor]] = []
    start, width = 0, max(1, PREDICT_ROWS // len(ranked))
    while start < sizes[0] or not found:
        at_work = max(1, sum(size > start for size in sizes))
        width = max(1, PREDICT_ROWS // at_work)
        parts = [job.x[start : start + width] for job in ranked[: 1 if shared else at_work]]
        x = parts[0] if shared else nn.utils.rnn.pad_sequence(parts, batch_first=True)
        found.append(call(_cut(tensors, at_work), x))
        start += width
    results: list[Any] = [None] * len(jobs)
    for k, i in enumerate(order):
        mine = [(z[k], logits[k]) for z, logits in found if k < len(z)]
        features, logits = (torch.cat(column)[: sizes[k]] for column in zip(*mine, strict=True))
        results[i] = features, logits
    return results


class _Batches:
    """The batches of sorted jobs: those of one step, gathered and padded, for the clients still at work."""

    def __init__(self, jobs: Sequence[FitJob]) -> None:
        steps, size = _steps(jobs[0]), min(jobs[0].phase.steps.batch_size, max(j.phase.size for j in jobs))
        self._index: NDArray[np.int64] = np.zeros((len(jobs), steps, size), np.int64)
        self.lengths: NDArray[np.int64] = np.zeros((len(jobs), steps), np.int64)
        for k, job in enumerate(jobs):
            phase = job.phase
            stream = numpy_stream(job.seed, "batches", phase.name, job.client, job.round)
            for step, rows in enumerate(batch_order(phase.size, phase.steps, stream)):
                self._index[k, step, : len(rows)] = rows
                self.lengths[k, step] = len(rows)
        self._rows = {name: _Rows([job.phase.rows[name] for job in jobs]) for name in jobs[0].phase.rows}

    def take(self, step: int) -> tuple[Stacked, Tensor]:
        """Return the rows [clients, most, ...] of a step and their weights [clients, most] in the mean."""
        lengths = self.lengths[:, step]
        lengths = lengths[: np.count_nonzero(lengths)]
        most = int(lengths.max())
        index = torch.from_numpy(self._index[: len(lengths), step, :most])
        rows = {name: held.take(index) for name, held in self._rows.items()}
        weight = (np.arange(most) < lengths[:, None]) / lengths[:, None]
        return rows, torch.from_numpy(weight.astype(np.float32)).to(next(iter(rows.values())).device)


class _Rows:
    """One tensor of rows per client behind each other, once where it is the same for all."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        shared = all(part is parts[0] for part in parts)
        self._all = parts[0] if shared else torch.cat(list(parts))
        starts = np.cumsum([0, *(0 if shared else len(part) for part in parts[:-1])])
        self._starts = torch.from_numpy(starts)[:, None]

    def take(self, index: Tensor) -> Tensor:
        """Return the rows [clients, n, ...] at each client's own numbers [clients, n]."""
        flat = (index + self._starts[: len(index)]).flatten().to(self._all.device)
        rows: Tensor = self._all.index_select(0, flat).unflatten(0, tuple(index.shape))
        return rows


@dataclass(frozen=True)
class _Block:
    """Neighbours in the stack with the same number of steps to take, and taken before."""

    start: int
    stop: int
    steps: int


class _Optimizer:
    """PyTorch's own optimiser on the stack: all that it does is done to each element by itself.

    Only Adam's correction depends on how many steps were taken, so clients that differ there are different
    parameters to it. One that is done gets no gradient, and its state stays as it is.
    """

    def __init__(self, params: Stacked, jobs: Sequence[FitJob]) -> None:
        self._blocks: list[_Block] = []
        start = 0
        for (steps, _), members in groupby(jobs, key=lambda job: (_steps(job), _taken(job))):
            stop = start + len(list(members))
            self._blocks.append(_Block(start, stop, steps))
            start = stop
        self._slices = [{n: p[b.start : b.stop] for n, p in params.items()} for b in self._blocks]
        self._optimizer = make_optimizer(
            [p for part in self._slices for p in part.values()], jobs[0].phase.steps
        )
        for block, part in zip(self._blocks, self._slices, strict=True):
            states = [job.state for job in jobs[block.start : block.stop]]
            for key in states[0]:
                name, slot = key.rsplit("/", 1)
                held = [state[key] for state in states]
                value = held[0].clone() if slot == "step" else torch.stack(held)
                self._optimizer.state[part[name]][slot] = value
            if not states[0] and jobs[0].phase.steps.momentum and any(job.state for job in jobs):
                # PyTorch's fused SGD wants a momentum of all or of none; 0 is what a first step begins with.
                for p in part.values():
                    self._optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)

    def step(self, gradients: dict[str, Tensor | None], step: int) -> None:
        """Take one step with gradients [clients at work, ...]."""
        for block, part in zip(self._blocks, self._slices, strict=True):
            for name, p in part.items():
                gradient = gradients[name] if block.steps > step else None
                # Fused optimisers read memory as it lies, and products leave transposed gradients.
                p.grad = None if gradient is None else gradient[block.start : block.stop].contiguous()
        self._optimizer.step()

    def states(self) -> list[OptimState]:
        """Return each client's state."""
        found: list[OptimState] = []
        for block, part in zip(self._blocks, self._slices, strict=True):
            slots = [
                (f"{name}/{slot}", slot, value)
                for name, p in part.items()
                for slot, value in self._optimizer.state[p].items()
                if isinstance(value, Tensor)
            ]
            found += [
                {key: (value if slot == "step" else value[k]).clone() for key, slot, value in slots}
                for k in range(block.stop - block.start)
            ]
        return found


def _steps(job: FitJob) -> int:
    return job.phase.steps.count(job.phase.size)


def _taken(job: FitJob) -> float:
    """Return how many steps the optimiser has taken: -1 without a state, 0 where it does not count."""
    if not job.state:
        return -1.0
    return max((float(value) for key, value in job.state.items() if key.endswith("/step")), default=0.0)


def _stack_constants(jobs: Sequence[FitJob]) -> Stacked:
    return {n: torch.stack([job.phase.constants[n] for job in jobs]) for n in jobs[0].phase.constants}


def _cut(tensors: Stacked, clients: int) -> Stacked:
    return {name: tensor[:clients] for name, tensor in tensors.items()}
