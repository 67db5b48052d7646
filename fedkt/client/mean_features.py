"""What the clients have in common that send each class's mean feature (FedProto, FedTGP, FedPCL)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedkt.client.behaviour import Client, class_means
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
