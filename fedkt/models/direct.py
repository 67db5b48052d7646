"""Perceptrons called with stacked tensors without ``vmap``, whose own work takes longer than their products.

The operations are those to which ``vmap`` comes in the end, so all values and gradients have the same bits.
Only the model is called so: a loss, which may be anything, stays under ``vmap`` and is given what the model
makes of its rows. One that asks the model for more says so in its first step, and is taken as before.
"""

from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor, nn

from fedkt.models.net import Net

Tensors = Mapping[str, Tensor]
ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Identity)


class NotGiven(Exception):
    """A loss asked the model for something else than what it makes of the batch's rows."""


class Direct:
    """The layers of a net, by the names of their tensors."""

    def __init__(self, features: list[tuple[str, nn.Module]]) -> None:
        self._features = features

    def __call__(self, tensors: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [clients, rows, width] and logits [clients, rows, classes] of rows ``x``.

        Raises NotGiven where rows have a form that the layers do not take as they are.
        """
        for name, layer in self._features:
            if isinstance(layer, nn.Flatten):
                x = x.flatten(2)
            elif isinstance(layer, nn.Linear):
                x = _linear(tensors, name, x)
            else:
                x = layer(x)
        return x, _linear(tensors, "head", x)


class Given:
    """What a model made of a batch's rows ``x``, as :class:`~fedkt.client.Forward` of one client."""

    def __init__(self, x: Tensor, made: tuple[Tensor, Tensor]) -> None:
        self._x, self._made = x, made

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._made if x is self._x else self._more()

    @property
    def params(self) -> Tensors:
        """Not given."""
        return self._more()

    def head(self, z: Tensor) -> Tensor:
        """Not given."""
        return self._more()

    def at(self, params: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
        """Not given."""
        return self._more()

    def _more(self) -> NoReturn:
        raise NotGiven


def direct(net: nn.Module) -> Direct | None:
    """Return how a net is called so: one of linear layers with functions of single values between them."""
    if type(net) is not Net or net.closed is not None or type(net.features) is not nn.Sequential:
        return None
    features = [(f"features.{name}", layer) for name, layer in net.features.named_children()]
    hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())
    fits = type(net.head) is nn.Linear and all(_fits(layer) for _, layer in features)
    return Direct(features) if fits and not hooked else None


def _fits(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    return type(layer) is nn.Linear or type(layer) in ELEMENTWISE


def _linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    if x.ndim != 3:
        raise NotGiven
    product = torch.bmm(x, tensors[f"{name}.weight"].mT)
    bias = tensors.get(f"{name}.bias")
    return product if bias is None else product + bias[:, None]
