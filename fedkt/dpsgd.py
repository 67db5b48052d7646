"""Private training of one client: DP-SGD by Opacus on the phases that are marked private.

Abadi et al. 2016, "Deep Learning with Differential Privacy", arXiv 1607.00133: each step takes a Poisson
sample of the rows, clips every row's gradient to norm C, adds Gaussian noise of multiplier times C to their
sum and divides by the *expected* batch size. Clipping and noise are Opacus'; the loop is that of
:mod:`fedkt.training`, so a behaviour's :class:`~fedkt.client.Fit` trains here unchanged.

Which rows a step takes and its noise come from the system's entropy, never from the scenario's seed. Noise is
float32 and not hardened against floating-point attacks; the number of rows counts as public.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, RowLoss, Steps
from fedkt.privacy import entropy
from fedkt.rng import seed_of
from fedkt.training import (
    ModuleForward,
    OptimState,
    ahead,
    dump_optimizer,
    load_optimizer,
    make_optimizer,
    seeded,
    trainable,
)

CLIP_SLACK = 1e-6
"""Added to a norm before dividing by it, as Opacus does; it can only shrink what is clipped."""
_TRIED = 3
"""Rows of the trial that shows what kind of loss this is."""

Generators = Callable[[str], torch.Generator]
"""Makes the random generator for a purpose: ``sample`` or ``noise``."""


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
    """Return the rate at which a step takes each row, and the number of steps, of a phase over ``size`` rows.

    Rate 1 / (batches per epoch), so that an epoch's batches hold each row once on average; this and the
    number of steps are what the phase costs.
    """
    count = steps.count(size)
    return (1 / math.ceil(size / steps.batch_size) if count else 0.0), count


def poisson_batches(phase: Fit, how: Dpsgd) -> Iterable[list[int]]:
    """Return the rows of each step: every row with the same probability, whatever the others do."""
    from opacus.utils.uniform_sampler import UniformWithReplacementSampler

    rate, count = sampling(phase.size, phase.steps)
    sampler: Iterable[list[int]] = UniformWithReplacementSampler(
        num_samples=phase.size, sample_rate=rate, steps=count, generator=how.generators("sample")
    )
    return sampler


def fit_privately(
    module: nn.Module, phase: Fit, state: OptimState, how: Dpsgd, *, seed: int, client: str, round_: int
) -> OptimState:
    """Train ``module`` in place through one private phase and return the optimiser's new state.

    Raises ValueError for a loss that mixes rows, whose gradients no clip could tell apart. The seed reaches
    dropout only.
    """
    from opacus.optimizers import DPOptimizerFastGradientClipping

    rate, count = sampling(phase.size, phase.steps)
    if not count:
        return state
    module, phase = ahead(module, phase)
    optimizer = make_optimizer(module.parameters(), phase.steps)
    load_optimizer(optimizer, module, state)
    batches = poisson_batches(phase, how)
    with trainable(module, phase.only), seeded(seed_of(seed, "dropout", phase.name, client, round_)):
        noisy = DPOptimizerFastGradientClipping(
            optimizer,
            noise_multiplier=how.multiplier,
            max_grad_norm=how.max_grad_norm,
            expected_batch_size=phase.size * rate,
            generator=how.generators("noise"),
        )
        clipped = _ghost if is_plain(module, phase) else _by_row
        module.train()
        with clipped(module, phase.loss, phase.constants, how.max_grad_norm) as add_gradients:
            for index in batches:
                noisy.zero_grad(set_to_none=False)
                for parameter in noisy.params:  # an empty batch leaves zeros, to which noise is added
                    parameter.grad = torch.zeros_like(parameter)
                if index:
                    rows = torch.tensor(index)
                    add_gradients({name: tensor[rows] for name, tensor in phase.rows.items()})
                noisy.step()
    _tidy(module)
    return dump_optimizer(optimizer, module)


# The sum of clipped gradients, in two ways ----------------------------------------------------------------

AddGradients = Callable[[Arrays], None]
"""Sets ``.grad`` of every trainable parameter to the sum of a batch's clipped row gradients."""


@contextmanager
def _ghost(module: nn.Module, loss: RowLoss, constants: Arrays, clip: float) -> Iterator[AddGradients]:
    """Ghost clipping: norms from one backward pass, the weighted sum from a second; no row gradients.

    Li et al. 2022, "Large Language Models Can Be Strong Differentially Private Learners", arXiv 2110.05679.
    """
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleHooksFastGradientClipping,
    )

    hooks = GradSampleHooksFastGradientClipping(
        module, loss_reduction="sum", max_grad_norm=clip, strict=False
    )
    net = ModuleForward(module)
    trained = [p for p in module.parameters() if p.requires_grad]

    def add(batch: Arrays) -> None:
        values = loss(net, batch, constants)
        values.sum().backward(retain_graph=True)
        weights = hooks.get_clipping_coef()
        for parameter in trained:
            parameter.grad = None
        hooks.disable_hooks()
        (weights * values).sum().backward()
        hooks.enable_hooks()

    try:
        with warnings.catch_warnings():
            # torch tells that nothing asked for gradients of the rows themselves.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield add
    finally:
        hooks.remove_hooks()


@contextmanager
def _by_row(module: nn.Module, loss: RowLoss, constants: Arrays, clip: float) -> Iterator[AddGradients]:
    """Each row's whole gradient by ``torch.func``: for losses that use the parameters themselves, or call the
    model more than once."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}

    def one(params: dict[str, Tensor], row: dict[str, Tensor]) -> Tensor:
        net: Forward = _Functional(module, params)
        return loss(net, {name: value.unsqueeze(0) for name, value in row.items()}, constants).squeeze(0)

    gradients = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0), randomness="different")

    def add(batch: Arrays) -> None:
        held = {name: p.detach() for name, p in trained.items()}
        per_row = gradients(held, dict(batch))
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in per_row.values()]).norm(dim=0)
        weights = (clip / (norms + CLIP_SLACK)).clamp(max=1.0)
        for name, parameter in trained.items():
            parameter.grad = torch.einsum("b,b...->...", weights, per_row[name])

    yield add


class _Functional:
    """A module with its parameters given from outside, as :class:`~fedkt.client.Forward`."""

    def __init__(self, module: nn.Module, params: dict[str, Tensor]) -> None:
        self._module = module
        self.params: Arrays = params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.func.functional_call(self._module, dict(self.params), (x,))
        return out

    def head(self, z: Tensor) -> Tensor:
        prefix = "head."
        own = {n.removeprefix(prefix): p for n, p in self.params.items() if n.startswith(prefix)}
        out: Tensor = torch.func.functional_call(self._module.get_submodule("head"), own, (z,))
        return out


def is_plain(module: nn.Module, phase: Fit) -> bool:
    """Say whether a phase's loss calls the model once, leaves its parameters alone and uses all of them.

    Raises ValueError where a row's loss changes with the rows beside it. Tried on the first rows; nothing of
    it is kept.
    """
    batch = {name: tensor[:_TRIED] for name, tensor in phase.rows.items()}
    net = _Recorder(module)
    module.eval()  # without dropout, which would tell rows apart by chance
    values = phase.loss(net, batch, phase.constants)
    with torch.no_grad():
        for i in range(len(values)):
            row = {name: tensor[i : i + 1] for name, tensor in batch.items()}
            alone = phase.loss(ModuleForward(module), row, phase.constants)
            if alone.shape != (1,) or not torch.allclose(alone, values[i : i + 1], rtol=1e-3, atol=1e-4):
                raise ValueError(
                    f"the loss of phase '{phase.name}' mixes rows, so no row's influence can be bounded."
                )
    trained = [p for p in module.parameters() if p.requires_grad]
    if net.calls != 1 or net.looked or not values.requires_grad:
        return False
    found = torch.autograd.grad(values.sum(), trained, allow_unused=True)
    return all(gradient is not None for gradient in found)


class _Recorder:
    """A forward pass that notes how a loss uses it."""

    def __init__(self, module: nn.Module) -> None:
        self._forward = ModuleForward(module)
        self.calls = 0
        self.looked = False

    @property
    def params(self) -> Arrays:
        self.looked = True
        return self._forward.params

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self._forward(x)

    def head(self, z: Tensor) -> Tensor:
        self.calls += 1  # the head's hooks know one call per batch only
        return self._forward.head(z)


def _tidy(module: nn.Module) -> None:
    """Take off what Opacus keeps on parameters: gradients of the last step."""
    for parameter in module.parameters():
        parameter.grad = None
        for name in (
            "summed_grad",
            "grad_sample",
            "_norm_sample",
            "_forward_counter",
            "_current_grad_sample",
        ):
            if hasattr(parameter, name):
                delattr(parameter, name)
