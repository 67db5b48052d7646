"""A client that shares mean features per class and pulls its features towards the fused ones (FedProto).

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients", AAAI 2022,
arXiv 2105.00243, equations 4 and 8.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt import registry
from fedkt.client import Arrays, Fit, Forward
from fedkt.client.mean_features import PrototypeClient
from fedkt.distill.prototype import PrototypeLoss, nearest
from fedkt.knowledge import Dims, Expected, Prototypes


class PrototypesClient(PrototypeClient):
    """Cross entropy plus ``weight`` times the distance to the prototype of the row's class.

    Settings: ``weight`` (the paper's lambda), ``loss``: a registered loss of features. Beside the model's
    own prediction the nearest prototype's is evaluated, which is what the paper predicts with.
    """

    accepts = Prototypes

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return prototypes [classes, width] and counts [classes]."""
        return Prototypes.expected(dims)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows, pulled towards the fused prototypes once there are some."""
        holding, dims = self.holding, self.holding.dims
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

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Score classes by the nearest fused prototype."""
        return {"prototype": nearest(features, teacher["values"], teacher["counts"] > 0)}


def pulled(net: Forward, batch: Arrays, constants: Arrays, *, weight: float, loss: PrototypeLoss) -> Tensor:
    """Return CE(f(x), y) + weight * loss(z, prototype[y]) per row [B]; the second where it is known."""
    z, logits = net(batch["x"])
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    return own + weight * loss(z, constants["values"], batch["y"], known=constants["counts"] > 0)
