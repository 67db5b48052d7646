"""A client that shares features and logits of its private rows and learns from logits about them (FedGKT).

He et al. 2020, "Group Knowledge Transfer: Federated Learning of Large CNNs at the Edge", NeurIPS 2020,
arXiv 2007.14513, equation 6.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client import Arrays, Client, Fit, tutored
from fedkt.client import shared_weights as weights
from fedkt.client.placing import outgoing
from fedkt.client.training import predict
from fedkt.knowledge import Dims, Expected, Knowledge
from fedkt.knowledge.contrast import FeatureRows, ServerLogits
from fedkt.models.feature_nets import on_features


class FeaturesClient(Client):
    """Cross entropy plus ``alpha`` times a distillation loss to the server's logits of the same rows.

    Settings: ``rows``: how many private rows are shared, the first ones; ``alpha``; ``loss``;
    ``temperature``; ``model``: the server's net; ``whole``: whether it comes back with the logits. Rows are
    told apart by their place, so batches may be shuffled.
    """

    sends = FeatureRows
    accepts = ServerLogits

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return features, logits and labels of ``rows`` private rows."""
        return FeatureRows.expected(dims, settings["rows"])

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the server's logits [rows, classes] of the same rows, and its net where that is sent."""
        shapes: dict[str, tuple[int, ...]] = {}
        if settings["whole"]:
            net = on_features(settings["model"], dims.width, dims.classes, 0)
            shapes = {name: tuple(p.shape) for name, p in weights.shared(net).items()}
        return ServerLogits.expected(dims, settings["rows"], shapes)

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
            outgoing(torch.nn.functional.pad(features, fill)),
            outgoing(torch.nn.functional.pad(logits, fill)),
            outgoing(labels.to(torch.int16)),
        )

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Score by the server's net on this client's features, where the net is sent."""
        told, dims = self.holding.settings, self.holding.dims
        if not told["whole"]:
            return {}
        net = on_features(told["model"], dims.width, dims.classes, 0).to(features.device)
        net.load_state_dict(weights.parameters(teacher, ServerLogits.NET))
        return {"whole": predict(net, features)[1]}

    def _shared(self) -> int:
        return min(len(self.holding.y), int(self.holding.settings["rows"]))
