"""A client that shares its weights and each class's mean feature and mean soft prediction (FedHKD).

Chen et al. 2023, "The Best of Both Worlds: Accurate Global and Personalized Models through Federated
Learning with Data-Free Hyper-Knowledge Distillation", ICLR 2023, arXiv 2301.08968.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedkt.client import Arrays, Fit, Forward, class_means, classification
from fedkt.client import shared_weights as weights
from fedkt.client.placing import outgoing
from fedkt.distill.prototype import prototype_mse
from fedkt.knowledge import Dims, Expected, Knowledge
from fedkt.knowledge.contrast import HyperKnowledge
from fedkt.privacy.entropy import generator

SMALL = 1e-12
"""Added below the root of a squared distance, whose slope at 0 is not a number."""


class FedHKDClient(weights.SharingClient):
    """Takes over the server's model, trains it with everybody's class means in mind, sends it and its own.

    Settings: ``soft_weight`` (the paper's lambda), ``feature_weight`` (gamma), ``softness`` (the
    temperature of predictions), ``clip`` and ``noise``: bound and deviation of what is added to features.
    """

    sends = HyperKnowledge
    accepts = HyperKnowledge

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return every parameter, and mean features and predictions per class."""
        return HyperKnowledge.expected_of(dims)

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return every parameter, and mean features and predictions per class."""
        return HyperKnowledge.expected_of(dims)

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows; the class means count once there are some."""
        holding, told = self.holding, self.holding.settings
        rows = {"x": holding.x, "y": holding.y}
        if teacher is None:
            return Fit("train", rows, classification, holding.local, private=True)
        known = ("features", "predictions", "counts")
        loss = partial(
            informed,
            soft_weight=told["soft_weight"],
            feature_weight=told["feature_weight"],
            softness=told["softness"],
        )
        constants = {name: teacher[name] for name in known}
        return Fit("train", rows, loss, holding.local, constants, private=True)

    def inputs(self, rows: Tensor | None) -> Tensor:
        """Take features and predictions of the private rows."""
        return self.holding.x

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the weights and the means of each class that is held, noise added to those of features."""
        holding, told, classes = self.holding, self.holding.settings, self.holding.dims.classes
        if told["clip"] is not None:
            features = clipped(features, told["clip"])
        means, counts = class_means(features, holding.y, classes)
        soft, _ = class_means((logits / told["softness"]).softmax(-1), holding.y, classes)
        if told["noise"]:
            # From the system's entropy: what a seed in the scenario makes can be taken off again.
            noise = torch.randn(means.shape, generator=generator()).to(means.device)
            means = means + told["noise"] * noise * (counts > 0).unsqueeze(-1)
        sent = weights.contribution(params, len(holding.y))
        return HyperKnowledge(
            sent.tensors, sent.examples, outgoing(means), outgoing(soft), outgoing(counts.int())
        )


def clipped(features: Tensor, bound: float) -> Tensor:
    """Return features [n, width], those longer than ``bound`` shortened to it."""
    length: Tensor = features.norm(dim=-1, keepdim=True)
    return features * (bound / length.clamp_min(SMALL)).clamp_max(1.0)


def informed(
    net: Forward,
    batch: Arrays,
    constants: Arrays,
    *,
    soft_weight: float,
    feature_weight: float,
    softness: float,
) -> Tensor:
    """Return the client's loss per row [B].

    CE(f(x), y) + soft_weight * mean over known classes c of |softmax(h(H_c)/softness) - Q_c|
    + feature_weight * mean((z - H_y)^2), where H [classes, width] and Q [classes, classes] are the constants
    ``features`` and ``predictions``, h is the model's head and z the row's feature.
    """
    z, logits = net(batch["x"])
    own = torch.nn.functional.cross_entropy(logits, batch["y"], reduction="none")
    known = constants["counts"] > 0
    apart = (net.head(constants["features"]) / softness).softmax(-1) - constants["predictions"]
    soft = ((apart.square().sum(-1) + SMALL).sqrt() * known).sum() / known.sum().clamp_min(1)
    pull = prototype_mse(z, constants["features"], batch["y"], known=known)
    return own + soft_weight * soft + feature_weight * pull
