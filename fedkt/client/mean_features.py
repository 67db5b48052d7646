"""Means per class, and what the clients have in common that send each class's mean feature (FedProto, FedTGP,
FedPCL)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedkt.client.behaviour import Client
from fedkt.client.placing import outgoing
from fedkt.knowledge.codec import Expected
from fedkt.knowledge.kinds import Dims, Knowledge, Prototypes


class PrototypeClient(Client):
    """Base of the clients whose contribution is the mean feature of each class that they hold."""

    sends = Prototypes

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return prototypes [classes, width] and counts [classes]."""
        return Prototypes.expected(dims)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Take the features of the private rows."""
        return self.holding.x

    def extract(self, features: Tensor, logits: Tensor, params: Mapping[str, Tensor]) -> Knowledge:
        """Send the mean feature of each class that is held."""
        values, counts = class_means(features, self.holding.y, self.holding.dims.classes)
        return Prototypes(outgoing(values), outgoing(counts.int()))


def class_means(rows: Tensor, y: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean row of each class [classes, d] (zeros where there is none) and counts int64 [classes].

    ``rows`` [n, d]; ``y`` int64 [n] below ``classes``.

    >>> means, counts = class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2]), classes=3)
    >>> means.tolist(), counts.tolist()
    ([[2.0], [0.0], [5.0]], [2, 0, 1])
    """
    counts = class_counts(y, classes)
    # Summed in double precision: means of probabilities then add up to one to the last bit that is sent.
    exact = torch.float32 if rows.device.type == "mps" else torch.float64  # Apple's GPUs have no doubles
    sums = torch.zeros(classes, rows.shape[1], dtype=exact, device=rows.device)
    sums.index_add_(0, y, rows.to(exact))
    return (sums / counts.clamp_min(1)[:, None]).float(), counts


def class_counts(y: Tensor, classes: int) -> Tensor:
    """Return how many labels ``y`` int64 [n] are of each class, int64 [classes].

    >>> class_counts(torch.tensor([0, 2, 2]), classes=3).tolist()
    [1, 0, 2]
    """
    # Not bincount, for whose size an accelerator is waited for.
    return torch.zeros(classes, dtype=torch.int64, device=y.device).index_add_(0, y, torch.ones_like(y))
