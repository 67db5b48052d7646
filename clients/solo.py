"""A client that trains alone and sends nothing."""

from fedkt.client import Alone, Arrays, Fit


class SoloClient(Alone):
    """Trains on private labels; nothing leaves, nothing comes in."""

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows."""
        holding = self.holding
        return Fit("train", {"x": holding.x, "y": holding.y}, holding.training, holding.local, private=True)
