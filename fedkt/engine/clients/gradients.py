"""The gradients of stacked clients, step by step: those of the plain loop, and those of DP-SGD.

Clients are sorted by their number of steps, so those still at work are always the first. Short batches are
padded, and padding has no weight.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import grad_and_value, vmap

from fedkt.client.behaviour import Arrays
from fedkt.client.placing import placed
from fedkt.client.training import batches, own_in_batch, per_row
from fedkt.engine.clients import dropout
from fedkt.engine.clients.jobs import FitJob
from fedkt.engine.clients.stack import Stack, Stacked, cut, loss_key
from fedkt.models.direct import Given, NotGiven, direct
from fedkt.privacy.clipping import CLIP_SLACK, refuse_mixed_rows
from fedkt.privacy.dpsgd import Noise, noisy, poisson_batches, sampling
from fedkt.rng import numpy_stream, torch_stream


def steps_of(job: FitJob) -> int:
    """Return how many steps a job takes."""
    return job.phase.count


class Gradients:
    """Gradients of each client's mean loss over its batch, with the batches of the plain loop."""

    def __init__(self, stack: Stack, jobs: Sequence[FitJob], fixed: Stacked) -> None:
        self._stack, self._jobs, self._fixed = stack, jobs, fixed
        self._batches = _Batches(jobs, [self._order(job) for job in jobs])
        phase = jobs[0].phase
        self._constants = {n: torch.stack([job.phase.constants[n] for job in jobs]) for n in phase.constants}
        self._uses = stack.dropout_uses(jobs[0])
        streams = [torch_stream(j.seed, "dropout", phase.name, j.client, j.round) for j in jobs]
        self._masks = dropout.Masks(self._uses, streams, self._batches.lengths(), self._batches.device)
        # Other random layers than dropout agree with the plain loop in distribution only.
        self._losses = vmap(self._of_client, randomness="different")
        self._direct = None if loss_key(phase.loss) in stack.ask_more else direct(stack.module)
        self._given = vmap(self._of_given)
        self._step = stack.step(phase.loss)
        self._unused: set[str] = set()
        """Tensors without a gradient, once a step was taken as written."""
        own = [own_in_batch(job.phase) for job in jobs]
        self._private = None if phase.others is None else torch.tensor(own)[:, None].to(self._batches.device)
        """How many rows of each client's batches are its own [clients, 1], where others follow them."""
        kinds = 1 if self._private is None else 2
        self._sums = torch.zeros(len(jobs), kinds, device=self._batches.device)
        """The losses so far of each client's rows, by their kind."""

    def at(self, step: int, params: Stacked) -> dict[str, Tensor | None]:
        """Return the gradients of a step for parameters [clients at work, ...]; None for one without."""
        rows, mask, _, drawn = self._take(step)
        mean = mask / mask.sum(1, keepdim=True)
        if self._step is not None and step:  # the first step shows what has no gradient, and how others lie
            gradients, losses = self._step(params, *self._rest(len(mask)), rows, mean, drawn)
            self._note(losses.detach(), mask)
            return {name: None if name in self._unused else g for name, g in gradients.items()}
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        losses = self._losses_of(leaves, *self._rest(len(mask)), rows, drawn)
        self._note(losses.detach(), mask)
        found = torch.autograd.grad((losses * mean).sum(), list(leaves.values()), allow_unused=True)
        self._unused = {name for name, g in zip(leaves, found, strict=True) if g is None}
        return dict(zip(leaves, found, strict=True))

    def _losses_of(
        self, params: Stacked, fixed: Stacked, constants: Stacked, rows: Stacked, drawn: list[Tensor]
    ) -> Tensor:
        """Return losses [clients at work, rows]; the model is called without ``vmap`` where that will do."""
        if self._direct is not None and "x" in rows:
            try:
                losses: Tensor = self._given(self._direct({**params, **fixed}, rows["x"]), constants, rows)
                return losses
            except NotGiven:
                self._direct = None
                self._stack.ask_more.add(loss_key(self._jobs[0].phase.loss))
        losses = self._losses(params, fixed, constants, rows, drawn)
        return losses

    def losses(self) -> Sequence[Tensor]:
        """Return each client's mean loss over the rows of its steps so far, as the plain loop has it."""
        rows = self._batches.rows
        return [its / n if n else its[:0] for its, n in zip(self._sums, rows.tolist(), strict=True)]

    def _note(self, losses: Tensor, mask: Tensor) -> None:
        """Add losses [clients at work, rows] to the sums, those of real rows only."""
        real, sums = losses * mask, self._sums[: len(mask)]
        if self._private is None:
            sums[:, 0] += real.sum(1)
        else:
            private = torch.arange(mask.shape[1], device=mask.device) < self._private[: len(mask)]
            sums[:, 0] += (real * private).sum(1)
            sums[:, 1] += (real * ~private).sum(1)

    def _order(self, job: FitJob) -> Iterable[Any]:
        stream = numpy_stream(job.seed, "batches", job.phase.name, job.client, job.round)
        return batches(job.phase, stream)

    def _take(self, step: int) -> tuple[Stacked, Tensor, NDArray[np.int64], list[Tensor]]:
        """Return rows, mask and lengths of a step's batches, and the masks of dropout."""
        rows, mask, lengths = self._batches.take(step)
        return rows, mask, lengths, self._masks.at(step, len(mask), mask.shape[1])

    def _rest(self, at_work: int) -> tuple[Stacked, Stacked]:
        return cut(self._fixed, at_work), cut(self._constants, at_work)

    def _of_client(
        self, params: Arrays, fixed: Arrays, constants: Arrays, rows: Arrays, masks: Any
    ) -> Tensor:
        return self._stack.losses(self._jobs[0].phase.loss, params, fixed, rows, constants, masks)

    def _of_given(self, made: tuple[Tensor, Tensor], constants: Arrays, rows: Arrays) -> Tensor:
        return per_row(self._jobs[0].phase.loss(Given(rows["x"], made), rows, constants), len(rows["x"]))


class PrivateGradients(Gradients):
    """Those of :mod:`fedkt.privacy.dpsgd`: Poisson batches, every row's gradient clipped, noise on their sum.

    Each row's gradient is computed alone (``vmap`` over clients and rows), so no loss can mix rows here; one
    that would is refused, as when clients train one by one. Sampling and noise come from each client's own
    generators, in the order in which Opacus draws them.
    """

    def __init__(self, stack: Stack, jobs: Sequence[FitJob], fixed: Stacked) -> None:
        self._how = [how for job in jobs if (how := job.private) is not None]
        if len(self._how) < len(jobs):
            raise ValueError("some of these clients do not train privately")
        jobs[0].net.load_state_dict(jobs[0].tensors)
        refuse_mixed_rows(jobs[0].net, jobs[0].phase)
        super().__init__(stack, jobs, fixed)
        self._noise = Noise(self._how, [steps_of(job) for job in jobs])
        clips = [how.max_grad_norm for how in self._how]
        self._clips: Tensor | None = (
            None  # clients of one scenario have one, which needs no copy to the device
        )
        if len(set(clips)) > 1:
            self._clips = torch.tensor(clips)[:, None].to(self._batches.device)
        by_row = vmap(grad_and_value(self._of_row), in_dims=(None, None, None, 0, 0), randomness="different")
        self._per_row = vmap(by_row, randomness="different")

    def at(self, step: int, params: Stacked) -> dict[str, Tensor | None]:
        """Return the noisy gradients of a step for parameters [clients at work, ...]."""
        rows, mask, _, drawn = self._take(step)
        found, losses = self._per_row(params, *self._rest(len(mask)), rows, drawn)
        self._note(losses, mask)
        norms = torch.stack([g.flatten(2).norm(dim=2) for g in found.values()]).norm(dim=0)
        clip = self._how[0].max_grad_norm if self._clips is None else self._clips[: len(mask)]
        weights = (clip / (norms + CLIP_SLACK)).clamp(max=1.0) * mask
        summed = {name: torch.einsum("kb,kb...->k...", weights, g) for name, g in found.items()}
        return {**self._noisy(summed)}

    def _noisy(self, summed: Stacked) -> Stacked:
        """Add each client's noise to its sums, and divide by its expected batch size."""
        there = self._noise.next(summed)
        phases = [job.phase for job in self._jobs]
        expected = [phase.counted * sampling(phase.counted, phase.steps)[0] for phase in phases]
        return {
            name: torch.stack(
                [noisy(s, n, e) for n, s, e in zip(noise, summed[name], expected, strict=False)]
            )
            for name, noise in there.items()
        }

    def _order(self, job: FitJob) -> Iterable[Any]:
        assert job.private is not None
        return poisson_batches(job.phase, job.private)

    def _of_row(self, params: Arrays, fixed: Arrays, constants: Arrays, row: Arrays, masks: Any) -> Tensor:
        one = {name: value.unsqueeze(0) for name, value in row.items()}
        return self._of_client(params, fixed, constants, one, [m.unsqueeze(0) for m in masks]).squeeze(0)


class _Batches:
    """The batches of sorted jobs: those of one step, gathered and padded, for the clients still at work."""

    def __init__(self, jobs: Sequence[FitJob], orders: Sequence[Iterable[Any]]) -> None:
        batches = [[np.asarray(rows, np.int64) for rows in order] for order in orders]
        most = max((len(rows) for order in batches for rows in order), default=0)
        self._steps = np.asarray([len(order) for order in batches])
        self.rows = np.asarray([sum(map(len, order)) for order in batches])
        """How many rows each job's batches have in all."""
        # -1 stands for padding, so that one copy says which rows are meant and which are real.
        index: NDArray[np.int64] = np.full((len(jobs), self._steps.max(), most), -1, np.int64)
        self._lengths: NDArray[np.int64] = np.zeros(index.shape[:2], np.int64)
        for k, order in enumerate(batches):
            for step, rows in enumerate(order):
                index[k, step, : len(rows)] = rows
                self._lengths[k, step] = len(rows)
        self._rows = {name: _Rows([job.phase.rows[name] for job in jobs]) for name in jobs[0].phase.rows}
        starts = np.cumsum([0, *(job.phase.size for job in jobs[:-1])])
        self.device = next(iter(jobs[0].phase.rows.values())).device
        there = placed([{"index": index, "starts": starts[:, None]}], self.device)[0]
        self._there, self._starts = there["index"], there["starts"]

    def lengths(self) -> list[list[int]]:
        """Return how many rows each job has in each step; -1 where it takes none any more."""
        there = np.arange(self._lengths.shape[1]) < self._steps[:, None]
        lengths: list[list[int]] = np.where(there, self._lengths, -1).tolist()
        return lengths

    def take(self, step: int) -> tuple[Stacked, Tensor, NDArray[np.int64]]:
        """Return a step's rows [clients, most, ...], which of them are real (1, else 0), and how many."""
        lengths = self._lengths[: np.count_nonzero(self._steps > step), step]
        most = max(1, int(lengths.max()))  # a Poisson batch may be empty
        index = self._there[: len(lengths), step, :most]
        mask = (index >= 0).to(torch.float32)
        index = index.clamp(min=0)
        starts = self._starts[: len(lengths)]
        return {name: held.take(index, starts) for name, held in self._rows.items()}, mask, lengths


class _Rows:
    """One tensor of rows per client behind each other, once where it is the same for all."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._shared = all(part is parts[0] for part in parts)
        self._all = parts[0] if self._shared else torch.cat(list(parts))

    def take(self, index: Tensor, starts: Tensor) -> Tensor:
        """Return the rows [clients, n, ...] at each client's own numbers [clients, n].

        ``starts`` [clients, 1]: where each client's rows begin, where they are not the same for all.
        """
        flat = (index if self._shared else index + starts).flatten()
        rows: Tensor = self._all.index_select(0, flat).unflatten(0, tuple(index.shape))
        return rows
