"""Perceptron for tables."""

from typing import TYPE_CHECKING

from fedkt.models.mlp import perceptron
from fedkt.models.net import Net, check_settings, net
from fedkt.registry import takes

if TYPE_CHECKING:
    from fedkt.data.sets.dataset import InputSpec


@takes("tabular", "sparse")
def tabular(input: "InputSpec", classes: int, *, width: int = 64, dropout: float = 0.0) -> Net:
    """Perceptron with two hidden layers of ``width`` units and ReLU, for tables and sparse rows.

    Columns come as they are: scale them with ``data.standardise``, since no layer here normalises.
    """
    check_settings("tabular", input, ("tabular", "sparse"), width, dropout)
    return net(perceptron(input, [width, width]), width, classes, dropout)
