"""A client that learns how much of each row's loss is the others' opinion of its class (TGeo-KD in FD).

Hu et al. 2024, "Less or More From Teacher", ICLR, arXiv 2312.15112; what differs from it is
in :mod:`fedkt.strategies.fd_ratio`. What is sent is FD's.
"""

from functools import cached_property, partial
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedkt.client import Arrays, Client, Fit, Forward, Holding, Movable, Steps, class_means
from fedkt.client.placing import outgoing
from fedkt.knowledge import ClassLogits, Dims, Expected, Knowledge
from fedkt.rng import torch_stream

PARTS = 6
"""Vectors of K numbers in the state of a row."""
HIDDEN = (32, 16)
"""Units of the ratio's net, as in the paper's code."""
NET = "ratio."
LOOKED = 256
"""At most so many private rows make the step that is looked ahead."""


class ClassLogitsRatioClient(Client):
    """(1 - alpha) cross entropy plus alpha times cross entropy to the others' mean of the row's class.

    Settings: ``alpha``: a number, or None for that of a net which is learned by ``steps``, ``lr``,
    ``weight_decay`` on ``validation``, a share of the private rows, ``ahead`` of a step of the model.
    """

    sends = ClassLogits
    accepts = ClassLogits
    digests_private_rows = True

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        self.learns = holding.settings["alpha"] is None

    @staticmethod
    def contribution(dims: Dims, settings: Any) -> Expected:
        """Return a table [classes, classes] and counts [classes]."""
        return ClassLogits.expected(dims)

    @staticmethod
    def teacher(dims: Dims, settings: Any, *, with_rows: bool) -> Expected:
        """Return a table [classes, classes] and counts [classes]."""
        return ClassLogits.expected(dims)

    @classmethod
    def attach(cls, net: nn.Module, width: int) -> None:
        """Add the net of the ratio, which is trained with nothing else and never sent."""
        head = net.get_submodule("head")
        sizes = [PARTS * head(torch.zeros(1, width)).shape[-1], *HIDDEN]
        layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.LeakyReLU())]
        net.add_module(NET.rstrip("."), nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1)))

    @cached_property
    def _aside(self) -> Tensor:
        """Which private rows the ratio is learned on, bool [n]."""
        held = self.holding
        count = round(held.settings["validation"] * len(held.y)) if self.learns else 0
        order = torch.randperm(len(held.y), generator=torch_stream(held.seed, "ratio", held.client))
        found = torch.zeros(len(held.y), dtype=torch.bool)
        found[order[:count]] = True
        return found.to(held.y.device)

    @cached_property
    def _names(self) -> tuple[frozenset[str], frozenset[str]]:
        """The names of the model's own parameters, and those of the ratio's net."""
        ratio = frozenset(name for name in self.holding.dims.parameters if name.startswith(NET))
        return frozenset(self.holding.dims.parameters) - ratio, ratio

    def train(self, teacher: Arrays | None) -> Fit:
        """Train the model on private rows; by their labels alone before there is a teacher."""
        held, classes = self.holding, self.holding.dims.classes
        table = {
            "values": torch.zeros(classes, classes, device=held.x.device),
            "counts": torch.zeros(classes, dtype=torch.int32, device=held.x.device),
        }
        rows = {"x": held.x[~self._aside], "y": held.y[~self._aside]}
        loss = partial(shared_out, alpha=held.settings["alpha"])
        only = self._names[0]
        return Fit("train", rows, loss, held.local, dict(teacher or table), private=True, only=only)

    def digest(self, teacher: Arrays) -> Fit | None:
        """Learn the ratio on the rows set aside, one step of the model ahead."""
        held, told, aside = self.holding, self.holding.settings, self._aside
        if not aside.any():
            return None
        size = int(aside.sum())
        steps = Steps(0, size, "adam", told["lr"], weight_decay=told["weight_decay"], batches=told["steps"])
        constants = dict(teacher) | {"x": held.x[~aside][:LOOKED], "y": held.y[~aside][:LOOKED]}
        loss, rows = partial(ahead, step=told["ahead"]), {"x": held.x[aside], "y": held.y[aside]}
        return Fit("ratio", rows, loss, steps, constants, private=True, only=self._names[1])

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the private rows."""
        return self.holding.x

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the mean softmax of each class that is held."""
        values, counts = class_means(logits.softmax(-1), self.holding.y, self.holding.dims.classes)
        return ClassLogits(outgoing(values), outgoing(counts.int()))


def shared_out(net: Forward, batch: Arrays, constants: Arrays, *, alpha: float | None = None) -> Tensor:
    """Return (1 - alpha) CE(f(x), y) + alpha CE(f(x), table[y]) per row [B].

    ``alpha``: in [0, 1], or None for the ratio of the attached net; 0 where nobody else holds the class.
    """
    _, logits = net(batch["x"])
    return _loss(logits, batch["y"], constants, net.params, alpha)


def ahead(net: Forward, batch: Arrays, constants: Arrays, *, step: float) -> Tensor:
    """Return the cross entropy [B] of the model after one step of gradient descent on its own loss.

    The step, ``step`` times the gradient of the mean of :func:`shared_out` over the rows ``constants['x']``
    and ``['y']``, depends on the ratio, and so does what is returned.
    """
    at = cast(Movable, net).at
    ratio = {name: p for name, p in net.params.items() if name.startswith(NET)}
    model = {name: p for name, p in net.params.items() if name not in ratio}

    def own(model: dict[str, Tensor]) -> Tensor:
        _, logits = at({**model, **ratio}, constants["x"])
        return _loss(logits, constants["y"], constants, ratio, None).mean()

    slopes = torch.func.grad(own)(model)
    moved = {name: p - step * slopes[name] for name, p in model.items()}
    _, logits = at({**moved, **ratio}, batch["x"])
    return F.cross_entropy(logits, batch["y"], reduction="none")


def state_of(student: Tensor, truth: Tensor, teacher: Tensor) -> Tensor:
    """Return the geometry [B, 6 K] of three distributions [B, K]: they and the squares of their differences.

    In the order student S, truth G, teacher T, (S - G)², (S - T)², (T - G)².
    """
    apart = [(student - truth).square(), (student - teacher).square(), (teacher - truth).square()]
    return torch.cat([student, truth, teacher, *apart], -1)


def ratio_of(params: Arrays, state: Tensor) -> Tensor:
    """Return the attached net's ratio [B], in (0, 1), of states [B, 6 K]."""
    for layer in range(len(HIDDEN)):
        weight, bias = params[f"{NET}{2 * layer}.weight"], params[f"{NET}{2 * layer}.bias"]
        state = F.leaky_relu(F.linear(state, weight, bias))
    last = 2 * len(HIDDEN)
    return F.linear(state, params[f"{NET}{last}.weight"], params[f"{NET}{last}.bias"]).squeeze(-1).sigmoid()


def _loss(logits: Tensor, y: Tensor, table: Arrays, params: Arrays, alpha: float | None) -> Tensor:
    target, known = table["values"][y], table["counts"][y] > 0
    share = torch.full_like(logits[:, 0], 0.0 if alpha is None else alpha)
    if alpha is None:
        truth = F.one_hot(y, logits.shape[-1]).to(logits.dtype)
        share = ratio_of(params, state_of(logits.detach().softmax(-1), truth, target))
    share = torch.where(known, share, 0.0)
    others = -(target * logits.log_softmax(-1)).sum(-1)
    return (1 - share) * F.cross_entropy(logits, y, reduction="none") + share * others
