"""A client that trains alone and sends nothing."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedkt.client import Arrays, Client, Fit
from fedkt.knowledge import Dims, Expected, Knowledge, Nothing


class SoloClient(Client):
    """Trains on private labels; nothing leaves, nothing comes in."""

    sends = Nothing
    accepts = Nothing

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """Nothing is sent."""
        return False

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return no arrays."""
        return Nothing.expected()

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return no arrays."""
        return Nothing.expected()

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows."""
        holding = self.holding
        return Fit("train", {"x": holding.x, "y": holding.y}, holding.training, holding.local, private=True)

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send nothing."""
        return Nothing()
