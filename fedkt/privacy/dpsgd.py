"""Private training of one client: DP-SGD by Opacus on the phases that are marked private.

Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv 1607.00133: each step takes a Poisson
sample of the rows, clips every row's gradient to norm C, adds Gaussian noise of multiplier times C to their
sum and divides by the *expected* batch size. Sampling and the norms' rules are Opacus'; the loop is that of
:mod:`fedkt.client.training`, so a behaviour's :class:`~fedkt.client.Fit` trains here unchanged.

Which rows a step takes and its noise come from the system's entropy, never from the scenario's seed. Noise is
float32 and not hardened against floating-point attacks. Rate, steps and divisor follow from ``Fit.counted``:
the number of rows, which then counts as public and fixed, or a public number in its place.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Fit, Steps
from fedkt.client.placing import placed
from fedkt.client.training import (
    Losses,
    OptimState,
    ahead,
    device_of,
    dump_optimizer,
    load_optimizer,
    make_optimizer,
    placed_orders,
    seeded,
    steps_taken,
    trainable,
)
from fedkt.privacy import entropy
from fedkt.privacy.clipping import by_row, ghost, is_plain, tidy
from fedkt.rng import seed_of

Generators = Callable[[str], torch.Generator]
"""Makes the random generator for a purpose: ``sample`` or ``noise``."""
AHEAD = 64 * 2**20
"""Bytes of noise that are drawn ahead for an accelerator, so that they come in few copies."""


def from_entropy(purpose: str) -> torch.Generator:
    """Return a generator that nobody can predict."""
    return entropy.generator()


@dataclass(frozen=True)
class Dpsgd:
    """``multiplier``: standard deviation of the noise as a multiple of ``max_grad_norm``; ``max_grad_norm``:
    L2 norm to which each row's gradient is clipped; both > 0."""

    multiplier: float
    max_grad_norm: float
    generators: Generators = from_entropy


def sampling(size: int, steps: Steps) -> tuple[float, int]:
    """Return the rate at which a step takes each row, and the number of steps, of a phase of ``size`` rows.

    Rate 1 / (batches per epoch), so that an epoch's batches hold each row once on average; this and the
    number of steps are what the phase costs.
    """
    count = steps.count(size)
    return (1 / math.ceil(size / steps.batch_size) if count else 0.0), count


def poisson_batches(phase: Fit, how: Dpsgd) -> Iterable[list[int]]:
    """Return the rows of each step: every row with the same probability, whatever the others do."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    rate, count = sampling(phase.counted, phase.steps)
    if not phase.size:
        return [[] for _ in range(count)]
    sampler: Iterable[list[int]] = UniformWithReplacementSampler(
        num_samples=phase.size, sample_rate=rate, steps=count, generator=how.generators("sample")
    )
    return sampler


def noisy(total: Tensor, noise: Tensor, expected: float) -> Tensor:
    """Return (sum of clipped gradients + noise) / expected batch size, in the place of the noise."""
    return noise.add_(total).div_(expected)


class Noise:
    """The noise of clients' steps, each client's from its own generator: step after step, sum after sum.

    ``how``: of each client, those with most steps first; ``counts``: the steps that each takes. It is drawn
    on the CPU; what goes to an accelerator is that of many steps in one copy, up to :data:`AHEAD` bytes.
    """

    def __init__(self, how: Sequence[Dpsgd], counts: Sequence[int]) -> None:
        self._clients = [(h, h.generators("noise"), count) for h, count in zip(how, counts, strict=True)]
        self._drawn = 0
        self._coming: deque[dict[str, Tensor]] = deque()

    def next(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the next step's for sums of clipped gradients [clients at work, ...], of their shapes."""
        if not self._coming:
            device = next(iter(sums.values())).device
            size = sum(total.numel() * total.element_size() for total in sums.values())
            count = 1 if device.type == "cpu" else max(1, AHEAD // max(1, size))
            last = min(self._drawn + count, max(count for *_, count in self._clients))
            steps = [self._of(step, sums) for step in range(self._drawn, last)]
            self._coming.extend(placed(steps, device))
            self._drawn = last
        return self._coming.popleft()

    def _of(self, step: int, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw for clients that take this step."""
        at_work = [(h.multiplier * h.max_grad_norm, g) for h, g, count in self._clients if count > step]
        return {
            name: torch.stack(
                [torch.normal(0.0, d, total.shape[1:], generator=g, dtype=total.dtype) for d, g in at_work]
            )
            for name, total in sums.items()
        }


def fit_privately(
    module: nn.Module,
    phase: Fit,
    state: OptimState,
    how: Dpsgd,
    *,
    seed: int,
    client: str,
    round_: int,
    losses: Losses | None = None,
) -> OptimState:
    """Train ``module`` in place through one private phase and return the optimiser's new state.

    ``losses`` is told those of every step; they are private, and no noise is on them. The seed reaches
    dropout only. Raises ValueError for a loss that mixes rows, whose gradients no clip could tell apart.
    """
    rate, count = sampling(phase.counted, phase.steps)
    if not count:
        return state
    module, phase = ahead(module, phase)
    optimizer = make_optimizer(module.parameters(), phase.steps)
    load_optimizer(optimizer, module, state)
    batches = poisson_batches(phase, how)
    with trainable(module, phase.only), seeded(seed_of(seed, "dropout", phase.name, client, round_)):
        noise, expected = Noise([how], [count]), phase.counted * rate
        order = [np.asarray(index, np.int64) for index in batches]
        [taken] = placed_orders([order], device_of(phase))
        trained = [p for p in module.parameters() if p.requires_grad]
        clipped = ghost if phase.size and is_plain(module, phase) else by_row
        module.train()
        with clipped(module, phase.loss, phase.constants, how.max_grad_norm) as add_gradients:
            for rows in taken:
                if len(rows):
                    values = add_gradients({name: tensor[rows] for name, tensor in phase.rows.items()})
                    if losses is not None:
                        losses.note(values)
                sums = {
                    str(k): torch.zeros_like(p) if p.grad is None or not len(rows) else p.grad
                    for k, p in enumerate(trained)
                }
                drawn = noise.next({name: total[None] for name, total in sums.items()})
                for p, (name, total) in zip(trained, sums.items(), strict=True):
                    gradient = noisy(total, drawn[name][0], expected)
                    # Fused optimisers read memory as it lies.
                    alike = gradient.stride() == p.stride()
                    p.grad = gradient if alike else torch.empty_like(p).copy_(gradient)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
    tidy(module)
    return dump_optimizer(optimizer, module, steps_taken(state) + count)
