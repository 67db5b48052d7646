"""A client that trains the server's model towards a target domain and sends its weights (FedKA's own half).

Sun et al. 2022, arXiv 2203.11635: the features disentangler and the embedding matching.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedkt.client import Arrays, Fit, Forward, Movable, beside, classification
from fedkt.client import shared_weights as weights
from fedkt.distill.domains import mk_mmd, reverse, two_domains
from fedkt.knowledge import Dims, Expected, Knowledge, Spec, Weights

HIDDEN = 100
"""Units of the domain classifier, as in the paper's code."""
PROGRESS = "progress"


class AdversarialClient(weights.SharingClient):
    """Replaces its model by the server's and trains it on private and on unlabelled transfer rows.

    Settings: ``disentangler``: whether features must not tell the domains apart; ``matching``: whether the
    features of private rows are matched with those of transfer rows by the server's model; ``shifted``:
    clients whose labels are taken one too low. How strong both are, in [0, 1], comes with the model.
    """

    sends = Weights
    accepts = Weights

    @staticmethod
    def contribution(dims: Dims, settings: Mapping[str, Any]) -> Expected:
        """Return every parameter of the model, of its domain classifier, and the number of training rows."""
        return Weights.expected(dims.parameters)

    @staticmethod
    def teacher(dims: Dims, settings: Mapping[str, Any], *, with_rows: bool) -> Expected:
        """Return the same, and how strong the adaptation is."""
        return {**Weights.expected(dims.parameters), PROGRESS: Spec("float32", (), 0.0, 1.0)}

    @classmethod
    def attach(cls, net: nn.Module, width: int) -> None:
        """Add the domain classifier, which is shared as the rest is."""
        net.add_module("domain", nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)))

    def train(self, teacher: Arrays | None) -> Fit:
        """Train on private rows and, once there is a model of the server's, on transfer rows beside them."""
        holding, settings = self.holding, self.holding.settings
        y = holding.y
        if holding.client in settings["shifted"]:
            y = (y - 1) % holding.dims.classes
        if teacher is None or holding.transfer is None:
            return Fit("train", {"x": holding.x, "y": y}, classification, holding.local, private=True)
        nobody = torch.full((len(holding.transfer),), -1, device=y.device)
        rows, steps = beside(holding.x, y, holding.transfer, nobody, holding.local)
        constants = {**self.adopt(teacher), PROGRESS: teacher[PROGRESS]}
        loss = partial(adversarial, disentangler=settings["disentangler"], matching=settings["matching"])
        return Fit("train", rows, loss, steps, constants, private=True, coupled=settings["matching"])

    def extract(self, features: Tensor, logits: Tensor, params: Arrays) -> Knowledge:
        """Send the weights."""
        return weights.contribution(params, len(self.holding.y))


def adversarial(
    net: Forward, batch: Arrays, constants: Arrays, *, disentangler: bool, matching: bool
) -> Tensor:
    """Return the client's loss of FedKA per row [B]; with ``matching`` the mean over the batch counts.

    Classification of labelled rows, classification of domains on features whose gradient is reversed
    (times progress), and progress times the MK-MMD between private rows' features and those of transfer rows
    by the server's model. ``batch`` as :func:`~fedkt.client.beside` makes it; ``constants``: the server's
    parameters, and ``progress``.
    """
    features, logits = net(batch["x"])
    y, source, scale, progress = batch["y"], batch["source"], batch["scale"], constants[PROGRESS]
    own = torch.nn.functional.cross_entropy(logits, y.clamp(min=0), reduction="none")
    loss = own * scale * (y >= 0)
    if disentangler:
        loss = loss + scale * two_domains(domain_scores(net, reverse(features, progress)), source)
    if matching:
        server = {name: tensor for name, tensor in constants.items() if name != PROGRESS}
        reference = cast(Movable, net).at(server, batch["x"])[0].detach()
        both = torch.where(source.unsqueeze(-1) > 0, features, reference)
        loss = loss + progress * mk_mmd(both, source)
    return loss


def domain_scores(net: Forward, features: Tensor) -> Tensor:
    """Return the attached classifier's scores [B] of features [B, width]."""
    first, last = ((net.params[f"domain.{i}.weight"], net.params[f"domain.{i}.bias"]) for i in (0, 2))
    hidden = torch.nn.functional.linear(features, *first).relu()
    return torch.nn.functional.linear(hidden, *last).squeeze(-1)
