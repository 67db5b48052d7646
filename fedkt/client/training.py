"""Run the phases of one client, one batch after another; predict in batches.

The stacked engine runs the same :class:`~fedkt.client.Fit` objects for many clients at once; this is
the plain loop that it must agree with.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from fedkt.client.behaviour import Arrays, Fit, Steps
from fedkt.client.placing import placed
from fedkt.distill.conflict import reconciled
from fedkt.rng import numpy_stream, seed_of

OptimState = dict[str, Tensor]
"""Optimiser state, flat: ``<parameter>/<slot>``."""

SIMPLE = {"x", "y", "target", "own", "other", "towards", "least", "weight", "before", "held"}
"""What the rows of a phase hold whose loss asks the model for nothing but features and logits of ``x``."""

PREDICT_BATCH = 256
"""Larger batches cost more: the allocator gives large blocks back to the system each time."""


class Losses:
    """The losses of the rows that a phase takes, as its steps come to them: nobody waits for an accelerator.

    Where rows are of two kinds, those of either kind are kept apart.
    """

    def __init__(self, phase: Fit) -> None:
        self._kinds = 1 if phase.others is None else 2
        self._private = own_in_batch(phase)
        self._sums: list[Tensor] = []
        self._rows = 0

    def note(self, losses: Tensor) -> None:
        """Take in the losses [rows] of one batch."""
        parts = [losses.detach()]
        if self._kinds > 1:
            parts = [parts[0][: self._private], parts[0][self._private :]]
        self._sums += [part.sum() for part in parts]
        self._rows += len(losses)

    def means(self) -> Tensor:
        """Return the mean loss of all rows that were taken [1], or of both kinds [2]; [0] where none were.

        In joint steps a loss is scaled such that the mean over a batch is the sum of both kinds' means, so
        these are the means over the rows of one kind, a teacher's times their weight.
        """
        if not self._rows:
            return torch.zeros(0)
        return torch.stack(self._sums).view(-1, self._kinds).sum(0) / self._rows


def own_in_batch(phase: Fit) -> int:
    """Return how many rows of a batch are the phase's own, where others follow them."""
    return min(phase.steps.batch_size, phase.size - (phase.others.size if phase.others else 0))


class ModuleForward:
    """A module as :class:`~fedkt.client.Forward`."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self.params: Arrays = dict(module.named_parameters())

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self._module(x)
        return out

    def head(self, z: Tensor) -> Tensor:
        """Return the logits of features."""
        head: nn.Module = self._module.get_submodule("head")
        logits: Tensor = head(z)
        return logits

    def at(self, params: Arrays, x: Tensor) -> tuple[Tensor, Tensor]:
        """Call the model with other parameters."""
        out: tuple[Tensor, Tensor] = functional_call(self._module, dict(params), (x,))
        return out


def batch_order(
    size: int, steps: Steps, generator: np.random.Generator, *, pairs: bool = False
) -> Iterator[np.ndarray]:
    """Yield the row indices of each batch: every pass a fresh permutation, its last batch may be short.

    ``pairs``: a last batch of a single row joins the one before it. Raises ValueError where there is none
    that it could join, or batches have one row by themselves.
    """
    if not size:
        return
    edges = [*range(0, size, steps.batch_size), size]
    if pairs and edges[-1] - edges[-2] == 1 and edges[1] > 1:
        del edges[-2]
    if pairs and edges[1] < 2:
        raise ValueError(
            f"the model takes statistics over the rows of a batch, which takes at least 2; here are {size} "
            f"rows in batches of {steps.batch_size}"
        )
    left = steps.epochs * (len(edges) - 1) if steps.batches is None else steps.batches
    while left > 0:
        order = generator.permutation(size)
        for start, stop in list(pairwise(edges))[:left]:
            yield order[start:stop]
        left -= len(edges) - 1


def batches(phase: Fit, generator: np.random.Generator, *, pairs: bool = False) -> Iterator[np.ndarray]:
    """Yield the row indices of each batch of a phase.

    Of rows of two kinds as many of each in every batch, one pass over them after the other.
    """
    if phase.others is None:
        yield from batch_order(phase.size, phase.steps, generator, pairs=pairs)
        return
    own = phase.size - phase.others.size
    private = unending(own, phase.steps.batch_size, generator)
    others = unending(phase.others.size, phase.others.batch_size, generator)
    for _ in range(phase.count):
        yield np.concatenate([next(private), own + next(others)])


def unending(size: int, batch_size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of ``min(batch_size, size)`` row indices for ever: fresh permutations end to end."""
    take = min(batch_size, size)
    order = np.zeros(0, np.int64)
    while True:
        while len(order) < take:
            order = np.concatenate([order, generator.permutation(size)])
        yield order[:take]
        order = order[take:]


def fit(
    module: nn.Module,
    phase: Fit,
    state: OptimState,
    *,
    seed: int,
    client: str,
    round_: int,
    losses: Losses | None = None,
    order: Sequence[Tensor] | None = None,
) -> OptimState:
    """Train ``module`` in place through one phase and return the optimiser's new state.

    The order of the batches and dropout depend on (seed, phase, client, round) only. ``losses`` is told those
    of every step; ``order``: what :func:`order_of` returns, on the phase's device.
    """
    if phase.count == 0:
        return state
    if order is None:
        [order] = placed_orders([order_of(module, phase, seed, client, round_)], device_of(phase))
    module, phase = ahead(module, phase)
    params = list(module.parameters())
    optimizer = make_optimizer(params, phase.steps)
    load_optimizer(optimizer, module, state)
    net = ModuleForward(module)
    step = stepping(optimizer)
    module.train()
    with seeded(seed_of(seed, "dropout", phase.name, client, round_)), trainable(module, phase.only):
        for rows in order:
            batch = {name: tensor.index_select(0, rows) for name, tensor in phase.rows.items()}
            values = per_row(phase.loss(net, batch, phase.constants), len(rows))
            for p in params:
                p.grad = None
            if phase.project is None or phase.others is None:
                values.mean().backward()
            else:
                _reconcile(values, own_in_batch(phase), params, phase.project)
            if losses is not None:
                losses.note(values)
            step()
    return dump_optimizer(optimizer, module, steps_taken(state) + phase.count)


def _reconcile(values: Tensor, own: int, params: Sequence[Tensor], least: float) -> None:
    """Give parameters the gradient of a joint step's mean loss, in which distillation gives way layer by
    layer.

    ``values`` [B]: the loss of each row, of which the first ``own`` are private.
    """
    trained = [p for p in params if p.requires_grad]
    private, taught = (
        torch.autograd.grad(part.sum() / len(values), trained, retain_graph=True, allow_unused=True)
        for part in (values[:own], values[own:])
    )
    for p, mine, its in zip(trained, private, taught, strict=True):
        both = [grad for grad in (mine, its) if grad is not None]
        p.grad = mine + reconciled(mine, its, least) if len(both) == 2 else (both[0] if both else None)


def order_of(module: nn.Module, phase: Fit, seed: int, client: str, round_: int) -> list[NDArray[np.int64]]:
    """Return the numbers of the rows that each step of a phase takes."""
    stream = numpy_stream(seed, "batches", phase.name, client, round_)
    return list(batches(phase, stream, pairs=bool(getattr(module, "mixes_rows", False))))


def placed_orders(orders: Sequence[Sequence[NDArray[np.int64]]], device: torch.device) -> list[list[Tensor]]:
    """Bring the orders of some phases to the device, all of them in one copy."""
    there = placed([{str(step): rows for step, rows in enumerate(order)} for order in orders], device)
    return [list(steps.values()) for steps in there]


def device_of(phase: Fit) -> torch.device:
    """Return where the rows of a phase are."""
    return next(iter(phase.rows.values())).device


def per_row(losses: Tensor, rows: int) -> Tensor:
    """Return a loss as it is. Raises ValueError unless it has one value per row, [rows].

    A mean over rows would count short batches, padding and clipping wrongly, and say nothing.
    """
    if losses.shape != (rows,):
        raise ValueError(
            f"the loss has shape {list(losses.shape)}; it must be one value per row, here [{rows}]"
        )
    return losses


class FixedFeatures(nn.Module):
    """A model whose features are not trained, called with features in place of inputs."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z, self.head(z)


def attached(module: nn.Module) -> bool:
    """Say whether a behaviour attached something to a model, which its losses may ask for by name."""
    return not {name for name, _ in module.named_children()} <= {"features", "head"}


def ahead(module: nn.Module, phase: Fit) -> tuple[nn.Module, Fit]:
    """Compute features once instead of in every step, where the model's are fixed and rows are its inputs; or
    what of them does not depend on weights, where the features have a function ``prepared`` of rows.

    Returns what to train and on what; parameters keep their names.
    """
    features, head = getattr(module, "features", None), getattr(module, "head", None)
    if (prepared := getattr(features, "prepared", None)) is not None:
        return module, replace(phase, rows={**phase.rows, "x": prepared(phase.rows["x"])})
    closed = getattr(module, "closed", None) is not None  # which the head alone does not know
    if closed or attached(module) or not (isinstance(features, nn.Module) and isinstance(head, nn.Module)):
        return module, phase
    bare = not any(True for _ in features.parameters()) and any(True for _ in features.buffers())
    if not (bare or getattr(features, "fixed", False)) or not set(phase.rows) <= SIMPLE:
        return module, phase
    z, _ = predict(module, phase.rows["x"])
    return FixedFeatures(head), replace(phase, rows={**phase.rows, "x": z})


@torch.no_grad()
def predict(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return features [n, width] and logits [n, classes] of the model in evaluation mode."""
    module.eval()
    parts = [module(part) for part in x.split(PREDICT_BATCH)] if len(x) else [module(x)]
    return torch.cat([z for z, _ in parts]), torch.cat([logits for _, logits in parts])


def all_finite(tensors: Iterable[Tensor]) -> bool | Tensor:
    """Say whether all values are finite; on an accelerator as a tensor [] there, so that nobody waits."""
    held = [t for t in tensors if t.is_floating_point() and t.numel()]
    if held and held[0].device.type != "cpu":
        return torch.stack([t.isfinite().all() for t in held]).all()
    # Additions carry NaN and infinity along; large values sum to infinity too, and are looked at again.
    return all(math.isfinite(float(t.sum())) or bool(t.isfinite().all()) for t in held)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the block and restore it after."""
    kind = _drawing()
    devices = [] if kind is None else [torch.accelerator.current_device_index()]
    with torch.random.fork_rng(devices=devices, device_type=kind or "cuda"):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed formats a stack for GPUs each time
        if kind is not None:
            torch.get_device_module(kind).manual_seed(seed)
        yield


def _drawing() -> str | None:
    """Return the kind of this machine's accelerator, None where there is none that draws random numbers."""
    if not torch.accelerator.is_available():
        return None
    found = torch.accelerator.current_accelerator()
    return None if found is None or not hasattr(torch.get_device_module(found), "manual_seed") else found.type


@contextmanager
def trainable(module: nn.Module, only: frozenset[str]) -> Iterator[None]:
    """Let the block train these parameters alone (empty: all of them); the others get no gradient."""
    others = (p for name, p in module.named_parameters() if only and name not in only)
    frozen = [p for p in others if p.requires_grad]  # not those that their author froze
    for p in frozen:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in frozen:
            p.requires_grad_(True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block on one torch thread: sums then have one order, and results the same bits everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lay_out(module: nn.Module) -> None:
    """Bring a pooling network's weights into the layout in which a processor pools fast.

    PyTorch's max-pooling is vectorised only for channels that come last; convolutions go along with the
    layout of their weights. Strided networks do not gain, and GPUs have kernels of their own.
    """
    pools = any(isinstance(part, nn.MaxPool2d) for part in module.modules())
    if pools and all(p.device.type == "cpu" for p in module.parameters()):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's tensors by name, each in the order of its indices."""
    return {
        n: t.detach().clone(memory_format=torch.contiguous_format) for n, t in module.state_dict().items()
    }


def warm_up() -> None:
    """Take one step of a tiny model: the first optimiser of a process makes torch import for seconds."""
    steps = Steps(epochs=1, batch_size=1, optimizer="sgd", lr=0.1)
    module = nn.Linear(1, 1)
    optimizer = make_optimizer(module.parameters(), steps)
    module(torch.zeros(1, 1)).sum().backward()
    optimizer.step()


def make_optimizer(parameters: Iterable[Tensor], steps: Steps) -> torch.optim.Optimizer:
    """Build the optimiser that the steps name, with PyTorch's defaults for what they do not set."""
    params = list(parameters)
    if steps.optimizer == "sgd":
        return torch.optim.SGD(
            params, lr=steps.lr, momentum=steps.momentum, weight_decay=steps.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if steps.optimizer == "adamw" else torch.optim.Adam
    return kind(params, lr=steps.lr, weight_decay=steps.weight_decay, fused=True)


def stepping(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what takes one step: the optimiser's own, without the hooks and profiler marks around it.

    These take as long as the step itself where models are small.
    """
    step: Any = type(optimizer).step
    while hasattr(step, "__wrapped__"):
        step = step.__wrapped__

    def take() -> None:
        with torch.no_grad():
            step(optimizer)

    return take


def steps_taken(state: OptimState) -> float:
    """Return how many steps an optimiser with this state has taken; 0 where it does not count them."""
    return max((float(value) for key, value in state.items() if key.endswith("/step")), default=0.0)


def dump_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, steps: float) -> OptimState:
    """Return a copy of an optimiser's state by the names of the parameters.

    ``steps``: how many it has taken; kept on the CPU, so that nobody waits for an accelerator to say it.
    """
    names = {id(p): name for name, p in module.named_parameters()}
    return {
        f"{names[id(p)]}/{slot}": torch.tensor(steps)
        if slot == "step"
        else value.detach().clone(memory_format=torch.contiguous_format)
        for p, slots in optimizer.state.items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that :func:`dump_optimizer` returned."""
    params = dict(module.named_parameters())
    for key, value in state.items():
        name, slot = key.rsplit("/", 1)
        if slot == "step":
            optimizer.state[params[name]][slot] = torch.full((), float(value), device=params[name].device)
            continue
        like = params[name] if params[name].shape == value.shape else value  # in the parameter's layout
        optimizer.state[params[name]][slot] = torch.empty_like(like, dtype=value.dtype).copy_(value)
