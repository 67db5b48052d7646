"""A client that shares mean features per class and pulls its features towards the fused ones (FedProto).

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
arXiv 2105.00243, equations 4 and 8. With ``anchors``, what is shared are similarities to transfer rows, which
mean the same for models of any width (:func:`fedkt.distill.embedding.relative`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client import Arrays, Fit, Forward, classification, transfer_rows
from fedkt.client.behaviour import REFERENCES
from fedkt.client.mean_features import PrototypeClient
from fedkt.distill.embedding import relative
from fedkt.distill.prototype import PrototypeLoss, nearest
from fedkt.knowledge import Dims, Expected, Knowledge, Prototypes


class PrototypesClient(PrototypeClient):
    """Cross entropy plus ``weight`` times the distance to the prototype of the row's class.

    Settings: ``weight`` (the paper's lambda), ``loss``: a registered loss of features. Beside the model's
    own prediction the nearest prototype's is evaluated, which is what the paper predicts with. ``anchors``:
    how many transfer rows features are compared with, and prototypes then are means of such comparisons; a
    client trains by itself and has the others' prototypes for prediction alone.
    """

    accepts = Prototypes

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return prototypes [classes, width or anchors] and counts [classes]."""
        return Prototypes.expected(_shared_width(dims, settings))

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return prototypes [classes, width or anchors] and counts [classes]."""
        return Prototypes.expected(_shared_width(dims, settings))

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows, pulled towards the fused prototypes once there are some."""
        holding, dims = self.holding, self.holding.dims
        if "anchors" in holding.settings:
            rows = {"x": holding.x, "y": holding.y}
            return Fit("train", rows, classification, holding.local, private=True)
        nothing = {
            "values": torch.zeros(dims.classes, dims.width, device=holding.x.device),
            "counts": torch.zeros(dims.classes, dtype=torch.int32, device=holding.x.device),
        }
        loss = partial(
            pulled,
            weight=holding.settings["weight"],
            loss=registry.find("losses", holding.settings["loss"]),
        )
        rows = {"x": holding.x, "y": holding.y}
        return Fit("train", rows, loss, holding.local, dict(teacher or nothing), private=True)

    def references(self) -> Tensor | None:
        """Return the transfer rows that features are compared with, where they are."""
        return self._anchors() if "anchors" in self.holding.settings else None

    def _anchors(self) -> Tensor:
        return transfer_rows(self.holding, None)[: self.holding.settings["anchors"]]

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Take the features of the private rows, after those of the anchors where there are some."""
        if "anchors" not in self.holding.settings:
            return super().inputs(rows)
        return torch.cat([self._anchors(), self.holding.x])

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the mean of each class that is held."""
        if (anchors := self.holding.settings.get("anchors")) is not None:
            features = relative(features[anchors:], features[:anchors])
        return super().extract(features, logits, params)

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Score classes by the nearest fused prototype."""
        if (anchors := teacher.get(REFERENCES)) is not None:
            features = relative(features, anchors)
        return {"prototype": nearest(features, teacher["values"], teacher["counts"] > 0)}


def _shared_width(dims: Dims, settings: Mapping[str, Any]) -> Dims:
    """Return the sizes with the width of what is shared."""
    return replace(dims, width=settings.get("anchors", dims.width))


def pulled(net: Forward, batch: Arrays, constants: Arrays, *, weight: float, loss: PrototypeLoss) -> Tensor:
    """Return CE(f(x), y) + weight * loss(z, prototype[y]) per row [B]; the second where it is known."""
    z, logits = net(batch["x"])
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    return own + weight * loss(z, constants["values"], batch["y"], known=constants["counts"] > 0)
