"""Train and evaluate many clients of one architecture as one model whose tensors have a leading dimension.

Each client gets the steps, batches and dropout masks that the plain loop (:mod:`fedkt.client.training`) gives
it; only floating-point sums are taken in another order. What is done with lies behind the clients at work and
stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedkt.client.training import OptimState, make_optimizer, seeded, stepping, steps_taken
from fedkt.engine.clients.gradients import Gradients, PrivateGradients, steps_of
from fedkt.engine.clients.jobs import FitJob, Fitted, PredictJob
from fedkt.engine.clients.stack import Stack, Stacked, cut, stack_tensors
from fedkt.rng import seed_of

PREDICT_ROWS = 4096
"""Rows of all clients together in one pass of predictions."""


def fit_stacked(stack: Stack, jobs: Sequence[FitJob]) -> list[Fitted]:
    """Train all jobs' clients together; return what came of each one's job.

    The jobs are alike: same architecture, phase, loss, optimiser, same shapes but for the number of rows,
    and either all of them private or none.
    """
    order = sorted(range(len(jobs)), key=lambda i: (-steps_of(jobs[i]), _taken(jobs[i])))
    ranked = [jobs[i] for i in order]
    first, steps = ranked[0], [steps_of(job) for job in ranked]
    if not steps[0]:
        return [Fitted(job.tensors, job.state, torch.zeros(0)) for job in jobs]
    params, fixed = stack.split(ranked)
    stack.module.train()
    private = any(job.private is not None for job in jobs)
    gradients = (PrivateGradients if private else Gradients)(stack, ranked, fixed)
    with seeded(seed_of(first.seed, "cohort", first.phase.name, first.client, first.round)):
        at_work = [sum(count > step for count in steps) for step in range(steps[0])]
        found = gradients.at(0, cut(params, at_work[0]))
        params = lying_like(params, found)
        optimizer = _Optimizer(params, ranked)
        optimizer.step(found, 0)
        for step in range(1, steps[0]):
            optimizer.step(gradients.at(step, cut(params, at_work[step])), step)
    states, losses = optimizer.states(), gradients.losses()
    results: list[Any] = [None] * len(jobs)
    for k, i in enumerate(order):
        trained = {name: _ordered(params[name][k]) for name in params}
        results[i] = Fitted({**jobs[i].tensors, **trained}, states[k], losses[k])
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
        found.append(call(cut(tensors, at_work), x))
        start += width
    results: list[Any] = [None] * len(jobs)
    for k, i in enumerate(order):
        mine = [(z[k], logits[k]) for z, logits in found if k < len(z)]
        features, logits = (torch.cat(column)[: sizes[k]] for column in zip(*mine, strict=True))
        results[i] = features, logits
    return results


def lying_like(params: Stacked, gradients: Mapping[str, Tensor | None]) -> Stacked:
    """Return parameters [clients, ...] that lie in memory as their gradients do, where these have no gaps.

    Products leave transposed gradients, and a fused optimiser reads both as they lie: else each would have to
    be brought into the other's order in every step, a sixth of the time of a perceptron's.
    """
    found = {}
    for name, p in params.items():
        gradient = gradients[name]
        order = () if gradient is None else gradient[:1].stride()[1:]
        if gradient is None or gradient.is_contiguous() or not _dense(p.shape[1:], order):
            found[name] = p
            continue
        lying = torch.empty_strided(p.shape, (p[0].numel(), *order), dtype=p.dtype, device=p.device)
        found[name] = lying.copy_(p)
    return found


def _dense(shape: Sequence[int], order: Sequence[int]) -> bool:
    """Say whether tensors of a shape with these strides fill their memory without gaps."""
    expected = 1
    for stride, size in sorted(zip(order, shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _ordered(tensor: Tensor) -> Tensor:
    """Return a copy that lies in the order of its indices."""
    return tensor.clone(memory_format=torch.contiguous_format)


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
        self._taken: list[float] = []
        for (steps, before), members in groupby(jobs, key=lambda job: (steps_of(job), _taken(job))):
            stop = start + len(list(members))
            self._blocks.append(_Block(start, stop, steps))
            self._taken.append(max(before, 0.0) + steps)
            start = stop
        # As their memory lies: a fused optimiser brings what is transposed into order and back in each step.
        self._params = params
        self._slices = [{n: _flat(p[b.start : b.stop]) for n, p in params.items()} for b in self._blocks]
        self._optimizer = make_optimizer(
            [p for part in self._slices for p in part.values()], jobs[0].phase.steps
        )
        self._step = stepping(self._optimizer)
        for block, part in zip(self._blocks, self._slices, strict=True):
            states = [job.state for job in jobs[block.start : block.stop]]
            for key in states[0]:
                name, slot = key.rsplit("/", 1)
                held = [state[key] for state in states]
                if slot == "step":
                    value = torch.full((), float(held[0]), device=part[name].device)
                else:
                    like = params[name][block.start : block.stop]
                    value = _flat(torch.empty_like(like).copy_(torch.stack(held)))
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
                if gradient is not None:
                    like, gradient = (t[block.start : block.stop] for t in (self._params[name], gradient))
                    if gradient.stride() != like.stride():
                        gradient = torch.empty_like(like).copy_(gradient)
                    gradient = _flat(gradient)
                p.grad = gradient
        self._step()

    def states(self) -> list[OptimState]:
        """Return each client's state."""
        found: list[OptimState] = []
        for block, part, taken in zip(self._blocks, self._slices, self._taken, strict=True):
            slots = [
                (f"{name}/{slot}", slot, value if slot == "step" else self._shaped(name, block, value))
                for name, p in part.items()
                for slot, value in self._optimizer.state[p].items()
                if isinstance(value, Tensor)
            ]
            found += [
                {
                    key: torch.tensor(taken) if slot == "step" else _ordered(value[k])
                    for key, slot, value in slots
                }
                for k in range(block.stop - block.start)
            ]
        return found

    def _shaped(self, name: str, block: _Block, flat: Tensor) -> Tensor:
        """Return a slot of a block's clients as their parameters are."""
        like = self._params[name][block.start : block.stop]
        return flat.as_strided(like.shape, like.stride())


def _flat(tensor: Tensor) -> Tensor:
    """Return a view of a tensor without gaps, one value after the other as they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def _taken(job: FitJob) -> float:
    """Return how many steps the optimiser has taken: -1 without a state, 0 where it does not count."""
    return steps_taken(job.state) if job.state else -1.0
