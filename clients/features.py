"""A client that shares features and logits of its private rows and learns from logits about them (FedGKT).

He et al. 2020, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
arXiv 2007.14513, equation 6.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt import registry
from fedkt.beyond import FeatureRows
from fedkt.client import Arrays, Client, Fit, tutored
from fedkt.knowledge import Dims, Expected, Knowledge, Logits


class FeaturesClient(Client):
    """Cross entropy plus ``alpha`` times a distillation loss to the server's logits of the same rows.

    Settings: ``rows``: how many private rows are shared, the first ones; ``alpha``; ``loss``;
    ``temperature``. Rows are told apart by their place, so batches may be shuffled.
    """

    sends = FeatureRows
    accepts = Logits

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return features, logits and labels of ``rows`` private rows."""
        return FeatureRows.expected(dims, settings["rows"])

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the server's logits [rows, classes] of the same rows."""
        return Logits.expected(replace(dims, rows=settings["rows"]), probabilities=False)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows, and to the server's logits where there are some."""
        holding, told = self.holding, self.holding.settings
        n, shared = len(holding.y), self._shared()
        known = torch.zeros(n, device=holding.x.device)
        target = torch.zeros(n, holding.dims.classes, device=holding.x.device)
        if teacher is not None:
            known[:shared], target[:shared] = 1.0, teacher["values"][:shared]
        loss = partial(
            tutored,
            alpha=told["alpha"],
            loss=registry.find("losses", told["loss"]),
            temperature=told["temperature"],
        )
        rows = {"x": holding.x, "y": holding.y, "target": target, "known": known}
        return Fit("train", rows, loss, holding.local, private=True)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Predict the shared private rows."""
        return self.holding.x[: self._shared()]

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send features, logits and labels, filled up with rows of zeros."""
        missing = self.holding.settings["rows"] - self._shared()
        labels = torch.nn.functional.pad(self.holding.y[: self._shared()], (0, missing), value=-1)
        fill = (0, 0, 0, missing)
        return FeatureRows(
            torch.nn.functional.pad(features, fill).cpu().numpy(),
            torch.nn.functional.pad(logits, fill).cpu().numpy(),
            labels.to(torch.int16).cpu().numpy(),
        )

    def _shared(self) -> int:
        return min(len(self.holding.y), int(self.holding.settings["rows"]))
