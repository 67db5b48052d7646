"""A client with a frozen extractor that trains a projection against everybody's prototypes (FedPCL).

Tan et al. 2022, "Federated Learning from Pre-Trained Models: A Contrastive Learning Approach", NeurIPS 2022,
arXiv 2209.10083.

The extractor is everything before the last layer of a model's features, which is the projection.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt.client import Arrays, Fit, Forward, classification
from fedkt.client.mean_features import PrototypeClient
from fedkt.distill.prototype import hard_contrastive, nearest, supervised_contrastive
from fedkt.knowledge import Dims, Expected, PrototypeSets
from fedkt.models.net import projection


class ContrastiveClient(PrototypeClient):
    """Learns the whole model from public rows, then its projection alone; predicts by the nearest prototype.

    Settings: ``pretrain``: epochs on the public rows before the first round; ``tau``: temperature of the
    contrast; ``hard``: that of how much near classes count among the negatives (None: all alike);
    ``negatives``: how many transfer rows are negatives too. Before the first teacher there is nothing to
    contrast with, so the first round only sends.
    """

    accepts = PrototypeSets
    decides = "prototype"

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return everybody's prototypes [clients, classes, width] and counts [clients, classes]."""
        return PrototypeSets.expected(dims)

    def prepare(self) -> Fit:
        """Train extractor, projection and head on the labelled public rows."""
        holding = self.holding
        if holding.public is None:
            raise ValueError("this behaviour needs a public set")
        steps = replace(holding.local, epochs=holding.settings["pretrain"], batches=None)
        rows = {"x": holding.public[0], "y": holding.public[1]}
        return Fit("prepare", rows, classification, steps)

    def train(self, teacher: Arrays | None) -> Fit | None:
        """Train the projection on private rows."""
        if not teacher:
            return None
        holding = self.holding
        told, constants = holding.settings, dict(teacher)
        if told["negatives"] and holding.transfer is not None:
            constants["others"] = holding.transfer[: told["negatives"]]
        rows, loss = {"x": holding.x, "y": holding.y}, partial(contrast, tau=told["tau"], hard=told["hard"])
        only = projection(holding.dims.parameters)
        return Fit("train", rows, loss, holding.local, constants, private=True, only=only)

    def predictors(self, features: Tensor, logits: Tensor, teacher: Arrays) -> dict[str, Tensor]:
        """Score classes by the nearest of the mean prototypes."""
        return {"prototype": nearest(features, *self.prototypes(teacher))}

    @staticmethod
    def prototypes(teacher: Arrays) -> tuple[Tensor, Tensor]:
        """Return the mean over the clients that sent one."""
        values, held = teacher["values"], (teacher["counts"] > 0).to(teacher["values"].dtype).unsqueeze(-1)
        return (values * held).sum(0) / held.sum(0).clamp_min(1), held.sum((0, 2)) > 0


def contrast(net: Forward, batch: Arrays, constants: Arrays, *, tau: float, hard: float | None) -> Tensor:
    """Return the supervised contrast [B] to each client's prototypes, summed over those that sent some."""
    z, _ = net(batch["x"])
    loss = supervised_contrastive
    if hard is not None:
        others = net(constants["others"])[0] if "others" in constants else None
        loss = partial(hard_contrastive, hard=hard, others=others)
    sets, held = constants["values"], constants["counts"] > 0
    known, y = held.any(0), batch["y"]
    terms = torch.stack([loss(z, own, y, tau, known=known) for own in sets])
    return (terms * held.any(1, keepdim=True)).sum(0)
