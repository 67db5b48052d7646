"""How the gradients of a cohort's steps are computed: as written, by a compiler, or from a recorded graph.

The arithmetic is the same in another order of sums (``torch.compile``), or the same kernels without Python
between them (CUDA graphs).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

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
