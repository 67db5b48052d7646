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


def teacher(net: nn.Module, examples: int = 0) -> dict[str, Tensor]:
    """Return what the server sends of a model: a copy of its parameters, and the rows behind them.

    Raises Diverged where a parameter is not finite or far out of the range that is declared for it.
    """
    held = [p.detach() for p in net.parameters() if p.numel()]
    if not float(torch.nn.utils.get_total_norm(held, math.inf)) <= 2 * LIMIT:
        raise Diverged(f"the server's model has parameters beyond {LIMIT:g}, which may not be sent")
    # What is just outside is rounding.
    tensors = {f"{Weights.PREFIX}{n}": p.detach().clamp(-LIMIT, LIMIT) for n, p in net.named_parameters()}
    return tensors | {"examples": torch.tensor(examples, dtype=torch.int32)}


def parameters(arrays: Mapping[str, Tensor], prefix: str = Weights.PREFIX) -> dict[str, Tensor]:
    """Return the parameters by name in either message: the model's, or those of another prefix."""
    return {name.removeprefix(prefix): t for name, t in arrays.items() if name.startswith(prefix)}
