"""A client that shares its mean prediction per true class (federated distillation, FD).

Jeong et al. 2018, "Communication-Efficient On-Device Machine Learning: Federated Distillation and
Augmentation under Non-IID Private Data", arXiv 1811.11479.

What differs from the paper: the mean is taken once, with the model as it is after the round's training,
instead of accumulated while the weights move; so it does not depend on the order of the batches.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt.client import Arrays, Client, Fit, Forward, class_means
from fedkt.client.placing import outgoing
from fedkt.knowledge import ClassLogits, Dims, Expected, Knowledge


class ClassLogitsClient(Client):
    """Cross entropy plus ``gamma`` times cross entropy to the others' mean prediction for the row's class.

    Settings: ``gamma``.
    """

    sends = ClassLogits
    accepts = ClassLogits

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return a table [classes, classes] and counts [classes]."""
        return ClassLogits.expected(dims)

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return a table [classes, classes] and counts [classes]."""
        return ClassLogits.expected(dims)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows, regularised by the teacher's table once there is one."""
        holding, classes = self.holding, self.holding.dims.classes
        table = {
            "values": torch.zeros(classes, classes, device=holding.x.device),
            "counts": torch.zeros(classes, dtype=torch.int32, device=holding.x.device),
        }
        loss = partial(regularised, gamma=holding.settings["gamma"])
        return Fit(
            "train",
            {"x": holding.x, "y": holding.y},
            loss,
            holding.local,
            dict(teacher or table),
            private=True,
        )

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the private rows."""
        return self.holding.x

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the mean softmax of each class that is held."""
        values, counts = class_means(logits.softmax(-1), self.holding.y, self.holding.dims.classes)
        return ClassLogits(outgoing(values), outgoing(counts.int()))


def regularised(net: Forward, batch: Arrays, constants: Arrays, *, gamma: float) -> Tensor:
    """Return CE(f(x), y) + gamma * CE(f(x), table[y]) per row [B]; the second where table[y] is known."""
    _, logits = net(batch["x"])
    y = batch["y"]
    own = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    target, known = constants["values"][y], constants["counts"][y] > 0
    others = -(target * logits.log_softmax(-1)).sum(-1)
    return own + gamma * others * known
