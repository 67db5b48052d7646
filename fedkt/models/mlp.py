"""Multilayer perceptron on flattened rows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from fedkt.models.net import Net, check_settings, net
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec


@takes("image", "tabular", "sparse")
def mlp(
    input: "InputSpec", classes: int, *, width: int = 64, hidden: Sequence[int] = (), dropout: float = 0.0
) -> Net:
    """Multilayer perceptron: flatten, layers of ``hidden`` units and one of ``width``, each with ReLU.

    On images of 28x28, ``{name: mlp, width: 100}`` is 784-100-10. For images, tables and sparse rows.
    """
    check_settings("mlp", input, ("image", "tabular", "sparse"), width, dropout, hidden)
    return net([nn.Flatten(), *perceptron(input, [*hidden, width])], width, classes, dropout)


def perceptron(input: "InputSpec", units: Sequence[int]) -> list[nn.Module]:
    """Return fully connected layers with ReLU; the first one takes a flat row."""
    size = 1
    for n in input.shape:
        size *= n
    layers: list[nn.Module] = []
    for before, after in zip([size, *units[:-1]], units, strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return layers
