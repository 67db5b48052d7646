"""A client that shares quantised predictions, coded as changes of the teacher's (CFD).

Sattler et al. 2020, "Communication-Efficient Federated Distillation", arXiv 2012.00632.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedkt.client import Arrays, Client, Fit, Holding, classification, transfer_rows
from fedkt.client.digesting import digestion
from fedkt.client.placing import outgoing
from fedkt.distill.losses import as_logits
from fedkt.knowledge import Dims, Expected, Knowledge, Quantised
from fedkt.knowledge.quantise import difference, in_bits, probabilities, quantise, stored


class QuantisedClient(Client):
    """Trains on private labels, sends few-bit predictions, distils from the server's.

    Settings: ``bits_up``, ``bits_down``; ``delta``: whether predictions are sent as changes of the teacher
    that was digested last; ``loss``, ``temperature``. Only a teacher about the whole transfer set can be
    the base: another one speaks about other rows.
    """

    sends = Quantised
    distils_transfer_rows = True
    accepts = Quantised

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        self.temperature: float = holding.settings["temperature"]
        self._base: Arrays | None = None

    @staticmethod
    def reads_private_rows(settings: Mapping[str, Any]) -> bool:
        """Predictions on transfer rows do not."""
        return False

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return the symbols of the rows asked for and their base."""
        return Quantised.expected(dims, bits=settings["bits_up"])

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return symbols, the teacher's round, and the ids of the rows where they are not all."""
        return Quantised.expected(dims, bits=settings["bits_down"], with_rows=with_rows)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows with cross entropy; keep the teacher as the base of what is sent."""
        holding = self.holding
        self._base = teacher if teacher and "rows" not in teacher and holding.settings["delta"] else None
        return Fit("train", {"x": holding.x, "y": holding.y}, classification, holding.local, private=True)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the transfer rows that were asked for."""
        return transfer_rows(self.holding, rows)

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the quantised predictions, or how they differ from the teacher's."""
        settings, classes, base = self.holding.settings, logits.shape[1], np.asarray(0, np.int32)
        up: int = settings["bits_up"]
        symbols = quantise(logits.softmax(-1), up)
        if self._base is not None:
            known = in_bits(self._base["values"], settings["bits_down"], up, classes)
            symbols, base = difference(symbols, known, up, classes), outgoing(self._base["base"])
        return Quantised(outgoing(stored(symbols, up, classes)), base)

    def digest(self, teacher: Arrays) -> Fit:
        """Distil on the rows that the teacher speaks about."""
        values = probabilities(
            teacher["values"], self.holding.settings["bits_down"], self.holding.dims.classes
        )
        x = transfer_rows(self.holding, teacher.get("rows"))
        return digestion(self.holding, x, as_logits(values, self.temperature))
