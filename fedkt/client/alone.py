"""What every client that trains alone is: nothing leaves it, nothing comes in."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fedkt.client.behaviour import Arrays, Client
from fedkt.knowledge import Dims, Expected, Knowledge, Nothing


class Alone(Client):
    """Sends nothing and reads no teacher; what its training is, a subclass says (``train``)."""

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

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send nothing."""
        return Nothing()
