"""A model's parameters as the arrays of :class:`~fedkt.knowledge.Weights`, for both halves of a method."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Client
from fedkt.client.placing import outgoing
from fedkt.errors import Diverged
from fedkt.knowledge.codec import LIMIT
from fedkt.knowledge.kinds import Weights


class SharingClient(Client):
    """Base of the clients that replace their model by the server's."""

    def adopt(self, teacher: Arrays) -> Arrays:
        """Take over the server's weights."""
        return parameters(teacher)


def contribution(params: Mapping[str, Tensor], examples: int) -> Weights:
    """Return what a client sends: its parameters, and how many rows are behind them."""
    tensors = {name: outgoing(p) for name, p in params.items()}
    return Weights(tensors, np.asarray(examples, np.int32))


def shared(net: nn.Module) -> dict[str, Tensor]:
    """Return what is shared of a model: its parameters, and running statistics (buffers of floats).

    Of a model whose state leaves out what is frozen only what is in its state.
    """
    kept = net.state_dict()
    buffers = {n: b for n, b in net.named_buffers() if n in kept and b.is_floating_point()}
    return {**{n: p for n, p in net.named_parameters() if n in kept}, **buffers}


def teacher(net: nn.Module, examples: int = 0) -> dict[str, Tensor]:
    """Return what the server sends of a model: a copy of what is shared of it, and the rows behind it.

    Raises Diverged where a number of it is not finite or far out of the range that is declared for it.
    """
    model = shared(net)
    held = [p.detach() for p in model.values() if p.numel()]
    if not float(torch.nn.utils.get_total_norm(held, math.inf)) <= 2 * LIMIT:
        raise Diverged(f"the server's model has parameters beyond {LIMIT:g}, which may not be sent")
    # What is just outside is rounding.
    tensors = {f"{Weights.PREFIX}{n}": p.detach().clamp(-LIMIT, LIMIT) for n, p in model.items()}
    return tensors | {"examples": torch.tensor(examples, dtype=torch.int32)}


def parameters(arrays: Mapping[str, Tensor], prefix: str = Weights.PREFIX) -> dict[str, Tensor]:
    """Return the parameters by name in either message: the model's, or those of another prefix."""
    return {name.removeprefix(prefix): t for name, t in arrays.items() if name.startswith(prefix)}
