"""A model's parameters as the arrays of :class:`~fedkt.knowledge.Weights`, for both halves of a method."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fedkt.client.behaviour import Arrays, Client
from fedkt.knowledge.codec import LIMIT
from fedkt.knowledge.kinds import Weights


class SharingClient(Client):
    """Base of the clients that replace their model by the server's."""

    def adopt(self, teacher: Arrays) -> Arrays:
        """Take over the server's weights."""
        return parameters(teacher)


def contribution(params: Mapping[str, Tensor], examples: int) -> Weights:
    """Return what a client sends: its parameters, and how many rows are behind them."""
    tensors = {name: p.detach().cpu().numpy() for name, p in params.items()}
    return Weights(tensors, np.asarray(examples, np.int32))


def teacher(net: nn.Module, examples: int = 0) -> dict[str, Tensor]:
    """Return what the server sends of a model: a copy of its parameters, and the rows behind them."""
    # No step of the server's may take a parameter out of the range that is declared for it.
    tensors = {f"{Weights.PREFIX}{n}": p.detach().clamp(-LIMIT, LIMIT) for n, p in net.named_parameters()}
    return tensors | {"examples": torch.tensor(examples, dtype=torch.int32)}


def parameters(arrays: Mapping[str, Tensor], prefix: str = Weights.PREFIX) -> dict[str, Tensor]:
    """Return the parameters by name in either message: the model's, or those of another prefix."""
    return {name.removeprefix(prefix): t for name, t in arrays.items() if name.startswith(prefix)}
