"""An architecture's module, the stacked tensors with which it is called, and how its steps are carried out.

A step's gradients are computed as written, by a compiler, or from a recorded graph: the same arithmetic with
sums in another order (``torch.compile``), or the same kernels without Python between them (CUDA graphs).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_flatten, tree_unflatten

from fedkt.client.behaviour import Arrays, RowLoss
from fedkt.client.training import per_row
from fedkt.engine.clients import dropout
from fedkt.engine.clients.jobs import FitJob, PredictJob

Stacked = dict[str, Tensor]
"""Tensors by name with a leading dimension of clients."""


Way = Literal["off", "torch", "graphs"]
"""As written; through ``torch.compile``; as CUDA graphs."""
Step = Callable[..., tuple[Mapping[str, Tensor], Tensor]]
"""``(trained, fixed, constants, rows, mean, masks)``, with a leading dimension of clients, to gradients of
the losses' means by name, and the losses [clients, rows]; ``mean`` [clients, rows]: what a row weighs."""
Play = Callable[[], None]
MOST_SHAPES = 8
"""Graphs of one step: each holds the memory of all that it computes. Further shapes run as written."""
WARM_UPS = 3
"""Steps before one is recorded, as PyTorch's notes on CUDA graphs ask for."""


class Unstackable(Exception):
    """A model cannot be stacked; the text says why."""


class Stack:
    """An architecture's module, prepared to be called with stacked tensors.

    Raises :class:`Unstackable` where a layer mixes the rows of a batch, since batches are padded, or where
    one tensor belongs to two layers.
    """

    def __init__(self, net: nn.Module, way: Way = "off") -> None:
        if getattr(net, "mixes_rows", False) or any(isinstance(layer, _NormBase) for layer in net.modules()):
            raise Unstackable("it normalises over the rows of a batch, which GroupNorm does not")
        if len(list(net.parameters())) < len(list(net.named_parameters(remove_duplicate=False))):
            raise Unstackable("one of its tensors belongs to two layers")
        self.module = deepcopy(net)
        self.dropouts = dropout.Dropouts(self.module)
        self.parameters = [name for name, _ in net.named_parameters()]
        self.way = way
        """How its steps are carried out."""
        self._steps: dict[Hashable, Step | None] = {}
        self.ask_more: set[Hashable] = set()
        """Losses, by their :func:`loss_key`, that ask the model for more than what it makes of their rows."""
        self.trainable = [name for name, p in net.named_parameters() if p.requires_grad]

    def step(self, loss: RowLoss) -> Step | None:
        """Return the step of a loss, prepared once for all rounds; None where it is taken as written."""
        key = loss_key(loss)
        if key not in self._steps:

            def of_client(
                params: Arrays, fixed: Arrays, constants: Arrays, rows: Arrays, masks: Any
            ) -> Tensor:
                return self.losses(loss, params, fixed, rows, constants, masks)

            self._steps[key] = made(self.way, of_client)
        return self._steps[key]

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
        rows = len(next(iter(batch.values())))
        return per_row(loss(_Forward(self, {**params, **fixed}), batch, constants), rows)

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

    def at(self, params: Arrays, x: Tensor) -> tuple[Tensor, Tensor]:
        """Call the model with other parameters."""
        out: tuple[Tensor, Tensor] = functional_call(self._module, {**self._tensors, **params}, (x,))
        return out


def loss_key(loss: Any) -> Hashable:
    """Return what makes two losses the same function: the function, and the settings bound to it."""
    if isinstance(loss, partial):
        bound = sorted(loss.keywords.items())
        return loss_key(loss.func), tuple(map(loss_key, loss.args)), tuple((n, loss_key(v)) for n, v in bound)
    return loss if isinstance(loss, Hashable) else id(loss)


def stack_tensors(jobs: Sequence[FitJob] | Sequence[PredictJob]) -> Stacked:
    """Stack the clients' tensors."""
    return {name: torch.stack([job.tensors[name] for job in jobs]) for name in jobs[0].tensors}


def cut(tensors: Stacked, clients: int) -> Stacked:
    """Return the tensors of the first clients."""
    return {name: tensor[:clients] for name, tensor in tensors.items()}


# How steps are carried out ------------------------------------------------------------


def written(of_client: Callable[..., Tensor]) -> Step:
    """Return the step of clients whose losses [rows] a function gives for one of them."""
    losses_of = vmap(of_client, randomness="different")

    def step(params: Any, fixed: Any, constants: Any, rows: Any, mean: Tensor, masks: Any) -> Any:
        def total(params: Any) -> tuple[Tensor, Tensor]:
            losses: Tensor = losses_of(params, fixed, constants, rows, masks)
            return (losses * mean).sum(), losses

        return grad(total, has_aux=True)(params)

    return step


def made(way: Way, of_client: Callable[..., Tensor]) -> Step | None:
    """Return the step in one of the ways; None where it is as it is written."""
    if way == "torch":
        compiled: Step = torch.compile(written(of_client), dynamic=False)
        return compiled
    return Recorded(written(of_client)) if way == "graphs" else None


class Recorded:
    """A step that is recorded once for each shape of what it gets, and played from then on.

    What it returns is valid until it is called again. ``record`` runs a function and returns what that
    returned, and what plays it again into the same memory.
    """

    def __init__(self, step: Step, record: "Record | None" = None) -> None:
        self._step, self._record = step, record or on_cuda
        self._graphs: dict[Any, tuple[list[Tensor], Any, Play]] = {}

    def __call__(self, *inputs: Any) -> Any:
        flat, form = tree_flatten(inputs)
        key = str(form), tuple((t.shape, t.stride(), t.dtype) for t in flat)
        if key not in self._graphs:
            if len(self._graphs) == MOST_SHAPES:
                return self._step(*inputs)
            held = [tensor.detach().clone() for tensor in flat]
            again = tree_unflatten(held, form)
            found, play = self._record(lambda: self._step(*again))
            self._graphs[key] = held, found, play
        held, found, play = self._graphs[key]
        for mine, given in zip(held, flat, strict=True):
            mine.copy_(given)
        play()
        return found


Record = Callable[[Callable[[], Any]], tuple[Any, Play]]


def on_cuda(run: Callable[[], Any]) -> tuple[Any, Play]:
    """Record kernels as a CUDA graph (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs)."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    return found, graph.replay


def there_are(device: torch.device, compiler: bool) -> Sequence[Way]:
    """Return the ways beside that which is written, on a device and with a ``compiler`` of C++."""
    ways: dict[Way, bool] = {"torch": compiler or device.type == "cuda", "graphs": device.type == "cuda"}
    return [way for way, there in ways.items() if there]
