"""A client that shares its weights: the other half of the methods kept for contrast.

FedAvg: McMahan et al. 2017, arXiv 1602.05629. FedProx: Li et al. 2020, arXiv 1812.06127, equation 2.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from fedkt.client import Arrays, Fit, Forward, supervised
from fedkt.client import shared_weights as weights
from fedkt.knowledge import Dims, Expected, Knowledge, Nothing, Weights
from fedkt.tasks import CLASSIFICATION, Task


class WeightsClient(weights.SharingClient):
    """Replaces its model by the server's, trains on private labels, and sends the result.

    Settings: ``proximal``: FedProx' mu, 0 for FedAvg; ``trains``: whether the client trains and sends at
    all (not where the server pools all data).
    """

    sends = Knowledge
    accepts = Weights

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """Weights are the model; the number of examples is left out in private modes."""
        return False

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return every parameter of the model and the number of training rows."""
        return Weights.expected(dims.parameters) if settings["trains"] else Nothing.expected()

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return every parameter of the model and the number of training rows behind them."""
        return Weights.expected(dims.parameters)

    def train(self, teacher: Arrays | None) -> Fit | None:
        """Train on private rows, held near the server's weights where ``proximal`` is set."""
        holding = self.holding
        if not holding.settings["trains"]:
            return None
        mu = holding.settings["proximal"]
        anchor = self.adopt(teacher) if mu and teacher else {}
        rows = {"x": holding.x, "y": holding.y}
        loss = partial(proximal, mu=mu, task=holding.task)
        return Fit("train", rows, loss, holding.local, anchor, private=True)

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the weights."""
        if not self.holding.settings["trains"]:
            return Nothing()
        return weights.contribution(params, len(self.holding.y))


def proximal(
    net: Forward, batch: Arrays, constants: Arrays, *, mu: float, task: Task = CLASSIFICATION
) -> Tensor:
    """Return the task's loss, as CE(f(x), y), + mu/2 * |w - w_server|^2 per row [B]."""
    own = supervised(net, batch, constants, task=task)
    if not constants:
        return own
    distance = sum(((p - constants[name]) ** 2).sum() for name, p in net.params.items())
    return own + 0.5 * mu * distance
